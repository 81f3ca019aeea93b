//! What a training goes on from.

use super::observer::Record;
use crate::optim::{Average, Moments, Optimizer};
use inn_core::{Backend, Params, Result};
use serde::{Deserialize, Serialize};

/// The position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Counters {
    /// Steps done.
    pub step: u64,
    /// Evaluations in a row that brought no better loss.
    pub waited: u64,
    /// Size of the set that is trained on, once it is known: steps count epochs by it.
    pub samples: Option<u64>,
}

/// The weights of the best evaluation.
pub(super) struct Best<B: Backend> {
    pub loss: f64,
    pub step: u64,
    pub params: Params<B>,
}

/// Everything but the weights themselves.
pub(super) struct State<B: Backend> {
    pub counters: Counters,
    pub moments: Moments<B>,
    /// From the first step on, if there is to be one.
    pub average: Option<Average<B>>,
    pub best: Option<Best<B>>,
    pub records: Vec<Record>,
}

impl<B: Backend> State<B> {
    pub fn new(optimizer: Optimizer, params: &Params<B>) -> Result<Self> {
        let moments = Moments::new(optimizer, params)?;
        Ok(Self { counters: Counters::default(), moments, average: None, best: None, records: Vec::new() })
    }

    /// The weights to evaluate: averaged ones, or those that are trained.
    pub fn averaged<'a>(&'a self, params: &'a Params<B>) -> &'a Params<B> {
        self.average.as_ref().map_or(params, Average::params)
    }

    /// Takes the loss of an evaluation into account: keeps the weights if it is the best one.
    pub fn evaluated(&mut self, loss: f64, min_improvement: f64, params: &Params<B>) -> Result<()> {
        let better = loss.is_finite() && self.best.as_ref().is_none_or(|best| loss < best.loss - min_improvement);
        if !better {
            self.counters.waited += 1;
            return Ok(());
        }
        self.counters.waited = 0;
        let params = self.averaged(params).duplicate()?;
        self.best = Some(Best { loss, step: self.counters.step, params });
        Ok(())
    }
}
