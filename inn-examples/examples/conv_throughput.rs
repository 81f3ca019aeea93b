//! Throughput of convolutions: one line of JSON a shape, GFLOP/s of forward, input gradient and weight gradient.
//!
//! A multiply-add counts as two operations, those on zero padding included (2 · batch · outputs · inputs · kernel · pixels).
//!
//! ```text
//! cargo run --release -p inn-examples --example conv_throughput
//! ```

use clap::Parser;
use inn_core::{Error, Result};
use inn_examples::cli::{finish, median, print_json};
use inn_examples::convolution::{Convolution, Operation, Problem};
use serde::Serialize;
use std::time::Instant;

/// A convolution with stride 1 that keeps the extents.
struct Case {
    batch: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    extents: &'static [usize],
}

const fn case(batch: usize, inputs: usize, outputs: usize, kernel: usize, extents: &'static [usize]) -> Case {
    Case { batch, inputs, outputs, kernel, extents }
}

/// The convolutions of Glow couplings and of hyperbolic networks, skinny and wide.
const CASES: [Case; 10] = [
    case(8, 6, 128, 3, &[32, 32]),
    case(8, 128, 128, 1, &[32, 32]),
    case(8, 128, 12, 3, &[32, 32]),
    case(8, 128, 128, 3, &[32, 32]),
    case(8, 6, 128, 3, &[128, 128]),
    case(8, 128, 12, 3, &[128, 128]),
    case(1, 64, 64, 3, &[256, 256]),
    case(128, 2, 32, 3, &[8, 8]),
    case(1, 32, 32, 3, &[48, 48, 48]),
    case(1, 16, 16, 3, &[64, 64, 64]),
];

/// Throughput of convolutions, in f32.
#[derive(Debug, Parser)]
#[command(name = "conv_throughput")]
struct Cli {
    /// Seconds to spend on each figure, after one call that is not timed.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Threads; all cores when 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Only the case of this number, counted from 0.
    #[arg(long)]
    case: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Line {
    batch: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    extents: &'static [usize],
    forward_gflops: f64,
    input_gradient_gflops: f64,
    weight_gradient_gflops: f64,
    threads: usize,
}

fn main() -> std::process::ExitCode {
    finish(run(&Cli::parse(), |line| print_json(&line)))
}

fn run(cli: &Cli, mut each: impl FnMut(Line) -> Result<()> + Send) -> Result<()> {
    if !(cli.seconds > 0.0 && cli.seconds.is_finite()) {
        return Err(Error::config("seconds", format!("expected a finite number above 0, got {}", cli.seconds)));
    }
    let cases = match cli.case {
        None => &CASES[..],
        Some(i) => CASES.get(i..=i).ok_or_else(|| Error::config("case", format!("expected a number below {}, got {i}", CASES.len())))?,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.threads).build().map_err(|e| Error::config("threads", e))?;
    pool.install(|| cases.iter().try_for_each(|case| each(measure(case, cli.seconds)?)))
}

fn measure(case: &Case, seconds: f64) -> Result<Line> {
    let &Case { batch, inputs, outputs, kernel, extents } = case;
    let mut convolution = Convolution::new(&Problem { batch, inputs, outputs, kernel, stride: 1, extents: extents.to_vec() })?;
    let operations = convolution.operations();
    let mut rate = |operation| Ok(operations / median_time(seconds, &mut || convolution.run(operation))? / 1e9);
    Ok(Line {
        batch,
        inputs,
        outputs,
        kernel,
        extents,
        input_gradient_gflops: rate(Operation::InputGradient)?,
        forward_gflops: rate(Operation::Forward)?,
        weight_gradient_gflops: rate(Operation::WeightGradient)?,
        threads: rayon::current_num_threads(),
    })
}

fn median_time(seconds: f64, call: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    let begin = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&times))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(arguments: &[&str]) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        let cli = Cli::try_parse_from(std::iter::once(&"conv_throughput").chain(arguments)).unwrap();
        run(&cli, |line| {
            lines.push(line);
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn one_case_gives_one_line_of_positive_figures() {
        let lines = lines(&["--seconds", "1e-3", "--case", "7"]).unwrap();
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!((line.batch, line.inputs, line.outputs, line.extents), (128, 2, 32, &[8, 8][..]));
        assert!(line.forward_gflops > 0.0 && line.input_gradient_gflops > 0.0 && line.weight_gradient_gflops > 0.0);
    }

    #[test]
    fn bad_arguments_are_errors() {
        assert!(lines(&["--seconds", "0"]).unwrap_err().to_string().contains("seconds"));
        assert!(lines(&["--case", "10"]).unwrap_err().to_string().contains("below 10"));
    }
}
