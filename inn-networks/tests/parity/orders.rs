//! The order of parameters, and what the importer refuses.

use crate::cases::{self, Subject};
use inn_core::{Error, Layout};
use inn_layers::conditioner::{NetConfig, ResNetConfig, ResNetEnds};
use inn_layers::glow::glow_coupling;
use inn_layers::hint::HintConfig;
use inn_layers::permute::Permute;
use inn_networks::import::{self, Array, Correspondence, Original, Source, dense_step_config, hint_config, step_config};
use inn_networks::{ConditionalGlowConfig, ConditionalHintConfig, GlowConfig, PyramidConfig, SummarizedGlowConfig, SummaryConfig};
use inn_ops::Cpu;
use std::collections::HashMap;

/// A case of the original's own index.
#[derive(serde::Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    parameters: Vec<String>,
}

#[test]
fn networks_have_the_order_of_the_original() {
    let index = std::fs::read_to_string(crate::folder().join("index.json")).unwrap();
    let index: Vec<Entry> = serde_json::from_str(&index).unwrap();
    let mut networks = 0;
    for Entry { name, parameters } in index {
        let order = match cases::subject(&name) {
            Some(Subject::Glow(config)) => config.correspondence(),
            Some(Subject::ConditionalGlow(flow)) => ConditionalGlowConfig { flow, condition: PyramidConfig::default() }.correspondence(),
            Some(Subject::Hyperbolic(config)) if name.starts_with("hypnet") => config.correspondence(),
            Some(Subject::MultiscaleHint(config)) => config.correspondence(),
            Some(Subject::ConditionalHintNetwork(config)) => config.correspondence(),
            Some(Subject::MultiscaleConditionalHint(config)) => config.correspondence(),
            Some(Subject::Loop(config)) => config.correspondence(),
            Some(Subject::GlowCoupling { .. }) => Ok(Correspondence::new().glow_coupling("", "")),
            Some(Subject::Block(..)) => Ok(Correspondence::new().residual_block("", "")),
            Some(Subject::Basic(..)) => Ok(Correspondence::new().residual_block("RB", "")),
            Some(Subject::Householder { .. }) => Ok(Correspondence::new().householder("", "")),
            Some(Subject::Affine) => Ok(Correspondence::new().affine_layer("", "")),
            Some(Subject::Irim(_)) => Ok(Correspondence::new().irim_coupling("", "")),
            Some(Subject::ConditionalBlock(_)) => Ok(Correspondence::new().conditional_residual_block("", "")),
            Some(Subject::Hint(config)) => {
                Ok(Correspondence::new().hint_coupling("", "", channels(&name), config.permute != Permute::None))
            }
            Some(Subject::ConditionalHint(config)) => {
                Ok(Correspondence::new().conditional_hint("", "", channels(&name), config.permute != Permute::None))
            }
            Some(Subject::ActNorm) => Ok(Correspondence::new().actnorm("", "")),
            _ => continue,
        };
        let ours: Vec<String> = order.unwrap().slots().iter().map(|slot| slot.theirs.clone()).collect();
        assert_eq!(ours, parameters, "{name}");
        networks += 1;
    }
    assert!(networks >= 20, "{networks} networks and layers in the index");
}

/// NetworkGlow(1, 2, 3, 2; nx = 16, dense = true, split_scales = true, ndims = 1): at each level as many channels, and half of the values.
#[test]
fn dense_glow_with_splitting_halves_the_values() {
    let config = GlowConfig { channels: 1, rank: 1, steps: 2, step: dense_step_config(2, 2, 8), ..GlowConfig::default() };
    let (order, _, _, arrays) = round_trip(&config);
    assert_eq!(arrays.len(), 11 * 6);
    for (level, nx) in [8, 4, 2].into_iter().enumerate() {
        for step in 0..2 {
            // Behind all s and b: v1, v2, v3, then W, b of three layers for one channel that is read and two that are made.
            let at = 12 + 9 * (2 * level + step) + 3;
            assert_eq!(order.slots()[at].theirs, format!("CL[{},{}].RB.layers[1].W", level + 1, step + 1));
            let dims: Vec<&[usize]> = arrays[at..at + 6].iter().map(|a| &a.dims[..]).collect();
            assert_eq!(dims, [&[nx, 4][..], &[4], &[4, 4], &[4], &[4, 2 * nx], &[2 * nx]]);
        }
    }
    let config = GlowConfig { step: dense_step_config(2, 2, 6), ..config };
    let message = Layout::build(|scope| inn_core::Architecture::build(&config, scope)).err().unwrap().to_string();
    assert!(message.contains("multiple of 2^2") && message.contains("got 6"), "{message}");
}

/// The channels of a case, the last number of its name after a c.
fn channels(name: &str) -> usize {
    name.split('_').filter_map(|part| part.strip_prefix('c')?.parse().ok()).next_back().unwrap()
}

