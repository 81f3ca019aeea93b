//! From the subject of a case to the layer that is compared.

use crate::cases::Subject;
use crate::compare::{Book, Precision};
use crate::frame::{Side, array};
use crate::maps::{self, Frame};
use crate::ops;
use inn_core::{Along, Call, Given, Invertible, Layout, Model, Params, Reversed, Shape, Tensor};
use inn_layers::conditioner::{ConditionalResidualBlock, Ports, ResidualBlock};
use inn_layers::coupling::{Additive, Affine, Coupling};
use inn_layers::glow::glow_coupling;
use inn_layers::hint::{ConditionalHint, hint_coupling};
use inn_layers::lanes::irim_coupling;
use inn_layers::permute::Permute;
use inn_layers::{ActNorm, AffineLayer, Householder};
use inn_networks::import::{Correspondence, Original};
use inn_networks::{ConditionalGlowConfig, GlowConfig, PyramidConfig};
use inn_ops::{Cpu, CpuElement};
use std::sync::Arc;

/// Compares everything that the case holds.
pub fn check(book: &mut Book<'_>, name: &str, subject: &Subject) {
    if let Subject::Operations = subject {
        return ops::check(book);
    }
    let source = book.source;
    let data = Shape::from_dims(&source.get("in.X0").unwrap().dims).unwrap();
    let (channels, rank) = (data.channels(), data.rank());
    let condition = source.find("in.X1").map(|c| c.dims[1]);
    let reversed = name.ends_with("_reversed");
    let logdet = source.find("f64.out.logdet").is_some();
    let plain = Frame { input: Side::State, output: Side::State, conditioned: false, physics: false, logdet, reversed, hessian: false };
    match subject {
        Subject::Operations => {}
        Subject::Initialization => {
            initialize::<f64>(book, Precision::Double, channels, reversed);
            initialize::<f32>(book, Precision::Single, channels, reversed);
        }
        Subject::ActNorm => {
            let (layer, layout) = Layout::build(|scope| ActNorm::new(scope, channels)).unwrap();
            let frame = Frame { hessian: true, ..plain };
            maps::check(book, &layer, &layout, &Correspondence::new().actnorm("", ""), frame);
        }
        Subject::Householder { frozen } => {
            let (layer, layout) = Layout::build(|scope| Householder::new(scope, channels, 3)).unwrap();
            let (layout, order) = (layout.with_frozen(|_| *frozen), Correspondence::new().householder("", ""));
            maps::check(book, &layer, &layout, &order, plain);
            inverse_mixing::<f64>(book, Precision::Double, &layer, &layout, &order);
            inverse_mixing::<f32>(book, Precision::Single, &layer, &layout, &order);
        }
        Subject::Block(config, outputs) => {
            let ports = Ports::new(channels, *outputs, rank);
            let (block, layout) = Layout::build(|scope| ResidualBlock::new(scope, ports, config)).unwrap();
            // [x; 0 + N(x)]: what an additive coupling makes of zeros, all modes included.
            let (kept, moved) = (0..channels, channels..channels + outputs);
            let layer = Coupling { conditioner: block, transform: Additive, kept, moved };
            let frame = Frame { output: Side::Output { inputs: channels }, ..plain };
            maps::check(book, &layer, &layout, &Correspondence::new().residual_block("", ""), frame);
        }
        Subject::Basic(step) => {
            let ports = Ports::new(channels, 2 * channels, rank);
            let (conditioner, layout) = Layout::build(|scope| step.net.build(scope, ports)).unwrap();
            let (kept, moved) = (0..channels, channels..2 * channels);
            let layer = Coupling { conditioner, transform: Affine { scale: step.scale }, kept, moved };
            let lanes = Side::Lanes { swapped: false };
            maps::check(
                book,
                &layer,
                &layout,
                &Correspondence::new().residual_block("RB", ""),
                Frame { input: lanes, output: lanes, ..plain },
            );
        }
        Subject::GlowCoupling { step, frozen } => {
            let condition = condition.map(|channels| (0, channels));
            let (layer, layout) = Layout::build(|scope| glow_coupling(scope, channels, rank, condition, step)).unwrap();
            let layout = layout.with_frozen(|name| *frozen && name == "mix.vectors");
            let frame = Frame { conditioned: condition.is_some(), ..plain };
            maps::check(book, &layer, &layout, &Correspondence::new().glow_coupling("", ""), frame);
        }
        Subject::Affine => {
            let (layer, layout) = Layout::build(|scope| AffineLayer::new(scope, channels, data.spatial())).unwrap();
            let frame = Frame { hessian: true, ..plain };
            maps::check(book, &layer, &layout, &Correspondence::new().affine_layer("", ""), frame);
        }
        Subject::Irim(config) => {
            let (layer, layout) = Layout::build(|scope| irim_coupling(scope, channels, rank, None, config)).unwrap();
            maps::check(book, &layer, &layout, &Correspondence::new().irim_coupling("", ""), plain);
        }
        Subject::Hint(config) => {
            let (layer, layout) = Layout::build(|scope| hint_coupling(scope, channels, rank, None, config)).unwrap();
            let order = Correspondence::new().hint_coupling("", "", channels, config.permute != Permute::None);
            maps::check(book, &layer, &layout, &order, plain);
        }
        Subject::ConditionalHint(config) => {
            let (layer, layout) = Layout::build(|scope| ConditionalHint::new(scope, channels, rank, config)).unwrap();
            let order = Correspondence::new().conditional_hint("", "", channels, config.permute != Permute::None);
            let lanes = Side::Lanes { swapped: false };
            maps::check(book, &layer, &layout, &order, Frame { input: lanes, output: lanes, ..plain });
        }
        Subject::ConditionalBlock(config) => {
            let condition = Shape::from_dims(&source.get("in.X1").unwrap().dims).unwrap();
            let (conditioner, layout) =
                Layout::build(|scope| ConditionalResidualBlock::new(scope, data, (0, condition), channels, config)).unwrap();
            let layer = Coupling { conditioner, transform: Additive, kept: 0..channels, moved: channels..2 * channels };
            let frame = Frame { output: Side::Output { inputs: channels }, conditioned: true, ..plain };
            maps::check(book, &layer, &layout, &Correspondence::new().conditional_residual_block("", ""), frame);
        }
        Subject::Composition(config) => {
            let (layer, layout) = Layout::build(|scope| {
                let first = hint_coupling(&mut scope.sub("first"), channels, rank, None, config)?;
                let norm = ActNorm::new(&mut scope.sub("norm"), channels)?;
                Ok((first, norm, hint_coupling(&mut scope.sub("last"), channels, rank, None, config)?))
            })
            .unwrap();
            let order = Correspondence::new()
                .hint_coupling("layers[1]", "first", channels, true)
                .actnorm("layers[2]", "norm")
                .hint_coupling("layers[3]", "last", channels, true);
            maps::check(book, &layer, &layout, &order, plain);
        }
        Subject::Hyperbolic(config) => {
            let output = Side::Lanes { swapped: config.newest_lane() == 0 };
            network(book, config, Frame { input: Side::Lanes { swapped: false }, output, ..plain });
        }
        Subject::MultiscaleHint(config) => {
            let splits = if config.split { config.levels.max(2) - 1 } else { 0 };
            let squeeze = config.squeeze.unwrap();
            let output = Side::Latents { lanes: 1, data, squeeze, levels: config.levels, splits };
            network(book, config, Frame { output, ..plain });
        }
        Subject::ConditionalHintNetwork(config) => {
            let lanes = Side::Lanes { swapped: false };
            network(book, config, Frame { input: lanes, output: lanes, ..plain });
        }
        Subject::MultiscaleConditionalHint(config) => {
            let data = Shape::from_dims(&source.get(if reversed { "seed.gY0" } else { "in.X0" }).unwrap().dims).unwrap();
            let (squeeze, levels) = (config.squeeze.unwrap(), config.levels);
            let sides = [Side::Lanes { swapped: false }, Side::Latents { lanes: 2, data, squeeze, levels, splits: 0 }];
            let [input, output] = if reversed { [sides[1], sides[0]] } else { sides };
            network(book, config, Frame { input, output, ..plain });
        }
        Subject::Loop(config) => network(book, config, Frame { input: Side::Image, output: Side::Image, physics: true, ..plain }),
        Subject::Glow(config) => network(book, config, Frame { output: latents(config, data, config.levels.max(2) - 1), ..plain }),
        Subject::ConditionalGlow(flow) => {
            let condition = PyramidConfig { channels: condition.unwrap(), ..PyramidConfig::default() };
            let config = ConditionalGlowConfig { flow: flow.clone(), condition };
            network(book, &config, Frame { output: latents(flow, data, flow.levels - 1), conditioned: true, ..plain });
            encoded::<f64>(book, Precision::Double, &config);
            encoded::<f32>(book, Precision::Single, &config);
        }
    }
}

