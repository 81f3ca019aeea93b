//! Convolutions of random shapes beside round ones, so that cliffs show before somebody falls off one: a line of JSON a shape, then a summary.
//!
//! Channels are no multiples of 8, extents no powers of two; batch 1 to 5, kernels of 1 to 9, strides of 1 to 3, one to three dimensions. Each
//! shape runs in turns with its neighbour whose channels and extents are the nearest multiples of 16, and the best time of each counts. A
//! cliff is an operation that takes 1.3 times as long as its neighbour's, per multiply-add, or that stays below 60 % of the machine's peak.
//!
//! ```text
//! cargo run --release -p inn-examples --example conv_sweep -- --shapes 40 --seed 0
//! ```

use clap::Parser;
use inn_core::{Error, Result};
use inn_examples::cli::{finish, median, print_json};
use inn_examples::convolution::{Convolution, Operation, Problem};
use inn_examples::machine::Machine;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Convolutions of random shapes beside round ones, in f32.
#[derive(Debug, Parser)]
#[command(name = "conv_sweep")]
struct Cli {
    /// Shapes to draw.
    #[arg(long, default_value_t = 40)]
    shapes: usize,
    /// Seed of the shapes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Seconds to spend on each operation of a shape and its neighbour.
    #[arg(long, default_value_t = 0.2)]
    seconds: f64,
    /// Threads; all cores when 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Only shapes of this stride; of all of them when 0.
    #[arg(long, default_value_t = 0)]
    stride: usize,
    /// Prints only shapes with a cliff, and the summary.
    #[arg(long)]
    cliffs: bool,
    /// Prints only the summary.
    #[arg(long)]
    summary: bool,
}

/// Slower than its neighbour by this factor is a cliff.
const SLOWER: f64 = 1.3;
/// Below this share of the peak is a cliff.
const SHARE: f64 = 0.6;
/// The longest stride that is drawn.
const MOST_STRIDE: usize = 3;
/// Seconds of a measurement of the peak, before and after an operation.
const PEAK_SECONDS: f64 = 0.02;

#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    problem: Problem,
    neighbour: Problem,
    figures: Vec<Figure>,
    cliffs: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Figure {
    operation: Operation,
    gflops: f64,
    /// Of the peak of that moment.
    share_of_peak: f64,
    neighbour_gflops: f64,
    /// Time of a multiply-add by that of the neighbour.
    slower: f64,
}

#[derive(Debug, Serialize)]
struct Summary {
    shapes: usize,
    seed: u64,
    shapes_with_cliffs: usize,
    slower_than_neighbour: usize,
    below_share: usize,
    /// Of all operations of all shapes.
    median_share_of_peak: f64,
    lowest_share_of_peak: f64,
    median_slower: f64,
    worst_slower: f64,
    machine: Machine,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let wanted = |line: &Line| !(cli.summary || cli.cliffs && line.cliffs.is_empty());
    let each = |line: Line| if wanted(&line) { print_json(&line) } else { Ok(()) };
    finish(run(&cli, each).and_then(|summary| print_json(&summary)))
}

fn run(cli: &Cli, mut each: impl FnMut(Line) -> Result<()> + Send) -> Result<Summary> {
    if cli.shapes == 0 {
        return Err(Error::config("shapes", "expected at least 1, got 0"));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.threads).build().map_err(|e| Error::config("threads", e))?;
    if cli.stride > MOST_STRIDE {
        return Err(Error::config("stride", format!("expected at most {MOST_STRIDE}, got {}", cli.stride)));
    }
    pool.install(|| {
        let mut machine = Machine::measure(cli.seconds.min(1.0))?;
        let mut rng = ChaCha8Rng::seed_from_u64(cli.seed);
        let (mut all, mut shapes_with_cliffs) = (Vec::new(), 0);
        for _ in 0..cli.shapes {
            let problem = loop {
                let problem = draw(&mut rng);
                if cli.stride == 0 || cli.stride == problem.stride {
                    break problem;
                }
            };
            let line = measure(problem, cli.seconds, &mut machine)?;
            shapes_with_cliffs += usize::from(!line.cliffs.is_empty());
            all.extend(line.figures.iter().cloned());
            each(line)?;
        }
        let shares: Vec<f64> = all.iter().map(|f| f.share_of_peak).collect();
        let slower: Vec<f64> = all.iter().map(|f| f.slower).collect();
        Ok(Summary {
            shapes: cli.shapes,
            seed: cli.seed,
            shapes_with_cliffs,
            slower_than_neighbour: slower.iter().filter(|s| **s > SLOWER).count(),
            below_share: shares.iter().filter(|s| **s < SHARE).count(),
            median_share_of_peak: median(&shares),
            lowest_share_of_peak: shares.iter().copied().fold(f64::INFINITY, f64::min),
            median_slower: median(&slower),
            worst_slower: slower.iter().copied().fold(0.0, f64::max),
            machine,
        })
    })
}

