//! Networks with planted faults: the diagnosis names the layer and the cause.

use inn_core::kernel::UNIFORMS;
use inn_core::{
    Architecture, Backend, Chain, Direction, Error, Facts, Given, Gradients, Init, Inputs, Invertible, Kernel, Model, Param, Params,
    Result, Scalar, Shape, Tensor, View, ViewMut,
};
use inn_layers::ActNorm;
use inn_layers::conditioner::{DenseConfig, NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::diagnose::{Fault, Options, Stage};
use inn_networks::{ConditionalGlowConfig, Diagnosis, Glow, GlowConfig, PyramidConfig, diagnose};
use inn_ops::{Cpu, ScaleMap};

/// One number type in all tests: what is built for it is most of the time they take.
type Device = Cpu<f32>;

fn number(i: usize) -> f64 {
    ((i * 7919 + 13) % 1009) as f64 / 504.0 - 1.0
}

fn data(backend: &Device, shape: Shape) -> Tensor<Device> {
    let values: Vec<f64> = (0..shape.len()).map(number).collect();
    Tensor::from_f64(backend, shape, &values).unwrap()
}

fn config(scale: ScaleMap) -> GlowConfig {
    let net = NetConfig::Dense(DenseConfig { hidden: vec![6], last_gain: 0.3, ..DenseConfig::default() });
    GlowConfig { step: StepConfig { net, scale, ..StepConfig::default() }, ..GlowConfig::dense(4, 3) }
}

fn flow(backend: &Device) -> Model<Glow, Device> {
    config(ScaleMap::default()).model(backend, 1).unwrap()
}

/// Changes the values of one parameter.
fn plant<L: Invertible>(model: &mut Model<L, Device>, name: impl Fn(&str) -> bool, change: impl Fn(&mut [f64])) -> String {
    let mut flat = model.params().to_flat().unwrap();
    let entry = model.layout().entries().iter().rfind(|e| name(e.name())).unwrap().clone();
    change(&mut flat[entry.range()]);
    let params = Params::from_flat(model.backend(), model.layout(), &flat).unwrap();
    model.params_mut().assign(&params).unwrap();
    entry.name().to_owned()
}

fn look<L: Invertible>(model: &Model<L, Device>) -> Diagnosis {
    diagnose(&model.call(), data(model.backend(), Shape::rows(3, 4)), &Options::default()).unwrap()
}

#[test]
fn a_healthy_flow() {
    let model = flow(&Device::poisoned());
    let diagnosis = look(&model);
    assert!(diagnosis.is_healthy() && diagnosis.culprit().is_none(), "{diagnosis}");
    let paths: Vec<&str> = diagnosis.layers.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(paths.len(), 9);
    assert_eq!(paths[..4], ["level0.step0[0]", "level0.step0[1]", "level0.step0[2]", "level0.step1[0]"]);
    // The parts of the log-determinant add up to the whole.
    let whole = model.forward(data(model.backend(), Shape::rows(3, 4))).unwrap().logdet.to_f64().unwrap();
    let sum: f64 = diagnosis.layers.iter().map(|l| l.logdet.unwrap()).sum();
    assert!((sum - whole.iter().sum::<f64>() / 3.0).abs() < 1e-5 && (diagnosis.logdet.unwrap() - sum).abs() < 1e-5);
    assert!(diagnosis.round_trip.unwrap() < 1e-5);
    // A mixing is orthogonal, a normalization that is the identity has scale 1.
    let mix = &diagnosis.layers[1];
    assert!((mix.condition.unwrap() - 1.0).abs() < 1e-5 && (mix.gain.unwrap() - 1.0).abs() < 1e-5 && mix.scale.is_none());
    let scale = diagnosis.layers[0].scale.unwrap();
    assert!((scale.smallest - 1.0).abs() < 1e-6 && (scale.largest - 1.0).abs() < 1e-6);
    // The table and the file.
    let text = diagnosis.to_string();
    assert!(paths.iter().all(|p| text.contains(p)) && text.contains("nothing found") && text.contains("forward f32"));
    let json = serde_json::to_string(&diagnosis).unwrap();
    assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
    // The other way the layers come in the other order.
    let options = Options { direction: Direction::Inverse, ..Options::default() };
    let back = diagnose(&model.call(), data(model.backend(), Shape::rows(3, 4)), &options).unwrap();
    assert!(back.is_healthy() && back.layers[0].path == "level0.step2[2]", "{back}");
}

#[test]
fn scales_and_singular_values_are_those_of_the_layer() {
    let mut model = Model::build(&Device::poisoned(), 0, |scope| ActNorm::new(scope, 4)).unwrap();
    plant(&mut model, |n| n == "scale", |s| s.copy_from_slice(&[0.5, -3.0, 2.0, 1.0]));
    let layer = &look(&model).layers[0];
    let (scale, sigma) = (layer.scale.unwrap(), layer.singular_values.unwrap());
    assert!((scale.smallest - 0.5).abs() < 1e-6 && (scale.largest - 3.0).abs() < 1e-6);
    assert_eq!(layer.scale_channels, Some((0, 1)));
    assert!((sigma.smallest - 0.5).abs() < 1e-3 && (sigma.largest - 3.0).abs() < 1e-3, "{sigma:?}");
    assert!((layer.condition.unwrap() - 6.0).abs() < 0.02);
}

#[test]
fn a_huge_scale() {
    let mut model = flow(&Device::new());
    plant(&mut model, |n| n == "level0.step1.actnorm.scale", |s| s[2] = 4e7);
    let diagnosis = look(&model);
    assert_eq!(diagnosis.culprit(), Some("level0.step1[0]"), "{diagnosis}");
    let finding = &diagnosis.findings[0];
    assert_eq!(finding.fault, Fault::LargeScale);
    assert!(
        finding.text.contains("ActNorm") && finding.text.contains("channel 2") && finding.text.contains("Initialize"),
        "{}",
        finding.text
    );
}

#[test]
fn a_scale_that_overflows() {
    let mut model = flow(&Device::new());
    plant(&mut model, |n| n == "level0.step1.actnorm.scale", |s| s[1] = 1e39);
    // 1e39 is no f32: the parameter itself is infinite.
    let diagnosis = look(&model);
    assert_eq!((diagnosis.culprit(), diagnosis.findings[0].fault), (Some("level0.step1[0]"), Fault::BadParameter), "{diagnosis}");
    plant(&mut model, |n| n == "level0.step1.actnorm.scale", |s| s.fill(3e38));
    plant(&mut model, |n| n == "level0.step0.actnorm.scale", |s| s.fill(4.0));
    let diagnosis = look(&model);
    assert_eq!((diagnosis.culprit(), diagnosis.findings[0].fault), (Some("level0.step1[0]"), Fault::Overflow), "{diagnosis}");
    let bad = diagnosis.first_non_finite().unwrap();
    assert_eq!((bad.stage, bad.name.as_str()), (Stage::Output, "level0.step1[0]"));
}

#[test]
fn a_parameter_that_is_not_a_number() {
    let mut model = flow(&Device::new());
    let name = plant(&mut model, |n| n.starts_with("level0.step2.coupling") && n.ends_with("weight"), |w| w[3] = f64::NAN);
    let diagnosis = look(&model);
    assert_eq!(diagnosis.culprit(), Some("level0.step2[2]"), "{diagnosis}");
    let finding = &diagnosis.findings[0];
    assert_eq!((diagnosis.findings.len(), finding.fault), (1, Fault::BadParameter));
    assert!(finding.text.contains(&name) && finding.text.contains("index 3") && finding.text.contains("checkpoint"), "{}", finding.text);
    assert_eq!(diagnosis.bad_parameters.len(), 1);
    assert!(diagnosis.round_trip.is_none() && diagnosis.logdet.is_none());
    // A file can hold it.
    let json = serde_json::to_string(&diagnosis).unwrap();
    assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
}

#[test]
fn data_that_are_not_numbers() {
    let model = flow(&Device::poisoned());
    let mut values: Vec<f64> = (0..12).map(number).collect();
    values[7] = f64::INFINITY;
    let x = Tensor::from_f64(model.backend(), Shape::rows(3, 4), &values).unwrap();
    let diagnosis = diagnose(&model.call(), x, &Options::default()).unwrap();
    assert_eq!((diagnosis.findings.len(), diagnosis.findings[0].fault), (1, Fault::BadInput), "{diagnosis}");
    assert!(diagnosis.findings[0].text.contains("index 7"));
    assert!(diagnose(&model.call(), data(model.backend(), Shape::rows(3, 5)), &Options::default()).is_err());
    let options = Options { scale_limit: 0.5, ..Options::default() };
    assert!(matches!(diagnose(&model.call(), data(model.backend(), Shape::rows(3, 4)), &options), Err(Error::Config { .. })));
}

/// PEERS.md B.1: sigmoid scales near zero, harmless forward, explode backward.
#[test]
fn a_coupling_whose_scale_vanishes() {
    let mut model = config(ScaleMap::Sigmoid { low: 0.0, high: 1.0 }).model(&Device::new(), 1).unwrap();
    plant(&mut model, |n| n.starts_with("level0.step1.coupling") && n.ends_with("bias"), |b| b[0] = -18.0);
    let diagnosis = look(&model);
    assert_eq!((diagnosis.culprit(), diagnosis.findings[0].fault), (Some("level0.step1[2]"), Fault::SmallScale), "{diagnosis}");
    assert!(diagnosis.findings[0].text.contains("ScaleMap::Bounded"));
}

/// A 1x1 convolution of two channels by any matrix, inverted by its determinant: what must not be done.
struct Free(Param);

#[derive(Clone, Copy)]
struct Mix<const INVERSE: bool, const TRANSPOSED: bool>;
impl<const INVERSE: bool, const TRANSPOSED: bool> Kernel for Mix<INVERSE, TRANSPOSED> {
    const READ: usize = 4;
    const UPDATE: usize = 2;
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], m: &[T], x: &mut [T], _: &mut [T], _: &mut [T]) {
        let (mut a, mut b, mut c, mut d) = (m[0], m[1], m[2], m[3]);
        if INVERSE {
            let det = a * d - b * c;
            (a, b, c, d) = (d / det, -b / det, -c / det, a / det);
        }
        if TRANSPOSED {
            (b, c) = (c, b);
        }
        (x[0], x[1]) = (a * x[0] + b * x[1], c * x[0] + d * x[1]);
    }
}

