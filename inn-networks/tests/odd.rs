//! Glow and conditional Glow on wavelets and on odd extents, which are carried.

use inn_core::verify::Verify;
use inn_core::{Architecture, Layout, Odd, Shape, Squeeze};
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::{ConditionalGlowConfig, GlowConfig, PyramidConfig};
use inn_ops::{Activation, Cpu};

fn net() -> NetConfig {
    // Smooth, so that the Taylor test has no kinks to meet.
    NetConfig::Dense(DenseConfig { hidden: vec![4], activation: Activation::Silu, last_gain: 1.0, ..DenseConfig::default() })
}

fn conditional(channels: usize, rank: usize, squeeze: Squeeze) -> ConditionalGlowConfig {
    let step = StepConfig { net: net(), ..StepConfig::default() };
    let flow = GlowConfig { channels, rank, levels: 2, steps: 1, squeeze: Some(squeeze), odd: Odd::Carry, split: true, step };
    ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 2, net: Some(net()), features: 3 } }
}

#[test]
fn glow_reads_conditions_of_odd_extents() {
    let db2 = Squeeze::Wavelet("db2".parse().unwrap());
    for (batch, channels, spatial, squeeze) in
        [(3, 1, &[13][..], db2), (2, 1, &[7, 5], Squeeze::Checkerboard), (2, 2, &[4, 10], db2), (1, 1, &[4, 6, 5], Squeeze::Haar)]
    {
        let config = conditional(channels, spatial.len(), squeeze);
        let (shape, condition) = (Shape::new(batch, channels, spatial).unwrap(), Shape::new(batch, 2, spatial).unwrap());
        let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
        let verify = Verify::new(Cpu::<f64>::poisoned()).conditions(&[condition]);
        verify.layer(&network, &layout, shape).unwrap().check().unwrap_or_else(|e| panic!("{shape}:\n{e}"));
    }
}

#[test]
fn configurations_name_wavelets_and_what_becomes_of_odd_extents() {
    let config = conditional(1, 2, Squeeze::Wavelet("db4".parse().unwrap())).flow;
    let text = serde_json::to_string(&config).unwrap();
    assert!(text.contains(r#""squeeze":{"wavelet":"db4"},"odd":"carry""#), "{text}");
    assert_eq!(serde_json::from_str::<GlowConfig>(&text).unwrap(), config);
    assert_eq!(serde_json::from_str::<GlowConfig>("{}").unwrap().odd, Odd::Refuse);
}
