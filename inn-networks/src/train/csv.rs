//! The log of a training as a CSV file.

use super::observer::Record;
use crate::files::atomic;
use inn_core::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const COLUMNS: &str = "step,epoch,loss,held_out,learning_rate,gradient_norm,drift,seconds";

/// A CSV file that grows by one line a step.
pub(super) struct Log {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Log {
    /// Begins a file with what is known already; an older file lends the seconds of the steps in `history` and is replaced.
    pub fn start(path: &Path, history: &[Record]) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let seconds = old_seconds(path);
        let mut text = format!("{COLUMNS}\n");
        for record in history {
            text += &line(record, seconds.get(&record.step).map_or("", String::as_str));
        }
        atomic::write_whole(path, text.as_bytes())?;
        let file = File::options().append(true).open(path).map_err(io)?;
        Ok(Self { path: path.into(), file: BufWriter::new(file) })
    }

    /// One line more; `seconds` since training began or was resumed.
    pub fn push(&mut self, record: &Record, seconds: f64) -> Result<()> {
        let text = line(record, &format!("{seconds:.3}"));
        self.file.write_all(text.as_bytes()).map_err(|e| Error::io(&self.path, e))
    }

    /// Hands all lines to the system.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| Error::io(&self.path, e))
    }
}

fn line(r: &Record, seconds: &str) -> String {
    let optional = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
    format!(
        "{},{},{},{},{},{},{},{seconds}\n",
        r.step,
        r.epoch,
        r.loss,
        optional(r.held_out),
        r.learning_rate,
        r.gradient_norm,
        optional(r.drift)
    )
}

/// The last column by step; nothing where there is no such file.
fn old_seconds(path: &Path) -> HashMap<u64, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (first, last) = (line.split(',').next()?, line.rsplit(',').next()?);
            last.parse::<f64>().ok()?;
            Some((first.parse().ok()?, last.to_owned()))
        })
        .collect()
}