impl Free {
    fn mix<B: Backend, const INVERSE: bool, const TRANSPOSED: bool>(&self, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>) -> Result<()> {
        let domain = x.shape().with_channels(1);
        let m = at.param(self.0)?;
        let read: Vec<View<'_, B>> = (0..4).map(|i| m.channels(i..i + 1).over_pixels(domain)).collect();
        let kernel = Mix::<INVERSE, TRANSPOSED>;
        at.backend().zip(&kernel, domain, &read, &mut [x.update_channels(&[0..1, 1..2])], &mut [], &mut [])
    }
}

impl Invertible for Free {
    fn check(&self, _: Direction, facts: Facts<'_>, input: Shape) -> Result<Shape> {
        facts.param(self.0)?;
        Ok(input)
    }
    fn map<B: Backend>(&self, dir: Direction, at: &Inputs<'_, B>, x: &mut ViewMut<'_, B>, _: &mut ViewMut<'_, B>) -> Result<()> {
        match dir {
            Direction::Forward => self.mix::<B, false, false>(at, x),
            Direction::Inverse => self.mix::<B, true, false>(at, x),
        }
    }
    fn pull<B: Backend>(
        &self,
        dir: Direction,
        at: &Inputs<'_, B>,
        y: &mut ViewMut<'_, B>,
        gy: &mut ViewMut<'_, B>,
        _: View<'_, B>,
        _: &mut Gradients<'_, B>,
    ) -> Result<()> {
        match dir {
            Direction::Forward => {
                self.mix::<B, true, false>(at, y)?;
                self.mix::<B, false, true>(at, gy)
            }
            Direction::Inverse => {
                self.mix::<B, false, false>(at, y)?;
                self.mix::<B, true, true>(at, gy)
            }
        }
    }
}

