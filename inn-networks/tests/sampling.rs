//! Many samples in little memory: the same bits whatever the budget, conditions that are encoded once, bounded passes.

use inn_core::{Architecture, Direction, Given, Model, Shape, Tensor, Traced, map_bytes};
use inn_layers::conditioner::{NetConfig, ResidualConfig};
use inn_layers::glow::StepConfig;
use inn_networks::density::latent;
use inn_networks::{ConditionalGlow, ConditionalGlowConfig, Density, GlowConfig, PyramidConfig, Sampling};
use inn_ops::Cpu;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

type Device = Cpu<f32>;

fn config() -> ConditionalGlowConfig {
    let net = NetConfig::Residual(ResidualConfig { hidden: 24, last_gain: 0.3, ..ResidualConfig::default() });
    let step = StepConfig { net: net.clone(), ..StepConfig::default() };
    ConditionalGlowConfig {
        flow: GlowConfig { channels: 1, levels: 2, steps: 2, step, ..GlowConfig::default() },
        condition: PyramidConfig { channels: 2, net: Some(net), features: 4 },
    }
}

fn image() -> Shape {
    Shape::new(1, 1, &[28, 20]).unwrap()
}

fn condition(cpu: &Device, batch: usize) -> Tensor<Device> {
    let shape = Shape::new(batch, 2, &[28, 20]).unwrap();
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64) / 50.0 - 1.0).collect();
    Tensor::from_f64(cpu, shape, &values).unwrap()
}

fn bits(x: &Tensor<Device>) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Bytes of a pass of so many samples with as many conditions.
fn bytes(model: &Model<ConditionalGlow, Device>, batch: usize, conditions: usize) -> usize {
    let c = Shape::new(conditions, 2, &[28, 20]).unwrap();
    map_bytes(model.backend(), model.layer(), model.layout(), Direction::Inverse, image().with_batch(batch), &[c]).unwrap()
}

#[test]
fn the_budget_changes_no_bit_and_bounds_what_a_pass_takes() {
    let (conditions, count) = (3, 5);
    let mut whole: Option<Vec<u32>> = None;
    // One sample, two, all of one condition, all of two, all.
    for (samples, together) in [(1, 1), (2, 1), (5, 1), (10, 10), (15, 15)] {
        let cpu = Device::new();
        let model = config().model(&cpu, 3).unwrap();
        let given = [condition(&cpu, conditions)];
        let sampling = Sampling { count, seed: 7, budget: bytes(&model, samples, together), ..Sampling::default() };
        let (mut drawn, mut passes) = (Vec::new(), Vec::new());
        let before = cpu.footprint();
        let parameters = model.layout().len() * size_of::<f32>();
        model
            .layer()
            .draw(model.params(), &given, image(), &sampling, |pass| {
                assert_eq!(pass.first, drawn.len() / image().len());
                passes.push(pass.x.shape().batch());
                drawn.extend(bits(&pass.x));
                Ok(())
            })
            .unwrap();
        let used = cpu.footprint().peak - before.alive + parameters;
        println!("{passes:?}: {used} bytes of {}", sampling.budget);
        assert!(used <= sampling.budget, "{used} bytes with a budget of {}", sampling.budget);
        assert_eq!(drawn.len(), conditions * count * image().len());
        let largest = passes.iter().max().copied();
        assert_eq!((passes.iter().sum::<usize>(), largest), (15, Some(samples)), "{passes:?}");
        match &whole {
            None => whole = Some(drawn),
            Some(whole) => assert!(*whole == drawn, "{samples} samples at once have other bits"),
        }
        let all = model.layer().draw_all(model.params(), &given, image(), &sampling).unwrap();
        assert!(whole.as_ref() == Some(&bits(&all)));
    }
}

#[test]
fn it_draws_what_the_density_draws() {
    let cpu = Device::new();
    let model = config().model(&cpu, 3).unwrap();
    let given = [condition(&cpu, 1)];
    let sampling = Sampling { count: 4, seed: 5, temperature: 0.7, ..Sampling::default() };
    let drawn = model.layer().draw_all(model.params(), &given, image(), &sampling).unwrap();
    let encoded = model.layer().encode(model.params(), &given).unwrap();
    let density = Density::new(model.layer().inner(), model.params(), Given::conditions(&encoded));
    let plain = density.sample(image().with_batch(4), 5, 0, 0.7).unwrap();
    assert_eq!(bits(&drawn), bits(&plain));
    // More samples begin with these, and the density draws them as well, with encoded or with raw conditions.
    let more = Sampling { count: 6, budget: bytes(&model, 2, 1), ..sampling };
    let begin = bits(&plain);
    assert!(bits(&density.draw_all(image(), &more).unwrap()).starts_with(&begin));
    let raw = Density::new(model.layer(), model.params(), Given::conditions(&given));
    assert!(bits(&raw.draw_all(image(), &more).unwrap()).starts_with(&begin));
}

