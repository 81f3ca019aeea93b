//! The networks of inference through the public harness, f64, both directions, plain and reversed: HINT at one and several scales, on one lane
//! and on two, the loop of i-RIM, summary networks, several observations. Each is saved and restored as well.
//!
//! All of them are one type here, so that the harness is compiled once.

mod concatenate;
mod hint;
mod irim;
mod summary;

use inn_core::verify::Verify;
use inn_core::{Architecture, Layout, Reversed, Shape, one_of};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_networks::conditional_hint::{ConditionalHintNetwork, MultiscaleConditionalHint};
use inn_networks::files::{self, Metadata};
use inn_networks::summary::SummarizedGlow;
use inn_networks::{ConcatenatedGlow, IrimLoop, MultiscaleHint, SummarizedHint};
use inn_ops::{Activation, Cpu};

/// Smooth, so that the Taylor test has no kinks to meet.
const SMOOTH: Activation = Activation::Sigmoid { low: -1.0, high: 1.0 };

fn residual() -> NetConfig {
    NetConfig::Residual(ResidualConfig { hidden: 3, activation: SMOOTH, last_gain: 1.0, ..ResidualConfig::default() })
}

one_of! {
    enum Any {
        Hint(MultiscaleHint),
        Pair(ConditionalHintNetwork),
        Pairs(MultiscaleConditionalHint),
        Loop(IrimLoop),
        Summarized(Box<SummarizedGlow>),
        Concatenated(Box<ConcatenatedGlow>),
        OneScale(Box<<concatenate::OneScale as Architecture>::Network>),
        SummarizedHint(Box<SummarizedHint>),
        Reversed(Box<Reversed<Any>>),
    }
}

/// Networks as variants.
macro_rules! any {
    ($($network:ty => $name:ident),*) => {
        $(impl From<$network> for Any {
            fn from(network: $network) -> Self {
                Self::$name(network.into())
            }
        })*
    };
}

any!(
    MultiscaleHint => Hint,
    ConditionalHintNetwork => Pair,
    MultiscaleConditionalHint => Pairs,
    IrimLoop => Loop,
    SummarizedGlow => Summarized,
    ConcatenatedGlow => Concatenated,
    <concatenate::OneScale as Architecture>::Network => OneScale,
    SummarizedHint => SummarizedHint
);

/// The harness on the network of a configuration, plain and reversed.
fn check<A: Architecture>(config: &A, verify: &Verify<'_, Cpu<f64>>, shape: Shape)
where
    Any: From<A::Network>,
{
    let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
    let network = Any::from(network);
    let run = |network: &Any, way: &str| {
        let report = verify.layer(network, &layout, shape).unwrap();
        report.check().unwrap_or_else(|e| panic!("{} {way} at {shape}:\n{e}", A::KIND));
    };
    run(&network, "plain");
    run(&Any::Reversed(Box::new(Reversed(network))), "reversed");
    restores(config);
}

fn plain() -> Verify<'static, Cpu<f64>> {
    Verify::new(Cpu::<f64>::poisoned())
}

/// A file restores the network, bit for bit.
fn restores<A: Architecture>(config: &A) {
    let cpu = Cpu::<f64>::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.safetensors");
    let model = config.model(&cpu, 5).unwrap();
    files::save(&path, config, &model, &Metadata::default()).unwrap();
    let restored = files::load::<A, _>(&path, &cpu).unwrap();
    assert_eq!(restored.model.params().to_flat().unwrap(), model.params().to_flat().unwrap());
    assert_eq!(files::kind_of(&path).unwrap(), A::KIND);
}
