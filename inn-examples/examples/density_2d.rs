//! How near a flow comes to a density that is known: banana, two moons and rings in the plane.
//!
//! A dense Glow is trained on fresh samples of each. Since the density p is known, so is the best loss, the entropy, and the distance of the flow q
//! from it: KL(p | q) = E_p \[ln p - ln q\], the gap, in nats. Under `--out`:
//!
//! | file | holds |
//! |---|---|
//! | `densities.png` | a row a distribution: p, q on the same scale, samples of q |
//! | `metrics.json` | for each: `nats` (-ln q of held-out samples), `entropy` and its error, `gap` and its standard error, `integral` of q over the region of p, seconds |
//!
//! ```text
//! cargo run --release -p inn-examples --example density_2d
//! ```

use clap::Parser;
use inn_core::{Architecture, Error, Given, Model, Result, Shape, Tensor};
use inn_examples::cli::finish;
use inn_examples::picture::{Colours, Grid, Tile};
use inn_layers::conditioner::{DenseConfig, NetConfig};
use inn_layers::glow::StepConfig;
use inn_networks::distributions::{Arcs, Banana, Checkerboard, Mixture, Pinwheel, Target};
use inn_networks::files::write_whole;
use inn_networks::optim::Schedule;
use inn_networks::train::{ArrayDataset, Bar, Options, Stopped, Trainer, Varied};
use inn_networks::{Density, Glow, GlowConfig};
use inn_ops::{Activation, Cpu};
use ndarray::Array2;
use std::path::PathBuf;
use std::time::Instant;

/// Trains flows on densities that are known.
#[derive(Clone, Debug, Parser)]
#[command(name = "density_2d")]
struct Args {
    /// The distributions; among banana, moons, rings, three-rings, swirl, pinwheel, mixture, checkerboard.
    #[arg(long, value_delimiter = ',', default_value = "banana,moons,rings")]
    targets: Vec<String>,
    /// Steps of training for each.
    #[arg(long, default_value_t = 8000)]
    steps: u64,
    /// Flow steps.
    #[arg(long, default_value_t = 12)]
    depth: usize,
    /// Width of the two hidden layers of each coupling's network.
    #[arg(long, default_value_t = 64)]
    hidden: usize,
    /// Spread of the starting values of the networks' first layers; see `DenseConfig::spread`.
    #[arg(long, default_value_t = 12.0)]
    spread: f64,
    /// Samples a step.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// The highest learning rate; a cosine takes it to 0.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Held-out samples that the gap is measured with.
    #[arg(long, default_value_t = 50_000)]
    held_out: usize,
    /// Seed of weights and samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the results go.
    #[arg(long, default_value = "target/examples/density_2d")]
    out: PathBuf,
}

type Device = Cpu<f32>;

/// Points along an axis of the pictures and of the integral.
const PICTURE: usize = 128;
const INTEGRAL: usize = 1024;

fn main() -> std::process::ExitCode {
    finish(run(&Args::parse()).map(drop))
}

/// What is known of a trained flow.
#[derive(Debug, serde::Serialize)]
struct Figures {
    target: String,
    nats: f64,
    entropy: f64,
    entropy_error: f64,
    gap: f64,
    gap_standard_error: f64,
    integral: f64,
    train_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    train_cpu_seconds: Option<f64>,
}

fn target(name: &str) -> Result<Box<dyn Target>> {
    Ok(match name {
        "banana" => Box::new(Banana::default()),
        "moons" => Box::new(Arcs::two_moons(0.1)?),
        "rings" => Box::new(Arcs::rings(&[1.0, 2.0], 0.2)?),
        "three-rings" => Box::new(Arcs::rings(&[1.0, 2.0, 3.0], 0.15)?),
        "swirl" => Box::new(Arcs::swirl(0.15)?),
        "pinwheel" => Box::new(Pinwheel::usual()?),
        "mixture" => Box::new(Mixture::on_circle(8, 2.0, 0.2)?),
        "checkerboard" => Box::new(Checkerboard::default()),
        _ => {
            let known = "banana, moons, rings, three-rings, swirl, pinwheel, mixture, checkerboard";
            return Err(Error::config("targets", format!("expected some of {known}, got {name}")));
        }
    })
}

