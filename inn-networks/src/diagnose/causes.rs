//! From numbers to causes.

use super::report::{Diagnosis, Fault, Finding, LayerReport, NonFinite, Stage};

/// What helps against scales that run away.
const BOUND: &str = "bound the scale (ScaleMap::Bounded), start the last convolution of the coupling's network at zero or small, clip the \
                     gradient, or lower the learning rate";

/// What is wrong, the first cause first: bad parameters, bad data, the first layer that makes a value which is not finite, and then layers
/// that lose digits, in the order of the network.
pub(super) fn findings(diagnosis: &Diagnosis, round_trip_limit: f64, scale_limit: f64) -> Vec<Finding> {
    let mut findings: Vec<Finding> = diagnosis.bad_parameters.iter().map(|bad| bad_parameter(diagnosis, bad)).collect();
    let tainted = !findings.is_empty();
    for layer in &diagnosis.layers {
        if let Some(bad) = &layer.non_finite {
            // Whatever comes after the first one is its consequence, and all of them are of a bad parameter.
            if !tainted {
                findings.push(not_finite(layer, bad));
            }
            if bad.stage != Stage::Inverse {
                break;
            }
            continue;
        }
        findings.extend(measured(layer, diagnosis.epsilon, round_trip_limit, scale_limit));
    }
    if findings.is_empty() {
        findings.extend(drift(diagnosis, round_trip_limit));
    }
    findings
}

/// The layer that a parameter belongs to: the walk's path is the scope's, with the number of the part behind it.
fn owner<'a>(diagnosis: &'a Diagnosis, parameter: &str) -> Option<&'a LayerReport> {
    let inside = |layer: &&LayerReport| {
        let scope = layer.path.split('[').next().unwrap_or_default();
        parameter.strip_prefix(scope).is_some_and(|rest| rest.starts_with('.'))
    };
    // Of the parts of a step it is the first whose values are not finite.
    let mut parts = diagnosis.layers.iter().filter(inside);
    let bad = |layer: &LayerReport| layer.non_finite.as_ref().is_some_and(|n| n.stage != Stage::Input);
    parts.clone().find(|layer| bad(layer)).or_else(|| parts.next())
}

fn bad_parameter(diagnosis: &Diagnosis, bad: &NonFinite) -> Finding {
    let layer = owner(diagnosis, &bad.name).map_or_else(|| bad.name.clone(), |l| l.path.clone());
    let of_layer = owner(diagnosis, &bad.name).map(|l| format!(" of the {}", l.kind)).unwrap_or_default();
    let text = format!(
        "parameter {}{of_layer} is {} at index {} ({} of its values are not finite). A step of the optimizer overflowed or met a gradient that was \
         not finite: go back to the last good checkpoint, clip the gradient, lower the learning rate",
        bad.name, bad.value, bad.index, bad.count
    );
    Finding { layer, fault: Fault::BadParameter, text }
}

fn not_finite(layer: &LayerReport, bad: &NonFinite) -> Finding {
    let scale = layer.scale.map_or_else(String::new, |s| format!("; its scales reach from {:.1e} to {:.1e}", s.smallest, s.largest));
    let (fault, text) = match bad.stage {
        Stage::Input => {
            let text = format!("the data that come in are {} at index {}; look at the preprocessing", bad.value, bad.index);
            (Fault::BadInput, text)
        }
        Stage::Inverse => {
            let text = format!(
                "the {} maps finite values, but its inverse of them is {} at index {}: it divides by nearly nothing{scale}. {}",
                layer.kind,
                bad.value,
                bad.index,
                remedy(layer)
            );
            (Fault::InverseOverflow, text)
        }
        Stage::Output | Stage::LogDeterminant | Stage::Parameter => {
            let what = if bad.stage == Stage::LogDeterminant { "log-determinant" } else { "output" };
            let text = format!(
                "the first layer whose {what} is not finite: the {} turns finite values into {} at index {} ({} values){scale}. {}",
                layer.kind,
                bad.value,
                bad.index,
                bad.count,
                remedy(layer)
            );
            (Fault::Overflow, text)
        }
    };
    Finding { layer: layer.path.clone(), fault, text }
}

