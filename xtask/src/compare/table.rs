//! Figures as Markdown.

use super::rows::{Figure, Group, Row, Unit};
use crate::numbers::{megabytes, seconds};
use std::fmt::Write;

/// Medians of one side of a row.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// One for each of [`Row::figures`].
    pub values: Vec<f64>,
    /// `delta_mb`.
    pub memory: Option<f64>,
}

/// A row with what was measured; `peers` in the order of [`Group::peers`].
#[derive(Clone, Debug)]
pub struct Measured {
    /// The case.
    pub row: Row,
    /// This project.
    pub ours: Side,
    /// Those that ran.
    pub peers: Vec<Option<Side>>,
}

/// A table of a group, or nothing where no row of it was measured. `peak` in operations a second.
pub fn table(group: Group, rows: &[Measured], peak: f64) -> String {
    let rows: Vec<&Measured> = rows.iter().filter(|m| m.row.group == group).collect();
    if rows.is_empty() {
        return String::new();
    }
    let ran = |peer: usize| rows.iter().any(|m| m.peers.get(peer).is_some_and(Option::is_some));
    let peers: Vec<usize> = (0..group.peers().len()).filter(|&peer| ran(peer)).collect();
    let memory = rows.iter().any(|m| m.row.memory.is_some());

    let mut head = vec!["case".to_owned(), "ours".to_owned()];
    head.extend(peers.iter().map(|&peer| group.peers()[peer].to_owned()));
    head.extend(["ratio of times", "target", "share of peak"].map(str::to_owned));
    if memory {
        head.extend(["memory", "target"].map(str::to_owned));
        head.extend(peers.iter().map(|&peer| format!("{}, memory", group.peers()[peer])));
    }
    head.push("verdict".to_owned());
    let mut text = format!("### {}\n\n", group.title());
    line(&mut text, &head);
    line(&mut text, &vec!["---".to_owned(); head.len()]);
    for measured in rows {
        for (i, figure) in measured.row.figures.iter().enumerate() {
            line(&mut text, &cells(measured, figure, i, &peers, memory, peak));
        }
    }
    text
}

fn line(text: &mut String, cells: &[String]) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn cells(measured: &Measured, figure: &Figure, i: usize, peers: &[usize], memory: bool, peak: f64) -> Vec<String> {
    let row = &measured.row;
    let side = |peer: usize| measured.peers.get(peer).and_then(Option::as_ref);
    let value = |side: &Side| side.values.get(i).copied().unwrap_or(f64::NAN);
    let ours = value(&measured.ours);
    let ratio = side(0).map(|theirs| time(figure.unit, ours) / time(figure.unit, value(theirs)));
    let share = figure.operations / time(figure.unit, ours) / peak;

    let colon = if figure.label.is_empty() { "" } else { ": " };
    let mut cells = vec![format!("{}{colon}{} (`{}`)", row.case, figure.label, row.name), quantity(figure.unit, ours)];
    cells.extend(peers.iter().map(|&peer| optional(side(peer), |s| quantity(figure.unit, value(s)))));
    cells.push(optional(ratio, |r| format!("{r:.2}")));
    cells.push(optional(figure.ratio, |r| format!("<= {r:.2}")));
    cells.push(format!("{:.0} %", 100.0 * share));
    if memory {
        cells.push(optional(measured.ours.memory, megabytes));
        cells.push(optional(row.memory, |mb| format!("<= {}", megabytes(mb))));
        cells.extend(peers.iter().map(|&peer| optional(side(peer).and_then(|s| s.memory), megabytes)));
    }
    cells.push(verdict(ratio.zip(figure.ratio), measured.ours.memory.zip(row.memory)));
    cells
}

/// By how much a row misses what it should reach: (found, target) of the ratio of times and of memory.
fn verdict(time: Option<(f64, f64)>, memory: Option<(f64, f64)>) -> String {
    let over = |what: &str, pair: Option<(f64, f64)>| {
        let (found, target) = pair?;
        // Not a number is no success.
        (found > target || found.is_nan()).then(|| format!("{what} {:.2}x", found / target))
    };
    let missed: Vec<String> = [over("time", time), over("memory", memory)].into_iter().flatten().collect();
    match (missed.is_empty(), time.is_none() && memory.is_none()) {
        (true, true) => "-".into(),
        (true, false) => "met".into(),
        _ => format!("**short**: {}", missed.join(", ")),
    }
}

/// Seconds of one operation, sample or step.
fn time(unit: Unit, value: f64) -> f64 {
    match unit {
        Unit::Seconds => value,
        Unit::Gflops | Unit::Samples => 1.0 / value,
    }
}

fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds => seconds(value),
        Unit::Gflops => format!("{value:.0} GFLOP/s"),
        Unit::Samples => format!("{:.3} million/s", value / 1e6),
    }
}

fn optional<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rows;

    fn side(values: &[f64], memory: Option<f64>) -> Side {
        Side { values: values.to_vec(), memory }
    }

    #[test]
    fn ratios_shares_and_verdicts() {
        let row = rows::all().into_iter().find(|r| r.name == "glow-64").unwrap();
        let operations = row.figures[0].operations;
        let peers = vec![Some(side(&[0.2], Some(280.0))), None, Some(side(&[0.5], None))];
        let good = Measured { row: row.clone(), ours: side(&[0.05], Some(15.0)), peers: peers.clone() };
        let bad = Measured { row, ours: side(&[0.164], Some(40.0)), peers };
        let text = table(Group::Glow, &[good, bad], operations / 0.1);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with("| case | ours | normflows | memcnn | ratio"), "{text}");
        assert!(
            lines[4].contains("| 50.0 ms | 200 ms | 500 ms | 0.25 | <= 0.41 | 200 % | 15 MB | <= 20 MB | 280 MB | - | met |"),
            "{text}"
        );
        assert!(lines[5].ends_with("| **short**: time 2.00x, memory 2.00x |"), "{text}");
    }

    #[test]
    fn rates_are_turned_into_times_and_tables_without_memory_have_no_column_of_it() {
        let row = rows::all().into_iter().find(|r| r.name == "conv-1").unwrap();
        let measured = Measured { row, ours: side(&[300.0, 300.0, f64::NAN], None), peers: vec![Some(side(&[100.0, 240.0, 100.0], None))] };
        let text = table(Group::Convolution, &[measured], 400e9);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[4].contains("forward (`conv-1`) | 300 GFLOP/s | 100 GFLOP/s | 0.33 | <= 0.38 | 75 % | met |"), "{text}");
        assert!(lines[5].contains("input gradient (`conv-1`)") && lines[5].ends_with("| **short**: time 1.15x |"), "{text}");
        assert!(lines[6].contains("**short**"), "{text}");
    }

    #[test]
    fn without_peers_memory_alone_decides() {
        let row = rows::all().into_iter().find(|r| r.name == "glow-1024").unwrap();
        let measured = Measured { row, ours: side(&[30.0], Some(1500.0)), peers: vec![] };
        let text = table(Group::Glow, std::slice::from_ref(&measured), 1e12);
        assert!(text.lines().nth(4).unwrap().ends_with("| 1,500 MB | <= 2,000 MB | met |"), "{text}");
        assert_eq!(table(Group::Dense, &[measured], 1e12), "");
    }
}