fn run(args: &Args) -> Result<Vec<Figures>> {
    let targets = args.targets.iter().map(|name| target(name)).collect::<Result<Vec<_>>>()?;
    std::fs::create_dir_all(&args.out).map_err(|e| Error::io(&args.out, e))?;
    let mut all = Vec::new();
    let mut grid = Grid {
        width: PICTURE,
        height: PICTURE,
        zoom: 2,
        title: "Densities, what a Glow learned of them, and its samples".into(),
        captions: [("density", 0), ("learned", 1), ("samples", 2)].map(|(text, i)| (i, 1, text.into())).to_vec(),
        ..Grid::default()
    };
    for (name, target) in args.targets.iter().zip(&targets) {
        let (model, seconds, cpu) = train(args, target.as_ref())?;
        let density = Density::new(model.layer(), model.params(), Given::default());
        let figures = measure(args, name, target.as_ref(), &density, seconds, cpu)?;
        println!(
            "{name}: {:.4} nats, entropy {:.4}, gap {:.4} +- {:.4}; mass {:.4}; {seconds:.1} s",
            figures.nats, figures.entropy, figures.gap, figures.gap_standard_error, figures.integral
        );
        grid.rows.push((format!("{name}, gap {:.3} nats", figures.gap), tiles(args, target.as_ref(), &density)?));
        all.push(figures);
    }
    grid.draw()?.save(args.out.join("densities.png"))?;
    let text = serde_json::to_string_pretty(&serde_json::json!({ "densities": all })).map_err(|e| Error::config("metrics", e))?;
    write_whole(args.out.join("metrics.json"), text.as_bytes())?;
    println!("results are in {}", args.out.display());
    Ok(all)
}

fn architecture(args: &Args) -> GlowConfig {
    let dense =
        DenseConfig { hidden: vec![args.hidden; 2], activation: Activation::Tanh, spread: Some(args.spread), ..DenseConfig::default() };
    let net = NetConfig::Dense(dense);
    GlowConfig { step: StepConfig { net, ..StepConfig::default() }, ..GlowConfig::dense(2, args.depth) }
}

/// The flow, seconds of training, and seconds of the processor where the system says them.
fn train(args: &Args, target: &dyn Target) -> Result<(Model<Glow, Device>, f64, Option<f64>)> {
    // Each sample is drawn when it is asked for: no point is seen twice.
    let per_epoch = args.batch.saturating_mul(100);
    let fresh = Varied::new(ArrayDataset::new(Array2::<f32>::zeros((per_epoch, 2)))?, |rng, x: &mut [f32], _: &mut [&mut [f32]]| {
        let mut point = [0.0; 2];
        target.draw(rng, &mut point);
        x.iter_mut().zip(point).for_each(|(x, p)| *x = p as f32);
        Ok(())
    });
    let options = Options {
        epochs: args.steps.div_ceil(100),
        batch: args.batch,
        seed: args.seed,
        schedule: Schedule::cosine(args.learning_rate, 100),
        ema: Some(0.995),
        drift_every: 0,
        ..Options::default()
    };
    let model = architecture(args).model(&Device::new(), args.seed)?;
    let mut trainer = Trainer::new(model, options)?;
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let outcome = trainer.fit(&fresh, None, &mut Bar::default())?;
    let seconds = start.elapsed().as_secs_f64();
    if let Stopped::NonFinite { .. } = outcome.stopped {
        return Err(Error::config("training", outcome.stopped));
    }
    let cpu = cpu_seconds().zip(cpu).map(|(now, before)| now - before);
    Ok((trainer.into_model()?, seconds, cpu))
}

/// Seconds that the processor spent on this process, on Linux: fields 14 and 15 of `/proc/self/stat`, in hundredths (`USER_HZ`).
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<f64> = text.rsplit_once(')')?.1.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    (fields.len() == 2).then(|| fields.iter().sum::<f64>() / 100.0)
}

