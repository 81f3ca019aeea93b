//! The processor and its peak of f32 multiply-adds, on one thread and on all: one line of JSON.
//!
//! ```text
//! cargo run --release -p inn-examples --example peak
//! ```

use clap::Parser;
use inn_core::{Error, Result};
use inn_examples::cli::{finish, print_json};
use inn_examples::machine::Machine;

/// The processor and its peak of f32 multiply-adds.
#[derive(Debug, Parser)]
#[command(name = "peak")]
struct Cli {
    /// Seconds to spend on each figure.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Threads of the second figure; all cores when 0.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let measure = || -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(cli.threads).build().map_err(|e| Error::config("threads", e))?;
        print_json(&pool.install(|| Machine::measure(cli.seconds))?)
    };
    finish(measure())
}
