//! What a run of the harness found.

use crate::error::{Error, Result};
use std::fmt;

/// How the value of a check is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It has to be at most the limit.
    AtMost,
    /// It has to be at least the limit.
    AtLeast,
    /// The check was not run; the value is that of the quantity that exceeds the limit.
    Skipped,
}

/// One check.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was checked, such as `forward: taylor in x`.
    pub name: String,
    /// What came out; infinite for the order of a remainder that is nothing but rounding.
    pub value: f64,
    /// What it is compared with.
    pub limit: f64,
    /// How it is compared.
    pub rule: Rule,
    /// The verdict.
    pub passed: bool,
}

/// All checks of one subject. Prints as a table.
#[derive(Clone, Debug)]
#[must_use = "a report says nothing until it is printed or checked"]
pub struct Report {
    /// What was verified.
    pub subject: String,
    /// The checks in the order in which they were run.
    pub rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), rows: Vec::new() }
    }

    fn push(&mut self, name: impl Into<String>, value: f64, limit: f64, rule: Rule) {
        // A value that is no number fails either comparison.
        let passed = match rule {
            Rule::AtMost => value <= limit,
            Rule::AtLeast => value >= limit,
            Rule::Skipped => true,
        };
        self.rows.push(Row { name: name.into(), value, limit, rule, passed });
    }

    pub(super) fn at_most(&mut self, name: impl Into<String>, value: f64, limit: f64) {
        self.push(name, value, limit, Rule::AtMost);
    }

    pub(super) fn at_least(&mut self, name: impl Into<String>, value: f64, limit: f64) {
        self.push(name, value, limit, Rule::AtLeast);
    }

    pub(super) fn skipped(&mut self, name: impl Into<String>, value: f64, limit: f64) {
        self.push(name, value, limit, Rule::Skipped);
    }

    /// The checks that did not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.passed)
    }

    /// Passes if every check did.
    ///
    /// # Errors
    /// [`Error::Verification`] with the names, values and limits of those that did not.
    pub fn check(&self) -> Result<()> {
        let failed: Vec<String> = self.failed().map(|row| format!("  {row}")).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let count = format!("{} of {} checks failed", failed.len(), self.rows.len());
        Err(Error::Verification(format!("{}: {count}\n{}", self.subject, failed.join("\n"))))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, digits, limit) = match self.rule {
            Rule::AtLeast => ("≥", format!("{:.3}", self.value), self.limit.to_string()),
            Rule::AtMost => ("≤", format!("{:.2e}", self.value), format!("{:e}", self.limit)),
            Rule::Skipped => ("≤", self.value.to_string(), self.limit.to_string()),
        };
        let verdict = match (self.rule, self.passed) {
            (Rule::Skipped, _) => "skipped",
            (_, true) => "ok",
            (_, false) => "FAILED",
        };
        write!(f, "{:<58} {digits:>10} {sign} {limit:<8} {verdict}", self.name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        writeln!(f, "{:<58} {:>10}   {:<8} verdict", "check", "value", "limit")?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        write!(f, "{} of {} passed", self.rows.iter().filter(|row| row.passed).count(), self.rows.len())
    }
}