/// PEERS.md B.3: a free 1x1 convolution that became nearly singular.
#[test]
fn a_mixing_that_is_nearly_singular() {
    let build = |cpu: &Device| {
        Model::build(cpu, 1, |scope| Chain::build(scope, "mix", 4, |scope, _| Ok(Free(scope.vector("matrix", 4, Init::Uniform(1.0))?))))
            .unwrap()
    };
    let mut model = build(&Device::new());
    for i in 0..4 {
        let entry = format!("mix{i}.matrix");
        let matrix = if i == 2 { [1.0, 0.999_99, 1.0, 1.0] } else { [0.8, -0.6, 0.6, 0.8] };
        plant(&mut model, |n| n == entry, |m| m.copy_from_slice(&matrix));
    }
    let x = data(model.backend(), Shape::new(2, 2, &[4, 4]).unwrap());
    let diagnosis = diagnose(&model.call(), x, &Options::default()).unwrap();
    assert_eq!((diagnosis.culprit(), diagnosis.findings[0].fault), (Some("mix2"), Fault::IllConditioned), "{diagnosis}");
    let condition = diagnosis.layers[2].condition.unwrap();
    assert!((condition / 4e5 - 1.0).abs() < 0.1, "{condition}");
    assert!(diagnosis.findings[0].text.contains("nearly singular") && diagnosis.findings[0].text.contains("Householder"));
    // Without estimates the round trip tells.
    let x = data(model.backend(), Shape::new(2, 2, &[4, 4]).unwrap());
    let diagnosis = diagnose(&model.call(), x, &Options { steps: 0, ..Options::default() }).unwrap();
    assert_eq!((diagnosis.culprit(), diagnosis.findings[0].fault), (Some("mix2"), Fault::InexactInverse), "{diagnosis}");
}

