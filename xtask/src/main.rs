//! The tasks of this workspace, in Rust: `cargo xtask <task>`.

mod compare;
mod counts;
mod dependencies;
mod levels;
mod numbers;
mod page;
mod scaling;

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
    /// Every test of the workspace, with all features and each instruction set that this machine has; closes with one line of counts.
    ///
    /// INN_SIMD=avx512, avx2, neon or scalar picks one instruction set; INN_REQUIRE_GPU=1 makes a missing GPU a failure.
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
    /// The numbers of the original library in a folder, met by ours: a table of every case with its errors, and what is excluded and why.
    ///
    /// Columns: comparisons, largest error in f64 (at most 1e-9) and in f32 relative to the array's largest value, largest error of derivatives
    /// against the original's central differences (at most 1e-5), arrays excluded. Fails where a case disagrees or is not known.
    Parity {
        /// Cases as safetensors, and their index.json.
        folder: std::path::PathBuf,
    },
    /// A table of how many crates each crate of the workspace depends on.
    Dependencies,
    /// This project against its peers in one run: tables of times, ratios, memory, share of the machine's peak.
    Compare(compare::Options),
    /// How time and memory grow with depth, batch and pixels; threads, long runs, accuracy, random shapes: tables and a picture.
    Scaling(scaling::Options),
    /// Measures everything in BENCHMARKS.md: compare, then scaling (an hour or so, on a machine that does nothing else).
    Benchmarks {
        /// A Python with PyTorch and normflows (benchmarks/peers/README.md).
        #[arg(long)]
        python: std::path::PathBuf,
    },
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
        Task::Parity { folder } => parity(&folder),
        Task::Dependencies => dependencies::print(),
        Task::Compare(options) => compare::compare(&options),
        Task::Scaling(options) => scaling::scaling(&options),
        Task::Benchmarks { python } => benchmarks(python),
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

/// Both parts of the page, the second even where some case of the first failed.
fn benchmarks(python: std::path::PathBuf) -> Outcome {
    let page = root().join("BENCHMARKS.md");
    let compared =
        compare::compare(&compare::Options { python: Some(python), only: vec![], repeat: 3, threads: 0, out: Some(page.clone()) });
    let scaled = scaling::scaling(&scaling::Options { out: Some(page), plot: "docs/scaling.png".into(), repeat: 5 });
    compared.and(scaled)
}

/// The test of parity alone, on all cases of `folder`.
fn parity(folder: &Path) -> Outcome {
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    let folder = folder.to_str().ok_or("expected a path in UTF-8")?;
    let test = ["--test", "parity", "every_case_agrees_with_the_original", "--", "--exact", "--nocapture"];
    run(&[&["test", "--release", "--package", "inn-networks"], &test[..]].concat(), &[("INN_PARITY_DIR", folder)])
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
    run(&["doc", "--workspace", "--all-features", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    if has_standard_library(ARM) {
        run(&["check", "--target", ARM, "--package", "inn-ops"], &[])
    } else {
        eprintln!("xtask: the NEON code was not checked, for want of a standard library; `rustup target add {ARM}` brings it");
        Ok(())
    }
}

/// Whose vectors are NEON.
const ARM: &str = "aarch64-unknown-linux-gnu";

/// Whether code for `target` can be checked here.
fn has_standard_library(target: &str) -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).current_dir(root()).output();
    let Ok(output) = output else { return false };
    let folder = String::from_utf8_lossy(&output.stdout);
    let files = std::fs::read_dir(folder.trim()).into_iter().flatten().flatten();
    output.status.success() && files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Unit, integration and doc tests in the test profile: optimized, with debug assertions and overflow checks, which release would leave out.
///
/// The whole suite runs with the widest vectors that the machine has, and all of it but the doc tests, which would be compiled anew, with each
/// other instruction set: the programs are there already, so that costs their time alone. `INN_SIMD` in the environment picks one.
fn test_all() -> Outcome {
    if std::env::var("INN_REQUIRE_GPU").is_ok_and(|v| v == "1") {
        eprintln!("INN_REQUIRE_GPU=1: without a GPU the tests fail");
    }
    let mut total = Counts::default();
    let mut lines = Vec::new();
    if let Ok(level) = std::env::var("INN_SIMD") {
        let counts = test(&level, &[])?;
        lines.push(format!("{level}, from INN_SIMD: {counts}"));
        total += counts;
    } else {
        let mut only: &[&str] = &[];
        for level in levels::all() {
            if level.available {
                let counts = test(level.name, only)?;
                lines.push(format!("{}: {counts}", level.name));
                total += counts;
                only = &["--tests"];
            } else {
                lines.push(format!("{}: not run, this machine lacks it", level.name));
            }
        }
    }
    lines.iter().for_each(|line| println!("{line}"));
    println!("{total}");
    if total.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// The tests with one instruction set; `only` picks kinds of tests.
fn test(level: &str, only: &[&str]) -> Result<Counts, String> {
    let args = [&["test", "--workspace", "--all-features", "--no-fail-fast"], only].concat();
    eprint!("INN_SIMD={level} ");
    announce(&args);
    let start = |e: io::Error| format!("cargo does not start: {e}");
    let mut child = cargo().args(args).env("INN_SIMD", level).stdout(Stdio::piped()).spawn().map_err(start)?;
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
    Ok(counts)
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