fn network<A: Original>(book: &mut Book<'_>, config: &A, frame: Frame) {
    let (network, layout) = Layout::build(|scope| config.build(scope)).unwrap();
    maps::check(book, &network, &layout, &config.correspondence().unwrap(), frame);
}

/// `NetworkGlow` splits after every level but the last, and after the only one; `NetworkConditionalGlow` not after the only one.
fn latents(config: &GlowConfig, data: Shape, splits: usize) -> Side {
    match config.squeeze {
        Some(squeeze) => Side::Latents { lanes: 1, data, squeeze, levels: config.levels, splits },
        None => Side::State,
    }
}

/// s and b from a first batch, and what they make of it.
fn initialize<T: CpuElement>(book: &mut Book<'_>, precision: Precision, channels: usize, reversed: bool) {
    fn run<T: CpuElement, L: Invertible>(book: &mut Book<'_>, layer: L, layout: &Arc<Layout>) {
        let cpu = Cpu::<T>::poisoned();
        let mut model = Model::from_parts(layer, Params::zeros(&cpu, layout).unwrap(), false);
        let x = || book.source.get("in.X0").unwrap().tensor(&cpu).unwrap();
        model.initialize(x(), Given::default()).unwrap();
        let out = model.forward(x()).unwrap();
        book.compare_list("init.theta", &Correspondence::new().actnorm("", "").store(model.params()).unwrap());
        book.compare("out.Y0", &array(&out.state));
        let batch = out.logdet.shape().batch();
        book.compare_number("out.logdet", out.logdet.to_f64().unwrap().iter().sum::<f64>() / batch as f64);
    }
    book.set_precision(precision);
    let (layer, layout) = Layout::build(|scope| ActNorm::new(scope, channels)).unwrap();
    if reversed { run::<T, _>(book, Reversed(layer), &layout) } else { run::<T, _>(book, layer, &layout) }
}