#[test]
fn errors_that_add_up_are_of_the_network() {
    let config = GlowConfig { steps: 12, ..config(ScaleMap::default()) };
    let model = config.model(&Device::new(), 1).unwrap();
    let look = |limit| {
        let options = Options { steps: 0, round_trip_limit: limit, ..Options::default() };
        diagnose(&model.call(), data(model.backend(), Shape::rows(3, 4)), &options).unwrap()
    };
    let healthy = look(None);
    assert!(healthy.is_healthy(), "{healthy}");
    // A limit that each layer keeps, and the network does not.
    let layers = healthy.layers.iter().map(|l| l.round_trip.unwrap()).fold(0.0, f64::max);
    let whole = healthy.round_trip.unwrap();
    assert!(whole > layers, "{healthy}");
    let diagnosis = look(Some((whole * layers).sqrt()));
    assert_eq!((diagnosis.culprit(), diagnosis.findings[0].fault), (Some("network"), Fault::Drift), "{diagnosis}");
    assert!(diagnosis.findings[0].text.contains("36 layers"));
}

/// Scales, lanes and encoders are walked through, with what they are given.
#[test]
fn conditional_and_multiscale_networks() {
    let net = NetConfig::Residual(ResidualConfig { hidden: 4, last_gain: 0.5, ..ResidualConfig::default() });
    let step = StepConfig { net: net.clone(), ..StepConfig::default() };
    let flow = GlowConfig { channels: 1, levels: 2, steps: 1, step, ..GlowConfig::default() };
    let config = ConditionalGlowConfig { flow, condition: PyramidConfig { channels: 2, net: Some(net), features: 3 } };
    let mut model = config.model(&Device::poisoned(), 2).unwrap();
    let conditions = [data(model.backend(), Shape::new(2, 2, &[8, 8]).unwrap())];
    let x = || data(model.backend(), Shape::new(2, 1, &[8, 8]).unwrap());
    let diagnosis = diagnose(&model.with(Given::conditions(&conditions)), x(), &Options::default()).unwrap();
    assert!(diagnosis.is_healthy(), "{diagnosis}");
    let (last, whole) = (diagnosis.layers.last().unwrap(), model.with(Given::conditions(&conditions)).forward(x()).unwrap());
    assert_eq!((last.path.as_str(), last.shape.as_slice()), ("level1.step0[2]", &[2, 8, 2, 2][..]));
    let sum: f64 = diagnosis.layers.iter().map(|l| l.logdet.unwrap()).sum();
    assert!((sum - whole.logdet.to_f64().unwrap().iter().sum::<f64>() / 2.0).abs() < 1e-4);
    plant(&mut model, |n| n.starts_with("level1.step0.coupling"), |w| w[0] = f64::NAN);
    let x = data(model.backend(), Shape::new(2, 1, &[8, 8]).unwrap());
    let diagnosis = diagnose(&model.with(Given::conditions(&conditions)), x, &Options::default()).unwrap();
    assert_eq!(diagnosis.culprit(), Some("level1.step0[2]"), "{diagnosis}");
}

#[cfg(feature = "plot")]
#[test]
fn the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("diagnosis.png");
    inn_networks::diagnose::plot(&path, "a flow", &look(&flow(&Device::new()))).unwrap();
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
}