fn measure(
    args: &Args,
    name: &str,
    target: &dyn Target,
    density: &Density<'_, Glow, Device>,
    train_seconds: f64,
    train_cpu_seconds: Option<f64>,
) -> Result<Figures> {
    let x = target.sample(args.held_out.max(2), args.seed.wrapping_add(1))?;
    let p = target.log_prob(&x.view())?;
    let q = log_prob(density, &x)?;
    let n = p.len() as f64;
    let gaps: Vec<f64> = p.iter().zip(&q).map(|(p, q)| p - q).collect();
    let gap = gaps.iter().sum::<f64>() / n;
    let variance = gaps.iter().map(|g| (g - gap).powi(2)).sum::<f64>() / (n - 1.0);
    let entropy = target.entropy()?;
    let (points, cell) = points(target, INTEGRAL);
    let integral = cell * log_prob(density, &points)?.iter().map(|l| l.exp()).sum::<f64>();
    Ok(Figures {
        target: name.into(),
        nats: -q.iter().sum::<f64>() / n,
        entropy: entropy.nats,
        entropy_error: entropy.error,
        gap,
        gap_standard_error: (variance / n).sqrt(),
        integral,
        train_seconds,
        train_cpu_seconds,
    })
}

/// ln q of points, a piece at a time.
fn log_prob(density: &Density<'_, Glow, Device>, x: &Array2<f64>) -> Result<Vec<f64>> {
    let values: Vec<f32> = x.iter().map(|&v| v as f32).collect();
    let mut all = Vec::with_capacity(x.nrows());
    for piece in values.chunks(2 * 8192) {
        all.extend(density.log_prob(Tensor::from_slice(&Device::new(), Shape::new(piece.len() / 2, 2, &[])?, piece)?)?);
    }
    Ok(all)
}

/// The middles of `count` x `count` cells of the region of p, row by row from above, and the area of a cell.
fn points(target: &dyn Target, count: usize) -> (Array2<f64>, f64) {
    let region = target.region();
    let step: Vec<f64> = region.iter().map(|r| (r.end - r.start) / count as f64).collect();
    let points = Array2::from_shape_fn((count * count, 2), |(i, axis)| match axis {
        0 => region[0].start + step[0] * ((i % count) as f64 + 0.5),
        _ => region[1].end - step[1] * ((i / count) as f64 + 0.5),
    });
    (points, step.iter().product())
}

fn tiles(args: &Args, target: &dyn Target, density: &Density<'_, Glow, Device>) -> Result<Vec<Tile>> {
    let (points, _) = points(target, PICTURE);
    let exp = |logs: Vec<f64>| logs.into_iter().map(|l| l.exp() as f32).collect::<Vec<_>>();
    let (p, q) = (exp(target.log_prob(&points.view())?), exp(log_prob(density, &points)?));
    let highest = p.iter().fold(0.0f32, |a, &v| a.max(v));
    let region = target.region();
    let samples = density.sample(Shape::new(4000, 2, &[])?, args.seed.wrapping_add(2), 0, 1.0)?;
    let mut dots = vec![0.0f32; PICTURE * PICTURE];
    for x in samples.slice().chunks_exact(2) {
        let place = |axis: usize| PICTURE as f64 * (f64::from(x[axis]) - region[axis].start) / (region[axis].end - region[axis].start);
        let (column, row) = (place(0), PICTURE as f64 - place(1));
        let inside = 0.0..PICTURE as f64;
        if inside.contains(&column) && inside.contains(&row) {
            dots[row as usize * PICTURE + column as usize] += 1.0;
        }
    }
    let tile = |values, highest| Tile { values, colours: Colours::Heat { highest } };
    Ok(vec![tile(p, highest), tile(q, highest), tile(dots, 3.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_training_writes_its_figures() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_string_lossy().into_owned();
        let line =
            ["density_2d", "--targets", "banana", "--steps", "100", "--depth", "2", "--hidden", "8", "--held-out", "2000", "--out", &out];
        let figures = run(&Args::try_parse_from(line).unwrap()).unwrap();
        assert_eq!(figures.len(), 1);
        assert!(figures[0].nats.is_finite() && figures[0].gap > 0.0, "{figures:?}");
        let text = std::fs::read_to_string(folder.path().join("metrics.json")).unwrap();
        assert!(text.contains("\"entropy\"") && folder.path().join("densities.png").exists());
    }

    #[test]
    fn unknown_names_are_refused() {
        let args = Args::try_parse_from(["density_2d", "--targets", "banana,apple"]).unwrap();
        assert!(run(&args).unwrap_err().to_string().contains("apple"));
    }
}
