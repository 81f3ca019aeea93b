//! The tasks of this workspace, in Rust: `cargo xtask <task>`.

mod compare;
mod counts;
mod dependencies;
mod numbers;
mod page;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use counts::Counts;

/// The tasks of this workspace.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Every test of the workspace, with all features; closes with one line of counts (INN_REQUIRE_GPU=1 makes a missing GPU a failure).
    TestAll,
    /// The benches of one crate, or of all.
    Bench {
        /// The crate.
        package: Option<String>,
    },
    /// Formatting, lints and documentation, without tests.
    Check,
    /// check, then test-all.
    Ci,
    /// A table of how many crates each crate of the workspace depends on.
    Dependencies,
    /// This project against its peers in one run: tables of times, ratios, memory, share of the machine's peak.
    Compare(compare::Options),
}

/// Why a task did not succeed, in words; empty when everything has been said already.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::TestAll => test_all(),
        Task::Bench { package: None } => run(&["bench", "--workspace"], &[]),
        Task::Bench { package: Some(package) } => run(&["bench", "--package", &package], &[]),
        Task::Check => check(),
        Task::Ci => check().and_then(|()| test_all()),
        Task::Dependencies => dependencies::print(),
        Task::Compare(options) => compare::compare(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            if !reason.is_empty() {
                eprintln!("xtask: {reason}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The cargo that runs this program, to be run in the workspace's root.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Runs cargo and says what it runs.
fn run(args: &[&str], env: &[(&str, &str)]) -> Outcome {
    announce(args);
    let status = cargo().args(args).envs(env.iter().copied()).status().map_err(|e| format!("cargo does not start: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed ({status})", args[0])) }
}

fn announce(args: &[&str]) {
    eprintln!("$ cargo {}", args.join(" "));
}

fn check() -> Outcome {
    run(&["fmt", "--all", "--check"], &[])?;
    run(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"], &[])?;
    run(&["doc", "--workspace", "--all-features", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])
}

/// Unit, integration and doc tests in the test profile: optimized, with debug assertions and overflow checks, which release would leave out.
fn test_all() -> Outcome {
    if std::env::var("INN_REQUIRE_GPU").is_ok_and(|v| v == "1") {
        eprintln!("INN_REQUIRE_GPU=1: without a GPU the tests fail");
    }
    let args = ["test", "--workspace", "--all-features", "--no-fail-fast"];
    announce(&args);
    let start = |e: io::Error| format!("cargo does not start: {e}");
    let mut child = cargo().args(args).stdout(Stdio::piped()).spawn().map_err(start)?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        stream(BufReader::new(stdout), &mut counts).map_err(|e| format!("the output of the tests cannot be read: {e}"))?;
    }
    let status = child.wait().map_err(|e| format!("cargo does not end: {e}"))?;
    if !status.success() && counts.failed == 0 {
        // Nobody may read a line without failures after a run that failed.
        eprintln!("xtask: something failed outside a test, such as a build ({status}); it counts as one failure");
        counts.failed = 1;
    }
    println!("{counts}");
    if counts.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Copies the output on as it comes, and counts.
fn stream(mut from: impl BufRead, counts: &mut Counts) -> io::Result<()> {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        let mut out = io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        counts.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}