/// The inverse map of `Conv1x1`, whose derivatives the original has too: at in.X with the seeds of the forward map.
fn inverse_mixing<T: CpuElement>(
    book: &mut Book<'_>,
    precision: Precision,
    layer: &Householder,
    layout: &Arc<Layout>,
    order: &Correspondence,
) {
    book.set_precision(precision);
    let cpu = Cpu::<T>::poisoned();
    let list = |key| order.load(&cpu, layout, &book.source.list(key).unwrap()).unwrap();
    let tensor = |key: &str| book.source.get(key).unwrap().tensor::<Cpu<T>>(&cpu).unwrap();
    let (theta, dtheta) = (list("theta."), list("seed.dtheta."));
    let call = Call::new(layer, &theta, Given::default());
    let gl = Tensor::zeros(&cpu, Shape::per_sample(tensor("in.X0").shape().batch())).unwrap();
    let pull = |x| {
        let mut grads = Params::zeros(&cpu, layout).unwrap();
        let pulled = call.backward_inverse(x, tensor("seed.gY0"), &gl, &mut grads).unwrap();
        (pulled, order.store(&grads).unwrap())
    };
    let (backward, backward_theta) = pull(tensor("in.X0"));
    let at = call.inverse(tensor("in.X0")).unwrap().state;
    let at_array = array(&at);
    let (adjoint, adjoint_theta) = pull(at);
    let along = Along { theta: Some(&dtheta), conditions: &[] };
    let tangent = call.jvp_inverse(tensor("in.X0"), tensor("seed.dX0"), &along).unwrap();

    book.compare("backward_inv.Y0", &array(&backward.state));
    book.compare("backward_inv.gY0", &array(&backward.cotangent));
    book.compare_list("backward_inv.gtheta", &backward_theta);
    book.compare("adjoint_inv.at_X0", &at_array);
    book.compare("adjoint_inv.gY0", &array(&adjoint.cotangent));
    book.compare_list("adjoint_inv.gtheta", &adjoint_theta);
    book.compare("jacobian_inv.X0", &array(&tangent.state));
    book.compare("jacobian_inv.dX0", &array(&tangent.tangent));
}

/// The condition as the last level reads it, which the original hands out beside the latents.
fn encoded<T: CpuElement>(book: &mut Book<'_>, precision: Precision, config: &ConditionalGlowConfig) {
    book.set_precision(precision);
    let cpu = Cpu::<T>::poisoned();
    let model = inn_networks::import::model(&cpu, config, &book.source.list("theta.").unwrap()).unwrap();
    let condition = [book.source.get("in.X1").unwrap().tensor(&cpu).unwrap()];
    let levels = model.layer().encode(model.params(), &condition).unwrap();
    book.compare("out.Y1", &array(levels.last().unwrap()));
}
