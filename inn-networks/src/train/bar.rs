//! A progress bar.

use super::observer::{Observer, Progress, Record, drift_warning};
use indicatif::{ProgressBar, ProgressStyle};
use inn_core::Drift;
use std::ops::ControlFlow;

/// A progress bar on the standard error stream, with the loss of the batch (smoothed) and that of the held-out data; hidden where that
/// is no terminal.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    bar: Option<ProgressBar>,
    loss: Option<f64>,
    held_out: Option<f64>,
}

impl Observer for Bar {
    fn step(&mut self, record: &Record, progress: Progress) -> ControlFlow<()> {
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{bar:30} {pos}/{len} steps, epoch {prefix}, {eta} left, {msg}";
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(progress.steps).with_style(style);
            // A training that goes on does not count the steps before as done within no time.
            bar.with_position(progress.step - 1).with_elapsed(std::time::Duration::ZERO)
        });
        let loss = self.loss.map_or(record.loss, |mean| 0.95 * mean + 0.05 * record.loss);
        self.loss = Some(loss);
        self.held_out = record.held_out.or(self.held_out);
        let held_out = self.held_out.map(|v| format!(", held out {v:.3}")).unwrap_or_default();
        bar.set_prefix(format!("{}/{}", progress.epoch, progress.epochs));
        bar.set_message(format!("loss {loss:.3}{held_out}"));
        bar.set_position(progress.step);
        if progress.step == progress.steps {
            bar.finish();
        }
        ControlFlow::Continue(())
    }

    fn drift(&mut self, step: u64, drift: &Drift, limit: f64) {
        let text = format!("step {step}: {}", drift_warning(drift, limit));
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}
