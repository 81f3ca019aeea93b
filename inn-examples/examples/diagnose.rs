//! What is wrong with a network: a table with one line a layer, the cause, and a picture.
//!
//! Loads a Glow or a conditional Glow that `inn_networks::files::save` wrote, passes data through it layer by layer, prints the table and writes
//! under `--out`:
//!
//! | file | holds |
//! |---|---|
//! | `diagnosis.png` | errors, conditions, singular values and log-determinants over the layers |
//! | `diagnosis.json` | the same numbers |
//!
//! Data come from a safetensors file with the arrays `x` and `condition0`, `condition1`, ..; without one they are digits, with the observations
//! of `posterior_inpainting` as the condition. Without a model it looks at a flow with a fault that was planted.
//!
//! ```text
//! cargo run --release -p inn-examples --example diagnose -- target/examples/generate_digits/model.safetensors
//! ```

use clap::Parser;
use inn_core::{Architecture, Error, Given, Model, Params, Result, Shape, Tensor};
use inn_examples::cli::finish;
use inn_examples::inpainting::{Experiment, condition_shape, image_shape};
use inn_examples::mnist::{Mnist, PIXELS};
use inn_networks::diagnose::{self, Diagnosis, Options};
use inn_networks::files::{self, write_whole};
use inn_networks::import::Source;
use inn_networks::train::{ChaCha8Rng, Dataset};
use inn_networks::{ConditionalGlowConfig, Glow, GlowConfig};
use inn_ops::Cpu;
use rand::SeedableRng;
use std::path::PathBuf;

/// Looks at a network layer by layer and says what is wrong with it.
#[derive(Debug, Parser)]
#[command(name = "diagnose")]
struct Args {
    /// A file with a network; a flow with a planted fault when absent.
    model: Option<PathBuf>,
    /// A safetensors file with the arrays `x` and `condition0`, ..; digits when absent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Digits to pass through the network.
    #[arg(long, default_value_t = 8)]
    samples: usize,
    /// Steps of the estimates of singular values.
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Seed of the noise on the digits and of the estimates.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the results go.
    #[arg(long, default_value = "target/examples/diagnose")]
    out: PathBuf,
}

type Device = Cpu<f32>;

fn main() -> std::process::ExitCode {
    finish(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    let diagnosis = look(args)?;
    println!("{diagnosis}");
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io(&args.out, e))?;
    diagnose::plot(args.out.join("diagnosis.png"), "Layer by layer", &diagnosis)?;
    let text = serde_json::to_string_pretty(&diagnosis).map_err(|e| Error::config("diagnosis", e))?;
    write_whole(args.out.join("diagnosis.json"), text.as_bytes())?;
    println!("results are in {}", args.out.display());
    Ok(())
}

fn look(args: &Args) -> Result<Diagnosis> {
    let options = Options { steps: args.steps, seed: args.seed, ..Options::default() };
    let cpu = Device::new();
    let Some(path) = &args.model else {
        let (model, x) = planted(&cpu)?;
        return diagnose::diagnose(&model.call(), x, &options);
    };
    match files::kind_of(path)?.as_str() {
        GlowConfig::KIND => {
            let model = files::load::<GlowConfig, _>(path, &cpu)?.model;
            let (x, _) = data(args, &cpu, false)?;
            diagnose::diagnose(&model.call(), x, &options)
        }
        ConditionalGlowConfig::KIND => {
            let model = files::load::<ConditionalGlowConfig, _>(path, &cpu)?.model;
            let (x, conditions) = data(args, &cpu, true)?;
            diagnose::diagnose(&model.with(Given::conditions(&conditions)), x, &options)
        }
        other => Err(Error::format(path, format!("expected a network of kind `glow` or `conditional_glow`, got `{other}`"))),
    }
}

/// A flow whose second normalization met a channel that was constant.
fn planted(cpu: &Device) -> Result<(Model<Glow, Device>, Tensor<Device>)> {
    let mut model = GlowConfig::dense(4, 3).model(cpu, 0)?;
    let mut flat = model.params().to_flat()?;
    let entry = model.layout().find("level0.step1.actnorm.scale");
    if let Some(value) = entry.and_then(|e| flat.get_mut(e.range().start + 2)) {
        *value = 1e6;
    }
    *model.params_mut() = Params::from_flat(cpu, model.layout(), &flat)?;
    let values: Vec<f64> = (0..32).map(|i| f64::from(i * 7 % 11) / 5.0 - 1.0).collect();
    Ok((model, Tensor::from_f64(cpu, Shape::new(8, 4, &[])?, &values)?))
}

/// Data and conditions, from a file or of digits.
fn data(args: &Args, cpu: &Device, conditional: bool) -> Result<(Tensor<Device>, Vec<Tensor<Device>>)> {
    if let Some(path) = &args.data {
        let source = Source::open(path)?;
        let mut conditions = Vec::new();
        while conditional && source.names().any(|name| name == format!("condition{}", conditions.len())) {
            conditions.push(source.get(&format!("condition{}", conditions.len()))?.tensor(cpu)?);
        }
        return Ok((source.get("x")?.tensor(cpu)?, conditions));
    }
    let digits = Experiment::new(Mnist::shipped()?.test.unit())?;
    let count = args.samples.clamp(1, digits.count());
    let (mut x, mut c) = (vec![0.0; count * PIXELS], vec![0.0; count * 2 * PIXELS]);
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    for (i, (x, c)) in x.chunks_exact_mut(PIXELS).zip(c.chunks_exact_mut(2 * PIXELS)).enumerate() {
        digits.draw(i, &mut rng, x, &mut [c])?;
    }
    let conditions = if conditional { vec![Tensor::from_slice(cpu, condition_shape(count)?, &c)?] } else { Vec::new() };
    Ok((Tensor::from_slice(cpu, image_shape(count)?, &x)?, conditions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(out: &std::path::Path, model: Option<PathBuf>) -> Args {
        Args { model, data: None, samples: 2, steps: 2, seed: 0, out: out.into() }
    }

    #[test]
    fn names_what_was_planted_and_reads_models() {
        let folder = tempfile::tempdir().unwrap();
        let diagnosis = look(&args(folder.path(), None)).unwrap();
        assert_eq!(diagnosis.culprit(), Some("level0.step1[0]"));
        let config = GlowConfig { channels: 1, levels: 1, steps: 1, ..GlowConfig::default() };
        let model = config.model(&Device::new(), 0).unwrap();
        let path = folder.path().join("model.safetensors");
        files::save(&path, &config, &model, &Default::default()).unwrap();
        run(&args(folder.path(), Some(path))).unwrap();
        assert!(folder.path().join("diagnosis.png").exists() && folder.path().join("diagnosis.json").exists());
        assert!(look(&args(folder.path(), Some(folder.path().join("diagnosis.json")))).is_err());
    }
}
