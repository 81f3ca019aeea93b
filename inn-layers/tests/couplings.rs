//! Layers made of couplings through the public harness: f64, both directions, plain and reversed, dense and in one to three dimensions, odd and
//! even channel counts, batch 1 and more; f32 against f64.

mod common;

use common::{SMOOTH, check, net, residual, shape};
use inn_core::{Error, Layout, Result};
use inn_layers::AffineLayer;
use inn_layers::conditioner::{ConditionalResidualBlock, SymmetricConfig};
use inn_layers::coupling::{Additive, Coupling};
use inn_layers::hint::{ConditionalHint, HintConfig, hint_coupling};
use inn_layers::hyperbolic::{Resize, hyperbolic_step};
use inn_layers::lanes::{LaneConfig, basic_coupling, gin_coupling, irim_coupling};
use inn_layers::permute::Permute;
use inn_ops::ScaleMap;

const MODES: [Permute; 4] = [Permute::None, Permute::Lower, Permute::Both, Permute::Full];

#[test]
fn affine_layer() {
    for shape in [shape(3, 4, &[]), shape(2, 1, &[5]), shape(1, 3, &[3, 4]), shape(2, 2, &[2, 3, 2])] {
        check("AffineLayer", shape, &[], |scope| AffineLayer::new(scope, shape.channels(), shape.spatial()));
    }
}

#[test]
fn affine_layer_refuses_other_extents() {
    let (layer, layout) = Layout::build(|scope| AffineLayer::new(scope, 2, &[3, 4])).unwrap();
    let verify = inn_core::verify::Verify::new(inn_ops::Cpu::<f64>::new());
    let refused = verify.layer(&layer, &layout, shape(1, 2, &[4, 3])).err().unwrap();
    assert!(matches!(refused, Error::Shape { .. }), "{refused}");
    assert_eq!(layout.find("scale").unwrap().dims(), [2, 3, 4]);
}

#[test]
fn gin_coupling_in_every_mode() {
    let scales = [ScaleMap::default(), ScaleMap::Sigmoid { low: 0.5, high: 1.0 }, ScaleMap::ExpClamp { clamp: 2.0 }, ScaleMap::default()];
    let shapes = [shape(3, 2, &[]), shape(2, 5, &[4]), shape(1, 4, &[3, 2]), shape(2, 3, &[2, 1, 3])];
    for ((permute, scale), shape) in MODES.into_iter().zip(scales).zip(shapes) {
        let config = LaneConfig { net: net(), scale, permute, ..LaneConfig::default() };
        check("GIN coupling", shape, &[], |scope| gin_coupling(scope, shape.channels(), shape.rank(), None, &config));
    }
    let (state, condition) = (shape(2, 4, &[3]), shape(2, 2, &[3]));
    let config = LaneConfig { net: net(), ..LaneConfig::default() };
    check("conditional GIN coupling", state, &[condition], |scope| gin_coupling(scope, 4, 1, Some((0, 2)), &config));
}

#[test]
fn hint_coupling_in_every_mode_and_size() {
    let sizes = [
        (shape(3, 2, &[]), false),
        (shape(2, 5, &[]), true),
        (shape(2, 7, &[3]), true),
        (shape(1, 8, &[2, 3]), true),
        (shape(2, 8, &[3]), false),
        (shape(2, 6, &[2, 1, 2]), true),
        (shape(2, 9, &[2]), false),
    ];
    for (i, (shape, shared)) in sizes.into_iter().enumerate() {
        for permute in [MODES[i % 4], MODES[(i + 2) % 4]] {
            let config = HintConfig { net: net(), permute, shared, ..HintConfig::default() };
            check(&format!("HINT {permute:?}"), shape, &[], |scope| hint_coupling(scope, shape.channels(), shape.rank(), None, &config));
        }
    }
    // Down to single channels, and conditional.
    let config = HintConfig { net: net(), leaf: 1, ..HintConfig::default() };
    check("HINT to the leaves", shape(2, 5, &[2]), &[shape(2, 3, &[2])], |scope| hint_coupling(scope, 5, 1, Some((0, 3)), &config));
}

