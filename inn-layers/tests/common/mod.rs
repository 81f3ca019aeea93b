//! What the tests of layers share; each of them uses a part.
#![allow(dead_code)]

use inn_core::verify::Verify;
use inn_core::{Direction, Facts, Invertible, Layout, Result, Reversed, Scope, Shape};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_ops::{Activation, Cpu};

/// A smooth activation, so that the Taylor test has no kinks to meet.
pub const SMOOTH: Activation = Activation::Sigmoid { low: -1.0, high: 1.0 };

pub fn residual() -> ResidualConfig {
    ResidualConfig { hidden: 3, activation: SMOOTH, last_gain: 1.0, ..ResidualConfig::default() }
}

pub fn net() -> NetConfig {
    NetConfig::Residual(residual())
}

pub fn shape(batch: usize, channels: usize, spatial: &[usize]) -> Shape {
    Shape::new(batch, channels, spatial).unwrap()
}

/// Checks a layer and its reversal at one shape, and f32 against f64.
pub fn check<L: Invertible>(label: &str, shape: Shape, conditions: &[Shape], build: impl Fn(&mut Scope<'_>) -> Result<L>) {
    let (layer, layout) = Layout::build(&build).unwrap();
    let verify = Verify::new(Cpu::<f64>::poisoned()).conditions(conditions);
    let report = verify.layer(&layer, &layout, shape).unwrap();
    report.check().unwrap_or_else(|e| panic!("{label} at {shape}:\n{e}"));
    let facts = Facts { layout: &layout, conditions, operator: None };
    let output = layer.check(Direction::Forward, facts, shape).unwrap();
    let report = verify.layer(&Reversed(&layer), &layout, output).unwrap();
    report.check().unwrap_or_else(|e| panic!("reversed {label} at {shape}:\n{e}"));
    let report = verify.agrees_with(&Cpu::<f32>::new(), &layer, &layout, shape, 2e-4).unwrap();
    report.check().unwrap_or_else(|e| panic!("{label} at {shape}, f32 against f64:\n{e}"));
}
