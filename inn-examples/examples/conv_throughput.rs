//! Throughput of convolutions: one line of JSON a shape, GFLOP/s of forward, input gradient and weight gradient.
//!
//! A multiply-add counts as two operations, those on zero padding included (2 · batch · outputs · inputs · kernel · pixels).
//!
//! ```text
//! cargo run --release -p inn-examples --example conv_throughput
//! cargo run --release -p inn-examples --example conv_throughput -- --shape 4,102,110,7,3,25,27
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
    #[arg(long, conflicts_with = "shape")]
    case: Option<usize>,
    /// A shape instead of the cases: batch, inputs, outputs, kernel, stride, then one to three extents, with a padding of half the kernel.
    #[arg(long, value_delimiter = ',', num_args = 1)]
    shape: Vec<usize>,
    /// Only this operation; figures of the others are 0.
    #[arg(long)]
    operation: Option<Operation>,
}

#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    problem: Problem,
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
    let problems = problems(cli)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.threads).build().map_err(|e| Error::config("threads", e))?;
    pool.install(|| problems.into_iter().try_for_each(|problem| each(measure(problem, cli)?)))
}

fn problems(cli: &Cli) -> Result<Vec<Problem>> {
    let problem = |case: &Case| {
        let &Case { batch, inputs, outputs, kernel, extents } = case;
        Problem { batch, inputs, outputs, kernel, stride: 1, extents: extents.to_vec() }
    };
    match (&cli.shape[..], cli.case) {
        ([], None) => Ok(CASES.iter().map(problem).collect()),
        ([], Some(i)) => {
            let case = CASES.get(i).ok_or_else(|| Error::config("case", format!("expected a number below {}, got {i}", CASES.len())))?;
            Ok(vec![problem(case)])
        }
        (&[batch, inputs, outputs, kernel, stride, ref extents @ ..], _) if (1..=3).contains(&extents.len()) => {
            Ok(vec![Problem { batch, inputs, outputs, kernel, stride, extents: extents.to_vec() }])
        }
        (shape, _) => Err(Error::config("shape", format!("expected six to eight numbers, got {}", shape.len()))),
    }
}

fn measure(problem: Problem, cli: &Cli) -> Result<Line> {
    let mut convolution = Convolution::new(&problem)?;
    let operations = convolution.operations();
    let mut rate = |operation| {
        let wanted = cli.operation.is_none_or(|only| only == operation);
        let time = if wanted { median_time(cli.seconds, &mut || convolution.run(operation))? } else { f64::INFINITY };
        Ok(operations / time / 1e9)
    };
    Ok(Line {
        input_gradient_gflops: rate(Operation::InputGradient)?,
        forward_gflops: rate(Operation::Forward)?,
        weight_gradient_gflops: rate(Operation::WeightGradient)?,
        problem,
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
        let problem = &line.problem;
        assert_eq!((problem.batch, problem.inputs, problem.outputs, &problem.extents[..]), (128, 2, 32, &[8, 8][..]));
        assert!(line.forward_gflops > 0.0 && line.input_gradient_gflops > 0.0 && line.weight_gradient_gflops > 0.0);
    }

    #[test]
    fn a_shape_and_one_operation_of_it() {
        let lines = lines(&["--seconds", "1e-3", "--shape", "2,3,5,4,3,9,7", "--operation", "forward"]).unwrap();
        let problem = Problem { batch: 2, inputs: 3, outputs: 5, kernel: 4, stride: 3, extents: vec![9, 7] };
        assert_eq!((lines.len(), &lines[0].problem), (1, &problem));
        assert!(lines[0].forward_gflops > 0.0 && lines[0].input_gradient_gflops == 0.0 && lines[0].weight_gradient_gflops == 0.0);
    }

    #[test]
    fn bad_arguments_are_errors() {
        assert!(lines(&["--shape", "2,3,5,4,3"]).unwrap_err().to_string().contains("six to eight"));
        assert!(lines(&["--seconds", "0"]).unwrap_err().to_string().contains("seconds"));
        assert!(lines(&["--case", "10"]).unwrap_err().to_string().contains("below 10"));
    }
}
