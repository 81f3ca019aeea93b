//! This project and its peers, side by side in one run on one machine.

mod rows;
mod table;

use crate::numbers::median;
use crate::page::Page;
use crate::{Outcome, cargo, root, run};
use rows::{Group, Row};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use table::{Measured, Side};

/// Settings of the comparison.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A Python with PyTorch and normflows (benchmarks/peers/README.md); without it only this project is measured.
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Only rows whose name starts so; may be given several times.
    #[arg(long, value_name = "ROW")]
    pub only: Vec<String>,
    /// How often each case is run on each side, in turns; figures are medians.
    #[arg(long, default_value_t = 3)]
    pub repeat: usize,
    /// Threads of both sides; all cores when 0.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Writes the tables to this file as well: between its lines `<!-- compare -->` and `<!-- /compare -->` where it has them.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Runs both sides in turns and prints tables of what they took.
pub fn compare(options: &Options) -> Outcome {
    let wanted = |row: &Row| options.only.is_empty() || options.only.iter().any(|start| row.name.starts_with(start.as_str()));
    let rows: Vec<Row> = rows::all().into_iter().filter(wanted).collect();
    if rows.is_empty() {
        let names: Vec<String> = rows::all().into_iter().map(|row| row.name).collect();
        return Err(format!("no row starts with any of {:?}; there are {}", options.only, names.join(", ")));
    }
    let page = options.out.as_deref().map(|path| Page::open(path, "compare")).transpose()?;
    if page.as_ref().is_some_and(Page::is_marked) && !options.only.is_empty() {
        return Err("a page with marks takes all rows; leave out --only, or write to another file".into());
    }
    build(&["peak", "gradient_step", "conv_throughput", "dense_flow"])?;
    let mut peak = Peak::measure(options)?;
    let mut versions = String::new();
    let mut failures = Vec::new();
    let measured: Vec<Measured> = rows.into_iter().map(|row| measure(row, options, &mut versions, &mut failures)).collect();
    peak.again(options)?;

    let mut text = heading(options, &peak, &versions);
    for group in Group::ALL {
        let table = table::table(group, &measured, peak.operations());
        if !table.is_empty() {
            text += &format!("\n{table}");
        }
    }
    text += &commands(&measured);
    print!("{text}");
    page.map_or(Ok(()), |page| page.write(&text))?;
    // What did not run has no figure in the tables; hours of others are not thrown away for it.
    if failures.is_empty() { Ok(()) } else { Err(format!("some cases have no figures:\n  {}", failures.join("\n  "))) }
}

/// Builds examples, so that the first run of one does not build.
pub fn build(examples: &[&str]) -> Outcome {
    let mut args = vec!["build", "--release", "--package", "inn-examples"];
    args.extend(examples.iter().flat_map(|example| ["--example", example]));
    run(&args, &[])
}

/// Runs an example and reads its line of JSON.
pub fn example(name: &str, arguments: &str, threads: usize) -> Result<Value, String> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "inn-examples", "--example", name, "--"]);
    command.args(arguments.split_whitespace()).args(["--threads", &threads.to_string()]);
    line(command, &format!("{name} {arguments}"))
}

