//! The tasks of this workspace, in Rust: `cargo xtask <task>`.

mod counts;
mod dependencies;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use counts::Counts;

const USAGE: &str = "\
usage: cargo xtask <task>

  test-all        every test of the workspace, with all features; closes with one line of counts
                  (INN_REQUIRE_GPU=1 makes a missing GPU a failure)
  bench [CRATE]   the benches of one crate, or of all
  check           formatting, lints and documentation, without tests
  ci              check, then test-all
  dependencies    a table of how many crates each crate of the workspace depends on
";

/// Why a task did not succeed, in words; empty when everything has been said already.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["test-all"] => test_all(),
        ["bench"] => run(&["bench", "--workspace"], &[]),
        ["bench", package] if !package.starts_with('-') => run(&["bench", "--package", package], &[]),
        ["check"] => check(),
        ["ci"] => check().and_then(|()| test_all()),
        ["dependencies"] => dependencies::print(),
        ["help" | "-h" | "--help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
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