#[test]
fn couplings_of_one_depth_and_size_share_a_network_if_asked() {
    let count = |channels, shared| -> Result<usize> {
        let config = HintConfig { net: net(), shared, permute: Permute::None, ..HintConfig::default() };
        let (layer, layout) = Layout::build(|scope| hint_coupling(scope, channels, 2, None, &config))?;
        // Five parameters a network.
        assert_eq!(layout.entries().len() % 5, 0);
        assert!(layer.0.is_empty() && layer.2.is_empty());
        Ok(layout.entries().len() / 5)
    };
    assert_eq!([count(4, true), count(8, true), count(16, true), count(32, true)].map(Result::unwrap), [1, 2, 3, 4]);
    assert_eq!([count(4, false), count(8, false), count(16, false), count(32, false)].map(Result::unwrap), [1, 3, 7, 15]);
    assert_eq!([count(5, true), count(9, true), count(11, true)].map(Result::unwrap), [3, 5, 5]);
    assert!(matches!(count(1, true), Err(Error::Config { .. })));
}

#[test]
fn irim_coupling_in_every_mode() {
    let shapes = [shape(3, 3, &[]), shape(2, 5, &[4]), shape(1, 4, &[3, 2]), shape(2, 2, &[2, 1, 3])];
    for (permute, shape) in MODES.into_iter().zip(shapes) {
        let config = LaneConfig { net: net(), permute, ..LaneConfig::default() };
        check("i-RIM coupling", shape, &[], |scope| irim_coupling(scope, shape.channels(), shape.rank(), None, &config));
    }
}

#[test]
fn basic_coupling_of_two_lanes() {
    for shape in [shape(3, 2, &[]), shape(2, 6, &[4]), shape(1, 2, &[3, 2]), shape(2, 4, &[2, 1, 3])] {
        check("basic coupling", shape, &[], |scope| {
            basic_coupling(scope, shape.channels() / 2, shape.rank(), None, &net(), ScaleMap::default())
        });
    }
}

#[test]
fn conditional_hint_on_two_lanes() {
    for (shape, permute, shared) in [
        (shape(2, 4, &[]), Permute::Full, false),
        (shape(3, 10, &[2]), Permute::None, true),
        (shape(1, 12, &[2, 1]), Permute::Full, true),
        (shape(2, 6, &[1, 2, 2]), Permute::Full, false),
    ] {
        let config = HintConfig { net: net(), permute, shared, ..HintConfig::default() };
        let channels = shape.channels() / 2;
        check("conditional HINT", shape, &[], |scope| ConditionalHint::new(scope, channels, shape.rank(), &config));
        check("lane of conditional HINT", shape.with_channels(channels), &[], |scope| {
            Ok(ConditionalHint::new(scope, channels, shape.rank(), &config)?.lane().clone())
        });
    }
    let config = HintConfig { permute: Permute::Both, ..HintConfig::default() };
    assert!(matches!(Layout::build(|scope| ConditionalHint::new(scope, 4, 2, &config)), Err(Error::Config { .. })));
}

#[test]
fn conditional_residual_block_reads_data_of_another_shape() {
    let cases = [
        (shape(2, 3, &[]), shape(2, 2, &[3])),
        (shape(3, 3, &[4]), shape(3, 5, &[])),
        (shape(1, 4, &[3, 2]), shape(1, 1, &[4])),
        (shape(2, 2, &[2, 1, 3]), shape(2, 2, &[3, 2])),
    ];
    for (state, data) in cases {
        let (kept, moved) = (0..1, 1..state.channels());
        check("conditional residual block", state, &[data], |scope| {
            let image = state.with_channels(kept.len());
            let conditioner = ConditionalResidualBlock::new(scope, image, (0, data), moved.len(), &residual())?;
            Ok(Coupling { conditioner, transform: Additive, kept: kept.clone(), moved: moved.clone() })
        });
    }
}

#[test]
fn hyperbolic_steps_that_resize_both_lanes() {
    let config = SymmetricConfig { hidden: Some(3), alpha: 0.7, activation: SMOOTH, ..SymmetricConfig::default() };
    for (state, resize) in [
        (shape(2, 4, &[]), Resize::Keep),
        (shape(2, 2, &[6]), Resize::Coarsen),
        (shape(1, 8, &[3]), Resize::Refine),
        (shape(2, 2, &[2, 4]), Resize::Coarsen),
        (shape(1, 8, &[2, 1]), Resize::Refine),
        (shape(1, 2, &[2, 2, 2]), Resize::Coarsen),
        (shape(2, 16, &[1, 2, 1]), Resize::Refine),
    ] {
        for lane in [0, 1] {
            check("hyperbolic step", state, &[], |scope| hyperbolic_step(scope, resize, lane, state.channels() / 2, state.rank(), &config));
        }
    }
    for (resize, channels, rank) in [(Resize::Refine, 6, 2), (Resize::Coarsen, 4, 0)] {
        assert!(matches!(Layout::build(|scope| hyperbolic_step(scope, resize, 0, channels, rank, &config)), Err(Error::Config { .. })));
    }
}
