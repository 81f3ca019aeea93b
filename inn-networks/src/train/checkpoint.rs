//! A training as a file: a network's file with weights in the group `weights/`, and beside them
//!
//! | tensors | hold |
//! |---|---|
//! | `first_moment/`, `second_moment/`, `velocity/` | what the optimizer keeps |
//! | `average/` | the averaged weights |
//! | `best/` | the weights of the best evaluation |
//! | `records` | one row a step, see [`COLUMNS`]; NaN where there is nothing |
//!
//! The settings, the position and the counts are in the metadata. Random numbers are functions of (seed, epoch, sample), so that their state is
//! the seed and the step.

use super::observer::Record;
use super::options::Options;
use super::state::{Best, Counters, State};
use crate::files::archive::{self, Archive, Content, Header, Stored};
use crate::files::{Description, WEIGHTS, weights};
use crate::optim::{Average, Moments};
use inn_core::{Backend, Element, Invertible, Model, Params, Result};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::path::Path;

const AVERAGE: &str = "average/";
const BEST: &str = "best/";
const RECORDS: &str = "records";
/// Step, epoch, loss, held-out loss, learning rate, norm of the gradient, drift.
const COLUMNS: usize = 7;

/// The `training` entry of the metadata.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    options: Options,
    counters: Counters,
    moment_steps: u64,
    average_updates: Option<u64>,
    /// Loss and step of the best evaluation.
    best: Option<(f64, u64)>,
}

/// Writes a checkpoint, atomically.
pub(super) fn write<L: Invertible, B: Backend>(
    path: &Path,
    model: &Model<L, B>,
    options: &Options,
    state: &State<B>,
    description: &Description,
) -> Result<()> {
    let training = Training {
        options: options.clone(),
        counters: state.counters,
        moment_steps: state.moments.steps(),
        average_updates: state.average.as_ref().map(Average::updates),
        best: state.best.as_ref().map(|best| (best.loss, best.step)),
    };
    let mut header = Header::new(Content::Checkpoint, model.is_initialized(), B::Elem::NAME);
    header.describe(description);
    let value =
        serde_json::to_value(training).map_err(|e| inn_core::Error::format(path, format!("the settings cannot be written: {e}")))?;
    header.training = Some(value);
    let mut tensors: Vec<Stored> = Vec::new();
    weights::store(WEIGHTS, model.params(), &mut tensors)?;
    for (name, vector) in options.optimizer.moment_names().iter().zip(state.moments.vectors()) {
        weights::store(&format!("{name}/"), vector, &mut tensors)?;
    }
    if let Some(average) = &state.average {
        weights::store(AVERAGE, average.params(), &mut tensors)?;
    }
    if let Some(best) = &state.best {
        weights::store(BEST, &best.params, &mut tensors)?;
    }
    if !state.records.is_empty() {
        tensors.push(store_records(&state.records));
    }
    archive::write(path, &header, &tensors)
}

/// Reads a checkpoint of the training of `model` with `options`; nothing is changed on an error.
pub(super) fn read<L: Invertible, B: Backend>(
    path: &Path,
    model: &mut Model<L, B>,
    options: &Options,
    known: &Description,
) -> Result<(State<B>, Description)> {
    let archive = Archive::open(path)?;
    let Some(training) = archive.header.training.clone().filter(|_| archive.header.content == Content::Checkpoint) else {
        return Err(archive.fail("expected a checkpoint of a training, got a network; load it and train it from the start"));
    };
    if archive.header.dtype != B::Elem::NAME {
        let got = &archive.header.dtype;
        return Err(archive.fail(format!("expected a checkpoint of a training in {}, got one in {got}", B::Elem::NAME)));
    }
    let training: Training =
        serde_json::from_value(training).map_err(|e| archive.fail(format!("the state of the training is malformed: {e}")))?;
    if let Some((name, expected, got)) = training.options.difference(options) {
        return Err(archive.fail(format!("setting `{name}`: expected {expected}, with which training began, got {got}")));
    }
    let description = archive.header.description();
    if let (Some(kind), Some(_)) = (&known.kind, &description.kind) {
        archive.expect_kind(kind)?;
        if known.config != description.config {
            return Err(archive.fail(format!("expected a training of the same `{kind}`, got one with another configuration")));
        }
    }
    let (backend, layout) = (model.backend().clone(), model.layout().clone());
    let tensors = archive.tensors()?;
    let restore = |group: &str| -> Result<Params<B>> {
        weights::expect_only(&archive, &tensors, group, &layout)?;
        weights::restore(&archive, &tensors, group, &backend, &layout)
    };
    let params = restore(WEIGHTS)?;
    let names = options.optimizer.moment_names();
    let vectors = names.iter().map(|name| restore(&format!("{name}/"))).collect::<Result<Vec<_>>>()?;
    let moments = Moments::from_parts(options.optimizer, training.moment_steps, vectors, &params)?;
    let average = match (options.ema, training.average_updates) {
        (Some(decay), Some(updates)) => Some(Average::from_parts(decay, updates, restore(AVERAGE)?)?),
        _ => None,
    };
    let best = match training.best {
        Some((loss, step)) => Some(Best { loss, step, params: restore(BEST)? }),
        None => None,
    };
    let records = match tensors.tensor(RECORDS) {
        Ok(tensor) => match (tensor.shape(), weights::values_of(&tensor)) {
            ([_, COLUMNS], Some(values)) => values.chunks_exact(COLUMNS).map(restore_record).collect(),
            _ => return Err(archive.fail(format!("tensor {RECORDS}: expected [steps, {COLUMNS}] numbers, got {:?}", tensor.shape()))),
        },
        Err(_) => Vec::new(),
    };
    if records.len() as u64 != training.counters.step {
        let expected = training.counters.step;
        return Err(archive.fail(format!("tensor {RECORDS}: expected {expected} steps, got {}", records.len())));
    }
    *model.params_mut() = params;
    model.set_initialized(archive.header.initialized);
    Ok((State { counters: training.counters, moments, average, best, records }, description))
}

fn store_records(records: &[Record]) -> Stored {
    let mut values: Vec<f64> = Vec::with_capacity(records.len() * COLUMNS);
    for r in records {
        let optional = |v: Option<f64>| v.unwrap_or(f64::NAN);
        values.extend([r.step as f64, r.epoch as f64, r.loss, optional(r.held_out), r.learning_rate, r.gradient_norm, optional(r.drift)]);
    }
    Stored { name: RECORDS.into(), dtype: Dtype::F64, dims: vec![records.len(), COLUMNS], bytes: weights::bytes_of(&values) }
}

fn restore_record(row: &[f64]) -> Record {
    let at = |i: usize| row.get(i).copied().unwrap_or(f64::NAN);
    let optional = |i: usize| Some(at(i)).filter(|v| !v.is_nan());
    Record {
        step: at(0) as u64,
        epoch: at(1) as u64,
        loss: at(2),
        held_out: optional(3),
        learning_rate: at(4),
        gradient_norm: at(5),
        drift: optional(6),
    }
}