/// Numbered arrays for a network, of the sizes that the original has.
pub fn numbered<A: Original>(config: &A) -> (Correspondence, std::sync::Arc<Layout>, Vec<Array>) {
    let ((), layout) = Layout::build(|scope| config.build(scope).map(|_| ())).unwrap();
    let order = config.correspondence().unwrap();
    let mut arrays = order.store(&inn_core::Params::zeros(&Cpu::<f64>::new(), &layout).unwrap()).unwrap();
    for (i, array) in arrays.iter_mut().enumerate() {
        array.values.iter_mut().enumerate().for_each(|(j, v)| *v = (1000 * i + j) as f64);
    }
    (order, layout, arrays)
}

/// Networks of which there are no numbers: every parameter is set, and stored as it came.
fn round_trip<A: Original>(config: &A) -> (Correspondence, std::sync::Arc<Layout>, Vec<f64>, Vec<Array>) {
    let (order, layout, arrays) = numbered(config);
    let params = order.load(&Cpu::<f64>::new(), &layout, &arrays.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(order.store(&params).unwrap(), arrays);
    (order, layout, params.to_flat().unwrap(), arrays)
}

#[test]
fn matrices_of_dense_glow_are_transposed() {
    // NetworkGlow(3, 2, 1, 1; nx = 4, dense = true, ndims = 1)
    let step = dense_step_config(2, 3, 4);
    let config = GlowConfig { channels: 3, rank: 1, levels: 1, steps: 1, squeeze: None, split: false, step, ..GlowConfig::default() };
    let (order, layout, flat, arrays) = round_trip(&config);
    assert_eq!(arrays.len(), 11);
    let slot = &order.slots()[5];
    assert_eq!((slot.theirs.as_str(), slot.ours.as_str()), ("CL[1,1].RB.layers[1].W", "level0.step0.coupling.layer0.weight"));
    // One channel of 4 values is read, 6 values are hidden: W is (6, 4) there, stored as (4, 6).
    assert_eq!(arrays[5].dims, [4, 6]);
    let ours = &flat[layout.find(&slot.ours).unwrap().range()];
    assert_eq!(ours[..4], [5000.0, 5006.0, 5012.0, 5018.0]);
}

/// A ResNet of two blocks and a last convolution in front of one conditional flow step.
pub fn summarized() -> SummarizedGlowConfig {
    let net = ResNetConfig { hidden: 4, blocks: 2, ends: ResNetEnds::Last, ..ResNetConfig::default() };
    let summary = SummaryConfig { channels: 2, net: NetConfig::ResNet(net), features: 3, ..SummaryConfig::default() };
    let flow = GlowConfig { channels: 1, levels: 1, steps: 1, step: step_config(4), ..GlowConfig::default() };
    SummarizedGlowConfig {
        summary,
        glow: ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 3, ..PyramidConfig::default() } },
    }
}

#[test]
fn a_summarized_network_follows_its_flow() {
    let mut config = summarized();
    let (order, _, _, arrays) = round_trip(&config);
    // 10 of a step, 2 of the condition's ActNorm, 4 of each block, 2 of the last convolution.
    assert_eq!(arrays.len(), 22);
    assert_eq!(order.slots()[12].theirs, "summary_net.blocks[1].conv1.W");
    assert_eq!(
        (&arrays[12].dims[..], &arrays[14].dims[..], &arrays[20].dims[..]),
        (&[4, 2, 3, 3][..], &[2, 4, 3, 3][..], &[3, 2, 3, 3][..])
    );
    config.summary.net = NetConfig::ResNet(ResNetConfig::default());
    let message = config.correspondence().unwrap_err().to_string();
    assert!(message.contains("without a convolution in front"), "{message}");
}

#[test]
fn hint_that_the_original_does_not_have_is_refused() {
    for hint in [
        HintConfig { shared: false, ..hint_config(4) },
        HintConfig { leaf: 2, ..hint_config(4) },
        HintConfig { permute: Permute::Lower, ..hint_config(4) },
    ] {
        let config = ConditionalHintConfig { hint, ..ConditionalHintConfig::default() };
        let message = config.correspondence().unwrap_err().to_string();
        assert!(message.contains("which the original has"), "{message}");
    }
}

/// The arrays of a Glow coupling with 4 channels and 5 hidden ones.
fn arrays() -> Vec<Array> {
    let dims: [&[usize]; 8] = [&[4], &[4], &[4], &[5, 2, 3, 3], &[5, 5, 1, 1], &[5, 4, 3, 3], &[5], &[5]];
    let array = |(i, dims): (usize, &&[usize])| {
        let len = dims.iter().product::<usize>();
        Array { dims: dims.to_vec(), values: (0..len).map(|j| (100 * i + j) as f64).collect() }
    };
    dims.iter().enumerate().map(array).collect()
}