/// A shape of about 0.1 to 2 · 10⁹ operations, so that all take about as long whatever their rank and kernel.
fn draw(rng: &mut ChaCha8Rng) -> Problem {
    let mut within = |range: RangeInclusive<usize>, fits: &dyn Fn(usize) -> bool| {
        loop {
            let value = rng.random_range(range.clone());
            if fits(value) {
                return value;
            }
        }
    };
    let odd = |channels: usize| !channels.is_multiple_of(8);
    let rank = within(1..=3, &|_| true);
    let (batch, stride) = (within(1..=5, &|_| true), within(1..=MOST_STRIDE, &|_| true));
    let (inputs, outputs) = (within(17..=200, &odd), within(17..=200, &odd));
    let kernel = within(1..=9, &|_| true);
    let operations = 1e8 * 20f64.powf(within(0..=100, &|_| true) as f64 / 100.0);
    let pixels = operations / (2 * batch * inputs * outputs * kernel.pow(rank as u32)) as f64;
    let extent = stride as f64 * pixels.powf(1.0 / rank as f64);
    // A quarter up or down on each axis, and no input smaller than two kernels or 6 pixels.
    let low = (2 * kernel).max(6).max((0.75 * extent) as usize);
    let high = (low + 5).max((1.25 * extent) as usize);
    let extents = (0..rank).map(|_| within(low..=high, &|extent| !extent.is_power_of_two())).collect();
    Problem { batch, inputs, outputs, kernel, stride, extents }
}

/// The nearest shape that every kernel likes.
fn neighbour(problem: &Problem) -> Problem {
    let round = |n: usize| ((n + 8) / 16 * 16).max(16);
    Problem {
        inputs: round(problem.inputs),
        outputs: round(problem.outputs),
        extents: problem.extents.iter().map(|&n| round(n)).collect(),
        ..problem.clone()
    }
}

fn measure(problem: Problem, seconds: f64, machine: &mut Machine) -> Result<Line> {
    let neighbour = neighbour(&problem);
    let mut sides = [Convolution::new(&problem)?, Convolution::new(&neighbour)?];
    let mut figures = Vec::new();
    for operation in Operation::ALL {
        // What else runs on the machine comes and goes, so the peak is the one of this moment.
        let before = Machine::measure(seconds.min(PEAK_SECONDS))?;
        let [gflops, neighbour_gflops] = rates(&mut sides, operation, seconds)?;
        let after = Machine::measure(seconds.min(PEAK_SECONDS))?;
        let peak = before.all_threads_gflops.max(after.all_threads_gflops);
        machine.keep_best(&before);
        machine.keep_best(&after);
        figures.push(Figure { operation, gflops, share_of_peak: gflops / peak, neighbour_gflops, slower: neighbour_gflops / gflops });
    }
    let cliffs = figures.iter().flat_map(cliffs).collect();
    Ok(Line { problem, neighbour, figures, cliffs })
}

fn cliffs(figure: &Figure) -> Vec<String> {
    let mut found = Vec::new();
    if figure.slower > SLOWER {
        found.push(format!("{:?}: {:.2}x slower than its neighbour", figure.operation, figure.slower));
    }
    if figure.share_of_peak < SHARE {
        found.push(format!("{:?}: {:.0} % of the peak", figure.operation, 100.0 * figure.share_of_peak));
    }
    found
}

/// GFLOP/s of both sides at their best, in turns: what else runs on the machine only ever takes away.
fn rates(sides: &mut [Convolution; 2], operation: Operation, seconds: f64) -> Result<[f64; 2]> {
    let mut least = [f64::INFINITY; 2];
    sides.iter_mut().try_for_each(|side| side.run(operation))?;
    let (begin, mut calls) = (Instant::now(), 0);
    while calls < 3 || begin.elapsed().as_secs_f64() < seconds {
        for (side, least) in sides.iter_mut().zip(&mut least) {
            let start = Instant::now();
            side.run(operation)?;
            *least = least.min(start.elapsed().as_secs_f64());
        }
        calls += 1;
    }
    let [first, second] = &*sides;
    Ok([first.operations() / least[0] / 1e9, second.operations() / least[1] / 1e9])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_odd_and_their_neighbours_round() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let shapes: Vec<Problem> = (0..200).map(|_| draw(&mut rng)).collect();
        for problem in &shapes {
            for channels in [problem.inputs, problem.outputs] {
                assert!((17..=200).contains(&channels) && channels % 8 != 0);
            }
            assert!(problem.extents.iter().all(|e| !e.is_power_of_two()));
            let neighbour = neighbour(problem);
            assert!(neighbour.extents.iter().chain([&neighbour.inputs, &neighbour.outputs]).all(|n| n % 16 == 0));
            assert!(neighbour.inputs.abs_diff(problem.inputs) <= 8);
        }
        let distinct = |of: fn(&Problem) -> usize| shapes.iter().map(of).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!([distinct(|p| p.kernel), distinct(|p| p.stride), distinct(|p| p.batch), distinct(|p| p.extents.len())], [9, 3, 5, 3]);
    }

    #[test]
    fn cliffs_are_named() {
        let figure = Figure { operation: Operation::Forward, gflops: 1.0, share_of_peak: 0.9, neighbour_gflops: 1.2, slower: 1.2 };
        assert!(cliffs(&figure).is_empty());
        assert_eq!(cliffs(&Figure { slower: 1.5, share_of_peak: 0.3, ..figure }).len(), 2);
    }

    #[test]
    fn the_summary_counts_what_was_printed() {
        let cli = Cli::try_parse_from(["conv_sweep", "--shapes", "2", "--seed", "1", "--seconds", "1e-3"]).unwrap();
        let mut lines = Vec::new();
        let summary = run(&cli, |line| {
            lines.push(line);
            Ok(())
        });
        let summary = summary.unwrap();
        assert_eq!((summary.shapes, lines.len()), (2, 2));
        assert_eq!(summary.shapes_with_cliffs, lines.iter().filter(|l| !l.cliffs.is_empty()).count());
        let none = Cli::try_parse_from(["conv_sweep", "--shapes", "0"]).unwrap();
        assert!(run(&none, |_| Ok(())).unwrap_err().to_string().contains("shapes"));
    }
}