/// What helps, by what the layer is.
fn remedy(layer: &LayerReport) -> String {
    if layer.kind.contains("ActNorm") {
        "Initialize the network from a batch of the data (Model::initialize); drop or merge channels that are constant in it, or add noise"
            .into()
    } else if layer.scale.is_some() && layer.kind.contains("Coupling") {
        let mut text = BOUND.to_owned();
        if let Some(first) = text.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        text
    } else {
        "Use a mixing whose inverse is exact and well conditioned (Householder, or an LU factorization with a floor under its diagonal), and lower \
         the learning rate"
            .into()
    }
}

fn measured(layer: &LayerReport, epsilon: f64, round_trip_limit: f64, scale_limit: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |fault: Fault, text: String| found.push(Finding { layer: layer.path.clone(), fault, text });
    let channel =
        |which: fn((usize, usize)) -> usize| layer.scale_channels.map(|c| format!(" at its channel {}", which(c))).unwrap_or_default();
    if let Some(scale) = layer.scale {
        if scale.largest > scale_limit {
            let text = format!(
                "the {} scales by {:.1e}{}. Values explode forward and the inverse shrinks them to rounding. {}",
                layer.kind,
                scale.largest,
                channel(|c| c.1),
                remedy(layer)
            );
            add(Fault::LargeScale, text);
        }
        if scale.smallest < 1.0 / scale_limit {
            let text = format!(
                "the {} scales by {:.1e}{}: harmless forward, but the inverse divides by it and samples explode. {}",
                layer.kind,
                scale.smallest,
                channel(|c| c.0),
                remedy(layer)
            );
            add(Fault::SmallScale, text);
        }
    }
    let explained = layer.scale.is_some_and(|s| s.largest > scale_limit || s.smallest < 1.0 / scale_limit);
    let lost = |condition: f64| condition * epsilon > round_trip_limit;
    if let Some(condition) = layer.condition.filter(|c| !explained && (lost(*c) || *c > scale_limit * scale_limit)) {
        let smallest = layer.singular_values.map_or(f64::NAN, |s| s.smallest);
        let digits = condition.log10().max(0.0);
        let text = format!(
            "the {} is nearly singular: condition {condition:.1e}, smallest singular value {smallest:.1e}. The inverse, and each gradient, loses \
             {digits:.0} digits. {}",
            layer.kind,
            remedy(layer)
        );
        add(Fault::IllConditioned, text);
    } else if let Some(gain) = layer.gain.filter(|g| !explained && (*g > scale_limit || *g < 1.0 / scale_limit)) {
        add(Fault::Gain, format!("the {} changes the size of its input by a factor of {gain:.1e}. {}", layer.kind, remedy(layer)));
    }
    if let Some(error) = layer.round_trip.filter(|e| *e > round_trip_limit) {
        let text = format!(
            "the {} does not come back to its input: relative error {error:.1e} (limit {round_trip_limit:.1e}). Gradients are taken at recomputed \
             inputs and are wrong by as much. {}",
            layer.kind,
            remedy(layer)
        );
        add(Fault::InexactInverse, text);
    }
    found
}

/// Errors that no layer makes alone.
fn drift(diagnosis: &Diagnosis, limit: f64) -> Option<Finding> {
    let error = match diagnosis.round_trip {
        Some(error) if error <= limit => return None,
        Some(error) => format!("a relative error of {error:.1e} (limit {limit:.1e})"),
        None => "values that are not finite".into(),
    };
    let worst = diagnosis.layers.iter().filter_map(|l| Some((l.condition?, l))).max_by(|a, b| a.0.total_cmp(&b.0));
    let worst = worst.map(|(c, l)| format!("; the largest condition is {c:.1e}, of {} ({})", l.path, l.kind)).unwrap_or_default();
    let text = format!(
        "every layer inverts well, but their errors add up to {error} over {} layers{worst}. Keep every m-th state (a Trail with checkpoints), use \
         f64, or fewer or tamer layers",
        diagnosis.layers.len()
    );
    Some(Finding { layer: "network".into(), fault: Fault::Drift, text })
}