/// Small samples share a stream of random numbers, and still depend on the seed and their number alone.
#[test]
fn a_latent_is_the_same_wherever_a_batch_begins() {
    let cpu = Device::new();
    for values in [1, 2, 3, 5, 16, 17, 33] {
        let draw = |first: u64, batch: usize| latent(&cpu, Shape::rows(batch, values), 11, first, 1.0).unwrap().to_vec().unwrap();
        let all = draw(0, 80);
        for (first, batch) in [(0, 1), (1, 40), (7, 9), (31, 2), (32, 33), (79, 1)] {
            assert!(draw(first as u64, batch) == all[first * values..(first + batch) * values], "{batch} from {first} on, of {values}");
        }
        let mut sorted = all.clone();
        sorted.sort_by(f32::total_cmp);
        sorted.dedup();
        assert!(sorted.len() == all.len(), "numbers of {values} recur");
        // The last numbers that there are.
        assert!(draw(u64::MAX, 2)[values..] == all[..values]);
    }
    // A stream each, from its beginning, for samples of more values.
    let large = latent(&cpu, Shape::rows(3, 100), 11, 5, 1.0).unwrap().to_f64().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    rng.set_stream(7);
    assert!(large[200..].iter().all(|&z| z == f64::from(Distribution::<f64>::sample(&StandardNormal, &mut rng) as f32)));
    let many = latent(&cpu, Shape::rows(20_000, 2), 3, 0, 1.0).unwrap().to_f64().unwrap();
    for channel in 0..2 {
        let moment = |order: i32| many.iter().skip(channel).step_by(2).map(|z| z.powi(order)).sum::<f64>() / 20_000.0;
        assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.3);
    }
    let mixed = many.chunks_exact(2).map(|z| z[0] * z[1]).sum::<f64>() / 20_000.0;
    assert!(mixed.abs() < 0.03, "channels correlate: {mixed}");
}

#[test]
fn a_condition_is_encoded_once() {
    let traced = Traced::new(Device::new());
    let model = config().model(&traced, 3).unwrap();
    let given = [Tensor::full(&traced, Shape::new(2, 2, &[28, 20]).unwrap(), 0.3).unwrap()];
    let dispatches = |count: usize, samples: usize| {
        let c = Shape::new(1, 2, &[28, 20]).unwrap();
        let (backend, input) = (model.backend(), image().with_batch(samples));
        let budget = map_bytes(backend, model.layer(), model.layout(), Direction::Inverse, input, &[c]).unwrap();
        traced.clear();
        model.layer().draw(model.params(), &given, image(), &Sampling { count, budget, ..Sampling::default() }, |_| Ok(())).unwrap();
        traced.dispatches()
    };
    // Two conditions in one pass each, in two, in three: every further pass costs the same, an inverse of the flow.
    let (one, two, three) = (dispatches(4, 4), dispatches(4, 2), dispatches(6, 2));
    assert_eq!(three - two, two - one);
    let encoded = model.layer().encode(model.params(), &given).unwrap();
    let z = Tensor::full(&traced, image().with_batch(2), 0.1).unwrap();
    traced.clear();
    model.layer().encode(model.params(), &given).unwrap();
    let encoding = traced.dispatches();
    inn_core::Call::new(model.layer().inner(), model.params(), Given::conditions(&encoded)).inverse(z).unwrap();
    let inverse = traced.dispatches() - encoding;
    assert_eq!(two - one, 2 * inverse);
}

#[test]
fn without_conditions_and_with_what_cannot_be() {
    let cpu = Device::new();
    let model = GlowConfig::dense(3, 2).model(&cpu, 0).unwrap();
    let density = Density::new(model.layer(), model.params(), Given::default());
    let sample = Shape::new(1, 3, &[]).unwrap();
    let one = map_bytes(&cpu, model.layer(), model.layout(), Direction::Inverse, sample, &[]).unwrap();
    let draw = |count, budget| density.draw_all(sample, &Sampling { count, budget, ..Sampling::default() });
    assert_eq!(bits(&draw(1000, 1 << 30).unwrap()), bits(&draw(1000, 2 * one).unwrap()));
    let message = draw(10, one - 1).err().unwrap().to_string();
    assert!(message.contains("budget") && message.contains(&one.to_string()), "{message}");
    assert!(density.draw(Shape::new(1, 4, &[]).unwrap(), &Sampling::default(), |_| Ok(())).is_err());
    assert!(density.draw(sample, &Sampling { count: 0, ..Sampling::default() }, |_| panic!("nothing was asked for")).is_ok());
    // Conditions of different batches.
    let conditions = [condition(&cpu, 2), condition(&cpu, 3)];
    let density = Density::new(model.layer(), model.params(), Given::conditions(&conditions));
    assert!(density.draw(sample, &Sampling::default(), |_| Ok(())).err().unwrap().to_string().contains("a batch of 2"));
}
