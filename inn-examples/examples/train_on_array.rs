//! A flow on your own array, in twenty lines: here two moons stand in for it.
//!
//! ```text
//! cargo run --release -p inn-examples --example train_on_array
//! ```

use inn_core::{Architecture, Given, Result, Shape};
use inn_networks::train::{ArrayDataset, Console, Options, Trainer, split};
use inn_networks::{Density, GlowConfig, files};
use inn_ops::Cpu;

fn main() -> Result<()> {
    // Your array: (sample, channel), or (sample, channel, height, width), ...
    let data = ArrayDataset::new(two_moons(4000))?;
    let (train, held_out) = split(&data, 500, 0)?;

    let config = GlowConfig::dense(2, 8);
    let model = config.model(&Cpu::<f32>::new(), 0)?;
    let mut trainer = Trainer::new(model, Options { epochs: 20, ..Options::default() })?;
    trainer.fit(&train, Some(&held_out), &mut Console::default())?;
    println!("held out: ln p = {:.3} nats a sample", -trainer.evaluate(&held_out)?);
    let model = trainer.into_model()?;

    let path = std::env::temp_dir().join("two_moons.safetensors");
    files::save(&path, &config, &model, &Default::default())?;
    let model = files::load::<GlowConfig, _>(&path, &Cpu::<f32>::new())?.model;
    let density = Density::new(model.layer(), model.params(), Given::default());
    let samples = density.sample_with_log_prob(Shape::new(5, 2, &[])?, 0, 0)?;
    for (x, log_prob) in samples.x.slice().chunks(2).zip(&samples.log_prob) {
        println!("({:6.3}, {:6.3})  ln p = {log_prob:.3}", x[0], x[1]);
    }
    Ok(())
}

/// Two half circles that reach into each other, with a little scatter.
fn two_moons(count: usize) -> ndarray::Array2<f32> {
    ndarray::Array2::from_shape_fn((count, 2), |(i, axis)| {
        let (upper, scatter) = (i % 2 == 0, 0.1 * ((i * 7919 % 1009) as f32 / 1009.0 - 0.5));
        let angle = std::f32::consts::PI * (i * 613 % 997) as f32 / 997.0;
        let (x, y) = if upper { (angle.cos(), angle.sin()) } else { (1.0 - angle.cos(), 0.5 - angle.sin()) };
        if axis == 0 { x + scatter } else { y + 0.7 * scatter * (i % 5) as f32 }
    })
}