fn peer(python: &Path, arguments: &str, threads: usize) -> Result<Value, String> {
    let mut command = Command::new(python);
    command.current_dir(root()).stdin(Stdio::null()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-W", "ignore", "benchmarks/peers/peers.py", "--threads", &threads.to_string()]).args(arguments.split_whitespace());
    line(command, &format!("peers.py {arguments}"))
}

/// What a command prints, as JSON. The line goes to the standard error stream as well: these are the raw figures.
fn line(mut command: Command, what: &str) -> Result<Value, String> {
    eprintln!("$ {what}");
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{what} does not start: {e}"))?;
    if !output.status.success() {
        return Err(format!("{what} failed ({})", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    eprint!("{text}");
    serde_json::from_str(text.trim()).map_err(|e| format!("{what}: expected a line of JSON, got {e}"))
}

/// The figure of a line; an error where it is missing.
pub fn number(line: &Value, key: &str) -> Result<f64, String> {
    line.get(key).and_then(Value::as_f64).ok_or_else(|| format!("no number {key} in {line}"))
}

/// Runs a row; what fails has no figures, and leaves its reason in `failures`.
fn measure(row: Row, options: &Options, versions: &mut String, failures: &mut Vec<String>) -> Measured {
    let labels = row.group.peers();
    let mut lines: Vec<Vec<Value>> = vec![Vec::new(); 1 + labels.len()];
    for _ in 0..options.repeat.max(1) {
        let (program, arguments) = &row.ours;
        match example(program, arguments, options.threads) {
            Ok(line) => lines[0].push(line),
            Err(reason) => failures.push(reason),
        }
        let Some(python) = &options.python else { continue };
        for (label, arguments) in &row.peers {
            let place = labels.iter().position(|l| l == label).map_or(0, |i| i + 1);
            match peer(python, arguments, options.threads) {
                Ok(line) => {
                    *versions = named(line.get("versions"));
                    lines[place].push(line);
                }
                Err(reason) => failures.push(reason),
            }
        }
    }
    let mut sides = lines.iter().map(|lines| {
        side(&row, lines).unwrap_or_else(|reason| {
            failures.push(reason);
            None
        })
    });
    let ours = sides.next().flatten().unwrap_or_default();
    let peers = sides.collect();
    Measured { row, ours, peers }
}

/// Medians over the lines of one side; nothing without lines.
fn side(row: &Row, lines: &[Value]) -> Result<Option<Side>, String> {
    if lines.is_empty() {
        return Ok(None);
    }
    let middle = |key: &str| Ok::<_, String>(median(&lines.iter().map(|line| number(line, key)).collect::<Result<Vec<_>, _>>()?));
    let values = row.figures.iter().map(|figure| middle(figure.key)).collect::<Result<_, _>>()?;
    // Where the system does not say, there is none.
    let memory = if row.memory.is_some() { middle("delta_mb").ok() } else { None };
    Ok(Some(Side { values, memory }))
}

/// `{"torch": "2.1", ..}` as words.
fn named(versions: Option<&Value>) -> String {
    let words = versions.and_then(Value::as_object).into_iter().flatten();
    words.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?"))).collect::<Vec<_>>().join(", ")
}

/// The machine, and its peak before and after.
struct Peak {
    line: Value,
    all: Vec<f64>,
}

impl Peak {
    fn measure(options: &Options) -> Result<Self, String> {
        let mut peak = Self { line: Value::Null, all: Vec::new() };
        peak.again(options)?;
        Ok(peak)
    }

    fn again(&mut self, options: &Options) -> Outcome {
        self.line = example("peak", "--seconds 2", options.threads)?;
        self.all.push(number(&self.line, "all_threads_gflops")?);
        Ok(())
    }

    /// Operations a second of all threads: the better reading, since other programs only take away.
    fn operations(&self) -> f64 {
        1e9 * self.all.iter().copied().fold(0.0, f64::max)
    }
}

fn heading(options: &Options, peak: &Peak, versions: &str) -> String {
    let word = |key: &str| peak.line.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let count = |key: &str| peak.line.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let readings: Vec<String> = peak.all.iter().map(|gflops| format!("{gflops:.0}")).collect();
    let rustc = Command::new("rustc").arg("--version").output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let peers = if versions.is_empty() { "not measured (no `--python`)" } else { versions };
    format!(
        "Processor: {} ({}), {} threads. Multiply-add peak in f32, measured before and after: {} GFLOP/s on all threads, {:.0} on one. \
         {}. Peers: {peers}. Figures are medians over {} runs of each side, in turns.\n",
        word("processor"),
        word("instructions"),
        count("threads"),
        readings.join(" and "),
        count("one_thread_gflops"),
        rustc.unwrap_or_default(),
        options.repeat.max(1),
    )
}

/// What was run, so that each figure can be had alone.
fn commands(measured: &[Measured]) -> String {
    let mut text = "\n### Commands\n\nA row alone: `cargo xtask compare --python PATH --only ROW`. It runs\n\n".to_owned();
    for Measured { row, .. } in measured {
        let (program, arguments) = &row.ours;
        text += &format!("- `{}`: `cargo run --release -p inn-examples --example {program} -- {arguments}`", row.name);
        for (_, arguments) in &row.peers {
            text += &format!(", `peers.py {arguments}`");
        }
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_a_side_and_missing_figures() {
        let row = rows::all().remove(0);
        let lines: Vec<Value> = [0.3, 0.1, 0.2].iter().map(|s| serde_json::json!({ "step_s": s, "delta_mb": 10.0 * s })).collect();
        let found = side(&row, &lines).unwrap().unwrap();
        assert_eq!((found.values, found.memory), (vec![0.2], Some(2.0)));
        assert!(side(&row, &[]).unwrap().is_none());
        assert!(side(&row, &[serde_json::json!({ "step_s": null })]).unwrap_err().contains("step_s"));
        assert_eq!(side(&row, &[serde_json::json!({ "step_s": 1, "delta_mb": null })]).unwrap().unwrap().memory, None);
    }

    #[test]
    fn versions_in_words() {
        assert_eq!(named(Some(&serde_json::json!({ "torch": "2.1", "python": "3.11" }))), "python 3.11, torch 2.1");
        assert_eq!(named(None), "");
    }
}
