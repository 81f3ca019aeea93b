//! How time and memory of a gradient step grow, what threads bring, what a long run leaves, what f32 loses.

use crate::compare::{build, example, number};
use crate::numbers::{megabytes, seconds};
use crate::page::Page;
use crate::{Outcome, announce, cargo, root};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Settings of the measurement.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Writes the tables to this file as well: between its lines `<!-- scaling -->` and `<!-- /scaling -->` where it has them.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// The picture.
    #[arg(long, default_value = "docs/scaling.png")]
    pub plot: PathBuf,
    /// Steps that are timed in each process.
    #[arg(long, default_value_t = 5)]
    pub repeat: usize,
}

/// What grows, and the cases in which it does.
struct Growth {
    what: &'static str,
    /// Its unit, as a label of an axis.
    unit: &'static str,
    /// The number on the axis, and the arguments of `gradient_step`.
    cases: Vec<(f64, String)>,
}

/// A case as it was measured.
struct Point {
    x: f64,
    /// On one thread, and on all.
    step_s: [f64; 2],
    memory: Option<f64>,
    gradients: f64,
}

const GLOW: &str = "glow --channels 3 --hidden 128 --levels 3";

fn growths() -> [Growth; 3] {
    let cases = |values: &[usize], of: fn(usize) -> (f64, String)| values.iter().map(|&v| of(v)).collect();
    [
        Growth {
            what: "depth",
            unit: "flow steps a level, K",
            cases: cases(&[4, 8, 16, 32], |k| (k as f64, format!("{GLOW} --size 64 --batch 8 --steps {k}"))),
        },
        Growth {
            what: "batch",
            unit: "images",
            cases: cases(&[1, 2, 4, 8, 16], |n| (n as f64, format!("{GLOW} --size 64 --batch {n} --steps 8"))),
        },
        Growth {
            what: "pixels",
            unit: "thousand pixels an image",
            cases: cases(&[32, 64, 96, 128, 192], |s| ((s * s) as f64 / 1e3, format!("{GLOW} --size {s} --batch 8 --steps 8"))),
        },
    ]
}

/// Measures, prints tables, draws the picture.
pub fn scaling(options: &Options) -> Outcome {
    let page = options.out.as_deref().map(|path| Page::open(path, "scaling")).transpose()?;
    build(&["gradient_step", "scaling_plot", "accuracy", "conv_sweep"])?;
    let mut text = String::from("### Depth, batch, pixels\n\n");
    let mut panels = Vec::new();
    let mut memory = Vec::new();
    for growth in growths() {
        let points = growth.cases.iter().map(|(x, case)| point(*x, case, options.repeat)).collect::<Result<Vec<_>, _>>()?;
        text += &table(&growth, &points);
        panels.push(panel(&growth, &points));
        if growth.what == "depth" {
            memory = points.iter().filter_map(|p| Some((p.x, p.memory?, p.memory? - p.gradients))).collect();
        }
    }
    panels.push(json!({
        "title": "memory against depth", "x": "flow steps a level, K", "y": "MB",
        "lines": [
            { "label": "all", "points": memory.iter().map(|m| (m.0, m.1)).collect::<Vec<_>>() },
            { "label": "without gradients", "points": memory.iter().map(|m| (m.0, m.2)).collect::<Vec<_>>() },
        ],
    }));
    // Where the system does not say how much memory is in use, that panel has nothing to show.
    panels.retain(|panel| panel["lines"][0]["points"].as_array().is_some_and(|points| !points.is_empty()));
    for section in [threads(options.repeat), long_runs(), accuracy(), random_shapes()] {
        // What does not run says so on the page; the others are not thrown away for it.
        text += &section.unwrap_or_else(|reason| format!("Not measured: {reason}\n\n"));
    }
    print!("{text}");
    draw(&panels, &options.plot)?;
    page.map_or(Ok(()), |page| page.write(&text))
}

fn point(x: f64, case: &str, repeat: usize) -> Result<Point, String> {
    let arguments = format!("{case} --repeat {repeat}");
    let one = example("gradient_step", &arguments, 1)?;
    let all = example("gradient_step", &arguments, 0)?;
    Ok(Point {
        x,
        step_s: [number(&one, "step_s")?, number(&all, "step_s")?],
        memory: number(&all, "delta_mb").ok(),
        gradients: number(&all, "gradients_mb")?,
    })
}

/// Time a unit of x, by that of the largest case: 1.00 all the way down is a straight line through the origin.
fn table(growth: &Growth, points: &[Point]) -> String {
    let last = points.last().map_or(f64::NAN, |p| p.step_s[1] / p.x);
    let mut text = format!(
        "| {} | time, all threads | for each, by the last | time, 1 thread | speed-up | memory | of it gradients |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        growth.unit
    );
    for p in points {
        let [one, all] = p.step_s;
        text += &format!(
            "| {} | {} | {:.2} | {} | {:.2} | {} | {} |\n",
            p.x,
            seconds(all),
            all / p.x / last,
            seconds(one),
            one / all,
            p.memory.map_or("-".into(), megabytes),
            megabytes(p.gradients)
        );
    }
    text + "\n"
}

