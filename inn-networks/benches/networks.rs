//! A gradient step (forward, loss, backward) of whole networks, and sampling.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use inn_core::{Architecture, Given, Shape, Tensor};
use inn_networks::{Density, GlowConfig, HyperbolicConfig};
use inn_ops::Cpu;

fn gradient_step<A: Architecture>(c: &mut Criterion, name: &str, config: &A, shape: Shape) {
    let cpu = Cpu::<f32>::new();
    let model = config.model(&cpu, 0).unwrap();
    let values: Vec<f64> = (0..shape.len()).map(|i| ((i * 37 % 101) as f64 / 50.0) - 1.0).collect();
    let x = Tensor::from_f64(&cpu, shape, &values).unwrap();
    let gl = Tensor::full(&cpu, Shape::per_sample(shape.batch()), -1.0 / shape.batch() as f64).unwrap();
    let mut grads = model.zeros().unwrap();
    c.bench_function(name, |b| {
        b.iter_batched(
            || x.duplicate().unwrap(),
            |x| {
                let z = model.forward(x).unwrap().state;
                let gz = z.duplicate().unwrap();
                model.backward(z, gz, &gl, &mut grads).unwrap()
            },
            BatchSize::LargeInput,
        );
    });
}

fn networks(c: &mut Criterion) {
    let glow = GlowConfig { channels: 1, levels: 2, steps: 4, ..GlowConfig::default() };
    gradient_step(c, "gradient step, glow, 32 x 1 x 28 x 28", &glow, Shape::new(32, 1, &[28, 28]).unwrap());
    gradient_step(c, "gradient step, dense glow, 512 x 2", &GlowConfig::dense(2, 8), Shape::new(512, 2, &[]).unwrap());
    let hyperbolic = HyperbolicConfig { rank: 3, ..HyperbolicConfig::default() };
    gradient_step(c, "gradient step, hyperbolic, 1 x 16 x 24 x 24 x 24", &hyperbolic, Shape::new(1, 16, &[24, 24, 24]).unwrap());

    let cpu = Cpu::<f32>::new();
    let model = glow.model(&cpu, 0).unwrap();
    let density = Density::new(model.layer(), model.params(), Given::default());
    let shape = Shape::new(32, 1, &[28, 28]).unwrap();
    c.bench_function("32 samples, glow, 1 x 28 x 28", |b| b.iter(|| density.sample(shape, 0, 0, 1.0).unwrap()));
}

criterion_group! { name = benches; config = Criterion::default().sample_size(10); targets = networks }
criterion_main!(benches);