fn load(arrays: &[Array]) -> Result<Vec<Array>, Error> {
    let (_, layout) = Layout::build(|scope| glow_coupling(scope, 4, 2, None, &step_config(5)))?;
    let order = Correspondence::new().glow_coupling("CL", "");
    order.store(&order.load(&Cpu::<f32>::new(), &layout, &arrays.iter().collect::<Vec<_>>())?)
}

#[test]
fn what_is_loaded_is_stored_again() {
    assert_eq!(load(&arrays()).unwrap(), arrays());
}

#[test]
fn a_kernel_is_flipped_and_vectors_are_rows() {
    let (_, layout) = Layout::build(|scope| glow_coupling(scope, 4, 2, None, &step_config(5))).unwrap();
    let arrays = arrays();
    let order = Correspondence::new().glow_coupling("CL", "");
    let params = order.load(&Cpu::<f64>::new(), &layout, &arrays.iter().collect::<Vec<_>>()).unwrap();
    let flat = params.to_flat().unwrap();
    let ours = |name: &str| &flat[layout.find(name).unwrap().range()];
    assert_eq!(ours("mix.vectors")[4..8], arrays[1].values[..]);
    let kernel = ours("coupling.conv1.weight");
    assert_eq!(kernel[..9].iter().rev().copied().collect::<Vec<_>>(), arrays[3].values[..9]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refuse = |change: &dyn Fn(&mut Vec<Array>), words: &[&str]| {
        let mut arrays = arrays();
        change(&mut arrays);
        let message = load(&arrays).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message:?} does not say {words:?}");
    };
    refuse(&|a| drop(a.pop()), &["8 arrays", "CL.C.v1 .. CL.RB.b2", "got 7"]);
    refuse(&|a| a.swap(3, 5), &["CL.RB.W1", "coupling.conv1.weight", "[5, 2, 3, 3]", "[5, 4, 3, 3]"]);
    refuse(&|a| a[6].values[2] = f64::NAN, &["CL.RB.b1", "NaN", "index 2"]);
    refuse(&|a| a[6].values[2] = 1e200, &["CL.RB.b1", "inf", "index 2"]);
    refuse(&|a| a[6].values.truncate(4), &["CL.RB.b1", "[5]"]);

    let (_, layout) = Layout::build(|scope| glow_coupling(scope, 4, 2, None, &step_config(5))).unwrap();
    let arrays = arrays();
    let some = Correspondence::new().householder("C", "mix");
    let message = some.load(&Cpu::<f32>::new(), &layout, &arrays[..3].iter().collect::<Vec<_>>()).err().unwrap().to_string();
    assert!(message.contains("coupling.conv1.weight"), "{message}");
    let other = Correspondence::new().actnorm("AN", "norm");
    let message = other.load(&Cpu::<f32>::new(), &layout, &arrays[..2].iter().collect::<Vec<_>>()).err().unwrap().to_string();
    assert!(message.contains("norm.scale") && message.contains("AN.s"), "{message}");
}

#[test]
fn settings_that_the_original_does_not_have_are_refused() {
    let mut config = GlowConfig { step: step_config(4), ..GlowConfig::default() };
    config.step.reflections = Some(2);
    let message = import::model(&Cpu::<f32>::new(), &config, &[]).err().unwrap().to_string();
    assert!(message.contains("3 reflections"), "{message}");
}

#[test]
fn damaged_files_are_refused() {
    let bytes = std::fs::read(crate::folder().join("actnorm_1d.safetensors")).unwrap();
    for damaged in [&bytes[..0], &bytes[..7], &bytes[..bytes.len() - 1], &bytes[1..]] {
        let message = Source::from_bytes("weights", damaged).unwrap_err().to_string();
        assert!(message.starts_with("weights: expected a valid safetensors file"), "{message}");
    }
    assert!(matches!(Source::open("nowhere/weights"), Err(Error::Io { .. })));
    let source = Source::from_bytes("weights", &bytes).unwrap();
    assert_eq!(source.list("theta.").unwrap().len(), 2);
    let message = source.get("theta.002").unwrap_err().to_string();
    assert!(message.contains("theta.002") && message.contains("weights"), "{message}");
}

#[test]
fn a_gap_in_a_list_is_refused() {
    let data = 1f32.to_le_bytes();
    let tensor = || safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &data).unwrap();
    let tensors: HashMap<&str, _> = [("theta.000", tensor()), ("theta.002", tensor()), ("theta.note", tensor())].into();
    let source = Source::from_bytes("weights", &safetensors::serialize(tensors, None).unwrap()).unwrap();
    let message = source.list("theta.").unwrap_err().to_string();
    assert!(message.contains("theta.002") && message.contains("gap"), "{message}");
}
