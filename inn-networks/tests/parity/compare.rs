//! Comparing arrays, and the book that is kept about it.

use inn_networks::import::{Array, Source};
use std::collections::HashSet;

/// Largest deviation in f64, in units of the largest value of the array.
const DOUBLE: f64 = 1e-9;
/// The same for central differences of the original.
const DIFFERENCE: f64 = 1e-5;
/// What such a difference is at least taken to be, as a part of what its terms add up to if none cancel.
const FLOOR: f64 = 1e-3;
/// The same for a difference that is lost in rounding.
const ROUNDED_FLOOR: f64 = 2e-2;
/// f32 may deviate from the f64 reference by this factor times what the original's own f32 does at most in its list of arrays, all relative to the
/// largest value, and by this many units in the last place. Of all cases of the original the gradient of a condition's mixing
/// (`condhint_2d_c4`) needs most, a factor of 1.23: rounding the numbers that go in moves it by 166 units, and the original has 23 by luck.
const FACTOR: f64 = 2.0;
const ULPS: f64 = 16.0;
/// How far beyond what is allowed the original has to be where it is called wrong.
const WRONG: f64 = 100.0;

/// The number type of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    Single,
    Double,
}

impl Precision {
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Single => "f32",
            Self::Double => "f64",
        }
    }
}

/// Arrays of a case that are not to be met, with the reason.
pub struct Exclusion {
    /// How their names begin, without the number type.
    pub prefix: String,
    pub reason: &'static str,
    /// How far the original is from us there, in units of what is allowed, where we compute it.
    disagreement: Option<f64>,
}

impl Exclusion {
    pub fn new(prefix: impl Into<String>, reason: &'static str) -> Self {
        Self { prefix: prefix.into(), reason, disagreement: None }
    }
}

/// The results of all comparisons of one case.
pub struct Book<'a> {
    pub source: &'a Source,
    name: String,
    exclusions: Vec<Exclusion>,
    /// Arrays that were looked at.
    touched: HashSet<String>,
    precision: Precision,
    pub comparisons: usize,
    pub excluded: usize,
    /// Central differences of the original that are less exact, for rounding.
    rounded: usize,
    /// Worst deviations in units of the array's largest value: f32, f64, central differences.
    pub worst: [f64; 3],
    pub failures: Vec<String>,
}

impl<'a> Book<'a> {
    pub fn new(name: &str, source: &'a Source, exclusions: Vec<Exclusion>) -> Self {
        Self {
            source,
            name: name.to_owned(),
            exclusions,
            touched: HashSet::new(),
            precision: Precision::Double,
            comparisons: 0,
            excluded: 0,
            rounded: 0,
            worst: [0.0; 3],
            failures: Vec::new(),
        }
    }

    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the original has results of this group.
    pub fn has(&self, group: &str) -> bool {
        let prefix = format!("{}.{group}.", self.precision.prefix());
        self.source.names().any(|name| name.starts_with(&prefix))
    }

    /// Notes that an array is not to be met, if so.
    fn is_excluded(&mut self, key: &str, disagreement: Option<f64>) -> bool {
        let Some(exclusion) = self.exclusions.iter_mut().find(|e| key.starts_with(&e.prefix)) else { return false };
        exclusion.disagreement = exclusion.disagreement.into_iter().chain(disagreement).reduce(f64::max);
        self.excluded += 1;
        true
    }

