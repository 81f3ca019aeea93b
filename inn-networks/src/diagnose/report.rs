//! What was measured, and how it prints.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A smallest and a largest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The smallest.
    pub smallest: f64,
    /// The largest.
    pub largest: f64,
}

/// Where a value was that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// It came in.
    Input,
    /// The layer made it.
    Output,
    /// The log-determinant.
    LogDeterminant,
    /// The layer's inverse made it, at the layer's own output.
    Inverse,
    /// A parameter.
    Parameter,
}

/// A value that is not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NonFinite {
    /// Where.
    pub stage: Stage,
    /// The layer, or the parameter.
    pub name: String,
    /// Flat index of the first such value.
    pub index: usize,
    /// `NaN`, `inf` or `-inf`.
    pub value: String,
    /// How many there are.
    pub count: usize,
}

/// One layer. Numbers that could not be measured, or are not finite, are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Where it is in the network, `level0.step3[2]`.
    pub path: String,
    /// What it is.
    pub kind: String,
    /// The shape of its input.
    pub shape: Vec<usize>,
    /// |f⁻¹(f(x)) - x| / |x|.
    pub round_trip: Option<f64>,
    /// |f(x)| / |x|.
    pub gain: Option<f64>,
    /// Estimates of the ends of the singular values of ∂f/∂x: the largest from below, the smallest from above.
    pub singular_values: Option<Range>,
    /// Their ratio.
    pub condition: Option<f64>,
    /// The log-determinant of the layer, mean over the batch, in nats.
    pub logdet: Option<f64>,
    /// The same over the batch, smallest and largest.
    pub logdet_range: Option<Range>,
    /// Smallest and largest scale, of layers that scale.
    pub scale: Option<Range>,
    /// The channels, among those that are scaled, where these are.
    pub scale_channels: Option<(usize, usize)>,
    /// The first value that is not finite.
    pub non_finite: Option<NonFinite>,
}

/// What is wrong with a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// A parameter is NaN or infinite.
    BadParameter,
    /// The data are.
    BadInput,
    /// The layer turns finite values into others.
    Overflow,
    /// Its inverse does.
    InverseOverflow,
    /// A scale that is very large.
    LargeScale,
    /// A scale that is nearly 0: harmless forward, a division by nearly 0 backward.
    SmallScale,
    /// Nearly singular.
    IllConditioned,
    /// It does not come back to its input.
    InexactInverse,
    /// Values grow or shrink by much.
    Gain,
    /// No layer is bad by itself, but errors add up.
    Drift,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The layer's path; `network` for the whole.
    pub layer: String,
    /// What is wrong.
    pub fault: Fault,
    /// What was seen, why it is bad, and what helps.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.layer, self.text)
    }
}

/// A network, layer by layer. Prints as a table with the findings below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// `f32` or `f64`.
    pub number_type: String,
    /// The distance from 1 to the next number.
    pub epsilon: f64,
    /// `forward` or `inverse`.
    pub direction: String,
    /// Number of parameters.
    pub parameters: usize,
    /// Parameters with values that are not finite.
    pub bad_parameters: Vec<NonFinite>,
    /// The layers, in the order in which they were passed.
    pub layers: Vec<LayerReport>,
    /// |f⁻¹(f(x)) - x| / |x| of the whole network.
    pub round_trip: Option<f64>,
    /// |f(x)| / |x| of the whole network.
    pub gain: Option<f64>,
    /// Its log-determinant, mean over the batch, in nats.
    pub logdet: Option<f64>,
    /// What is wrong, the first cause first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Nothing was found.
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    /// The layer that the first finding names.
    pub fn culprit(&self) -> Option<&str> {
        self.findings.first().map(|f| f.layer.as_str())
    }

    /// The first layer with a value that is not finite.
    pub fn first_non_finite(&self) -> Option<&NonFinite> {
        self.layers.iter().find_map(|l| l.non_finite.as_ref())
    }
}

/// A number in at most ten characters.
fn short(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(v) if v == 0.0 || (1e-2..1e4).contains(&v.abs()) => format!("{v:.3}"),
        Some(v) => format!("{v:.1e}"),
    }
}

const HEAD: [&str; 9] = ["layer", "kind", "round trip", "gain", "σ min", "σ max", "condition", "ln det", "scale"];

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |l: &LayerReport| {
            let scale = l.scale.map_or("-".into(), |r| format!("{} .. {}", short(Some(r.smallest)), short(Some(r.largest))));
            [
                l.path.clone(),
                l.kind.clone(),
                short(l.round_trip),
                short(l.gain),
                short(l.singular_values.map(|r| r.smallest)),
                short(l.singular_values.map(|r| r.largest)),
                short(l.condition),
                short(l.logdet),
                match &l.non_finite {
                    Some(bad) => format!("{scale}  {} ({:?})", bad.value, bad.stage),
                    None => scale,
                },
            ]
        };
        let network = [
            "network".into(),
            format!("{} {}", self.direction, self.number_type),
            short(self.round_trip),
            short(self.gain),
            "-".into(),
            "-".into(),
            "-".into(),
            short(self.logdet),
            String::new(),
        ];
        let rows: Vec<[String; 9]> = [HEAD.map(String::from)].into_iter().chain(self.layers.iter().map(row)).chain([network]).collect();
        let mut widths = [0; 9];
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(w, cell)| *w = (*w).max(cell.chars().count()));
        }
        for row in &rows {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
                line += &if i < 2 || i == 8 { format!("{cell:<width$}  ") } else { format!("{cell:>width$}  ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        match self.findings.as_slice() {
            [] => write!(f, "nothing found"),
            findings => {
                for (i, finding) in findings.iter().enumerate() {
                    let end = if i + 1 < findings.len() { "\n" } else { "" };
                    write!(f, "{finding}{end}")?;
                }
                Ok(())
            }
        }
    }
}