fn panel(growth: &Growth, points: &[Point]) -> Value {
    let line = |label: &str, i: usize| json!({ "label": label, "points": points.iter().map(|p| (p.x, p.step_s[i])).collect::<Vec<_>>() });
    json!({ "title": format!("time against {}", growth.what), "x": growth.unit, "y": "s", "lines": [line("1 thread", 0), line("all threads", 1)] })
}

/// The best of three turns: what else runs on the machine only ever takes away.
fn threads(repeat: usize) -> Result<String, String> {
    let mut text =
        String::from("### One thread and all threads\n\n| case | 1 thread | all threads | speed-up |\n| --- | --- | --- | --- |\n");
    let cases = [
        ("Glow, 8 x 3 x 64 x 64, hidden 128, K=8", format!("{GLOW} --size 64 --batch 8 --steps 8")),
        (
            "hyperbolic, 32 channels x 48 x 48 x 48, depth 6, batch 1",
            "hyperbolic --size 48 --channels 32 --hidden 32 --depth 6 --batch 1".into(),
        ),
    ];
    for (name, case) in cases {
        let mut least = [f64::INFINITY; 2];
        for _ in 0..3 {
            let point = point(1.0, &case, repeat)?;
            least.iter_mut().zip(point.step_s).for_each(|(least, s)| *least = least.min(s));
        }
        text += &format!("| {name} | {} | {} | {:.2} |\n", seconds(least[0]), seconds(least[1]), least[0] / least[1]);
    }
    Ok(text + "\n")
}

fn long_runs() -> Result<String, String> {
    let mut text = String::from(
        "### The resident set of a long run\n\nGlow on 128 x 1 x 16 x 16, hidden 32, 2 levels, K=10.\n\n| steps | after the last | highest |\n| --- | --- | --- |\n",
    );
    for steps in [10, 1000] {
        let case = format!("glow --size 16 --batch 128 --channels 1 --hidden 32 --levels 2 --steps 10 --repeat {}", steps - 1);
        let line = example("gradient_step", &case, 0)?;
        let read = |key: &str| number(&line, key).map_or("-".into(), |mb| format!("{mb:.1} MB"));
        text += &format!("| {steps} | {} | {} |\n", read("end_mb"), read("peak_mb"));
    }
    Ok(text + "\n")
}

fn accuracy() -> Result<String, String> {
    let line = example("accuracy", "", 0)?;
    let mut text = String::from(
        "### Accuracy in f32\n\n| relative error | target | initialized | after 100 steps of Adam | and every eighth state kept | in f64, parameters off by half a bit of f32 |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (what, key, target) in [
        ("round trip of digits through 32 flow steps", "round_trip", "<= 1e-5"),
        ("gradient of 96 flow steps against f64", "gradient", "<= 1e-4"),
    ] {
        let read = |when: &str| number(&line, &format!("{key}_{when}")).map_or("-".into(), |v| format!("{v:.1e}"));
        text += &format!(
            "| {what} | {target} | {} | {} | {} | {} |\n",
            read("initialized"),
            read("trained"),
            read("trained_kept"),
            read("trained_rounded")
        );
    }
    Ok(text + "\n")
}

fn random_shapes() -> Result<String, String> {
    let line = example("conv_sweep", "--summary", 0)?;
    let read = |key: &str| number(&line, key);
    Ok(format!(
        "### Convolutions of random shapes\n\n`conv_sweep`: {} shapes, three operations each. Time of a multiply-add by that of the neighbouring round shape: \
         median {:.2}, worst {:.2}, above 1.3 in {} operations. Share of the peak: median {:.0} %, lowest {:.0} %, below 60 % in {} operations.\n",
        read("shapes")?,
        read("median_slower")?,
        read("worst_slower")?,
        read("slower_than_neighbour")?,
        100.0 * read("median_share_of_peak")?,
        100.0 * read("lowest_share_of_peak")?,
        read("below_share")?,
    ))
}

fn draw(panels: &[Value], plot: &Path) -> Outcome {
    let plot = root().join(plot).display().to_string();
    let args = ["run", "--quiet", "--release", "--package", "inn-examples", "--example", "scaling_plot", "--", "--out", &plot];
    announce(&args);
    let mut child = cargo().args(args).stdin(Stdio::piped()).spawn().map_err(|e| format!("cargo does not start: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why itself.
        let _ = stdin.write_all(Value::from(panels).to_string().as_bytes());
    }
    let status = child.wait().map_err(|e| format!("cargo does not end: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("the picture was not drawn ({status})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_equal_times_for_each() {
        let growth = &growths()[0];
        let point = |x: f64| Point { x, step_s: [0.02 * x, 0.01 * x], memory: None, gradients: 1.0 };
        let text = table(growth, &[point(4.0), point(8.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| 4 | 40.0 ms | 1.00 | 80.0 ms | 2.00 | - | 1 MB |");
        let panel = panel(growth, &[point(4.0)]);
        assert_eq!(panel["lines"][1]["points"][0], json!([4.0, 0.04]));
    }
}