    /// The largest deviation of the original's f32 from its f64 among `key` and what stands in a list with it. One array may be right by chance.
    fn rounding(&self, key: &str) -> f64 {
        let list = key.rsplit_once('.').filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit())).map_or(key, |(list, _)| list);
        let names = self.source.names().filter_map(|name| name.strip_prefix("f32.")).filter(|name| name.starts_with(list));
        let relative = |name: &str| {
            let (single, double) = (self.source.find(&format!("f32.{name}"))?, self.source.find(&format!("f64.{name}"))?);
            Some(distance(single, double) / largest(double))
        };
        names.filter_map(relative).fold(0.0, f64::max)
    }

    /// Compares `ours` with the reference `key`, if there is one.
    pub fn compare(&mut self, key: &str, ours: &Array) {
        let name = format!("{}.{key}", self.precision.prefix());
        let Some(reference) = self.source.find(&name) else { return };
        self.touched.insert(name.clone());
        if ours.values.len() != reference.values.len() {
            self.failures.push(format!("{} {name}: {:?} of ours, {:?} of theirs", self.name, ours.dims, reference.dims));
            return;
        }
        let truth = match self.precision {
            Precision::Single => self.source.find(&format!("f64.{key}")).unwrap_or(reference),
            Precision::Double => reference,
        };
        let scale = largest(truth);
        let deviation = distance(ours, truth);
        let allowed = match self.precision {
            Precision::Double => DOUBLE * scale,
            Precision::Single => FACTOR * self.rounding(key) * scale + ULPS * f64::from(f32::EPSILON) * scale,
        };
        if self.is_excluded(key, Some(deviation / allowed)) {
            return;
        }
        self.note(usize::from(self.precision == Precision::Double), deviation / scale);
        if deviation > allowed {
            self.failures
                .push(format!("{} {name}: deviates by {deviation:.2e}, allowed {allowed:.2e}, largest value {scale:.2e}", self.name));
        }
    }

    /// Compares arrays with `key0`, `key1`, ..
    pub fn compare_lanes(&mut self, key: &str, ours: &[Array]) {
        ours.iter().enumerate().for_each(|(i, ours)| self.compare(&format!("{key}{i}"), ours));
    }

    /// Compares arrays with `key.000`, `key.001`, ..
    pub fn compare_list(&mut self, key: &str, ours: &[Array]) {
        ours.iter().enumerate().for_each(|(i, ours)| self.compare(&format!("{key}.{i:03}"), ours));
    }

    /// Compares a number.
    pub fn compare_number(&mut self, key: &str, ours: f64) {
        self.compare(key, &Array { dims: vec![], values: vec![ours] });
    }

    /// A central difference of the original and how far a derivative of ours is from it; `scale` is what its terms add up to if none cancel.
    fn difference(&self, key: &str, index: usize, ours: f64, (floor, scale): (f64, f64)) -> Option<(f64, f64)> {
        let reference = *self.source.find(&format!("f64.fd.{key}"))?.values.get(index)?;
        Some((reference, (ours - reference).abs() / reference.abs().max(floor * scale).max(1e-3)))
    }

    /// Compares a derivative with the original's central difference. Where the terms nearly cancel, the rounding of the difference may be larger than
    /// what is allowed: then `again`, a central difference of ours, has to say that the derivative is right.
    pub fn compare_difference(&mut self, key: &str, index: usize, ours: f64, scale: f64, again: impl FnOnce(&Self) -> Option<f64>) {
        let Some((reference, deviation)) = self.difference(key, index, ours, (FLOOR, scale)) else { return };
        let name = format!("f64.fd.{key}");
        self.touched.insert(name.clone());
        if self.is_excluded(&format!("fd.{key}.{index:03}"), Some(deviation / DIFFERENCE)) {
            return;
        }
        if deviation <= DIFFERENCE {
            return self.note(2, deviation);
        }
        let rounded = self.difference(key, index, ours, (ROUNDED_FLOOR, scale)).is_some_and(|(_, deviation)| deviation <= DIFFERENCE);
        let again = again(self);
        if rounded && again.is_some_and(|again| (again - ours).abs() <= DIFFERENCE * ours.abs().max(FLOOR * scale)) {
            self.rounded += 1;
            return;
        }
        self.note(2, deviation);
        self.failures.push(format!("{} {name} [{index}]: {ours:e} of ours, {again:?} by differences, {reference:e} of theirs", self.name));
    }

    fn note(&mut self, column: usize, deviation: f64) {
        self.comparisons += 1;
        self.worst[column] = self.worst[column].max(deviation);
    }

    /// A line of the table, and one for each exclusion. Every array of the file has to have been compared or excluded, and every exclusion
    /// has to be needed: where we compute what it covers, the original disagrees.
    pub fn close(&mut self) -> String {
        for name in self.source.names() {
            let key = name.strip_prefix("f32.").or(name.strip_prefix("f64."));
            if let Some(key) = key.filter(|_| !self.touched.contains(name))
                && !self.is_excluded(key, None)
            {
                self.failures.push(format!("{} {name}: not compared with anything", self.name));
            }
        }
        for e in &self.exclusions {
            if let Some(d) = e.disagreement.filter(|d| *d <= WRONG) {
                let text = format!("{} {}: excluded without need ({}), {d:.1e} of what is allowed", self.name, e.prefix, e.reason);
                self.failures.push(text);
            }
        }
        let [single, double, difference] = self.worst;
        let mut line = format!("{:26} {:5} {double:8.1e} {single:8.1e} {difference:8.1e} {:5}", self.name, self.comparisons, self.excluded);
        if self.rounded > 0 {
            line += &format!("\n    {} central differences of little precision", self.rounded);
        }
        for e in &self.exclusions {
            let off = e.disagreement.map_or(String::new(), |d| format!(", off by {d:.0e} times what is allowed"));
            line += &format!("\n    excluded {}: {}{off}", e.prefix, e.reason);
        }
        line
    }
}

fn largest(a: &Array) -> f64 {
    a.values.iter().fold(1e-3f64, |m, v| m.max(v.abs()))
}

/// The largest difference of two values; infinite where one is NaN.
fn distance(a: &Array, b: &Array) -> f64 {
    let difference = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    a.values.iter().zip(&b.values).map(difference).fold(0.0, f64::max)
}
