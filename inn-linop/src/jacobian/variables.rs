//! What a map is differentiated by, as one vector.

use super::flat;
use crate::gate::put;
use inn_core::{Along, Backend, Error, Given, Layout, Params, Result, Shape, Tensor, View, ViewMut, Write};
use std::sync::Arc;

/// What a [`Map`](crate::Map) is differentiated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum By {
    /// The state x.
    State,
    /// The parameters θ.
    Parameters,
    /// \[x; θ\].
    Both,
    /// The condition of an index.
    Condition(usize),
    /// All conditions, \[c_0; c_1; ..\].
    Conditions,
    /// \[x; θ; c_0; c_1; ..\].
    All,
}

enum Part {
    State,
    Parameters,
    Condition(usize),
}

/// The parts of a domain with their places. One part has its own shape; several lie behind each other in a flat vector.
pub(super) struct Variables {
    parts: Vec<(Part, Shape)>,
    state: Shape,
    conditions: Vec<Shape>,
    layout: Arc<Layout>,
}

/// A direction in all that a map depends on; what it does not point along is zero.
pub(super) struct Tangents<B: Backend> {
    pub state: Tensor<B>,
    pub theta: Option<Params<B>>,
    pub conditions: Vec<Tensor<B>>,
}

impl<B: Backend> Tangents<B> {
    pub fn along(&self) -> Along<'_, B> {
        Along { theta: self.theta.as_ref(), conditions: &self.conditions }
    }
}

impl Variables {
    /// Of `name`, which has the parameters `theta` and is given `given`, at a state of shape x.
    pub fn new<B: Backend>(name: &str, theta: &Params<B>, given: Given<'_, B>, by: By, x: Shape) -> Result<Self> {
        let layout = theta.layout().clone();
        let conditions: Vec<Shape> = given.conditions.iter().map(Tensor::shape).collect();
        let theta = || (Part::Parameters, Shape::flat(layout.len()));
        let condition = |i: usize| -> Result<(Part, Shape)> {
            let shape = *conditions.get(i).ok_or_else(|| Error::Missing { layer: name.to_owned(), what: format!("condition {i}") })?;
            if shape.batch() != x.batch() {
                let expected = format!("a batch of {}; a condition shared by all samples has no gradient", x.batch());
                return Err(Error::shape(format!("condition {i}"), expected, shape));
            }
            Ok((Part::Condition(i), shape))
        };
        let mut parts = Vec::new();
        match by {
            By::State => parts.push((Part::State, x)),
            By::Parameters => parts.push(theta()),
            By::Both => parts.extend([(Part::State, x), theta()]),
            By::Condition(i) => parts.push(condition(i)?),
            By::Conditions => parts = (0..conditions.len()).map(condition).collect::<Result<_>>()?,
            By::All => {
                parts.extend([(Part::State, x), theta()]);
                for i in 0..conditions.len() {
                    parts.push(condition(i)?);
                }
            }
        }
        parts.retain(|(_, shape)| !shape.is_empty());
        if parts.is_empty() {
            let (of, none) = if by == By::Conditions { ("conditions", "none") } else { ("parameters", "0") };
            return Err(Error::shape(format!("{of} of {}", name), "at least one", none));
        }
        Ok(Self { parts, state: x, conditions, layout })
    }

    pub fn shape(&self, by: By) -> Shape {
        match (by, self.parts.as_slice()) {
            (By::State | By::Parameters | By::Condition(_), [(_, one)]) => *one,
            (_, parts) => Shape::flat(parts.iter().map(|(_, shape)| shape.len()).sum()),
        }
    }

    /// Copies the parts out of a vector, padding between parameters left out.
    pub fn split<B: Backend>(&self, backend: &B, v: View<'_, B>) -> Result<Tangents<B>> {
        let mut out = Tangents { state: Tensor::zeros(backend, self.state)?, theta: None, conditions: Vec::new() };
        let mut start = 0;
        for (part, shape) in &self.parts {
            let range = start..start + shape.len();
            start = range.end;
            let whole = v.shape() == *shape;
            let copy = || if whole { flat::copy(backend, v) } else { flat::copy(backend, flat::part(v, range.clone())?)?.reshape(*shape) };
            match part {
                Part::State => out.state = copy()?,
                Part::Parameters => {
                    let arena = if whole { v } else { flat::part(v, range.clone())? };
                    out.theta = Some(flat::to_params(backend, &self.layout, arena)?);
                }
                Part::Condition(i) => {
                    if out.conditions.is_empty() {
                        out.conditions = self.conditions.iter().map(|&c| Tensor::zeros(backend, c)).collect::<Result<_>>()?;
                    }
                    if let Some(place) = out.conditions.get_mut(*i) {
                        *place = copy()?;
                    }
                }
            }
        }
        Ok(out)
    }

    /// Writes gradients into a vector, or adds them.
    pub fn join<B: Backend>(
        &self,
        backend: &B,
        state: &Tensor<B>,
        theta: &Params<B>,
        conditions: &[Tensor<B>],
        out: &mut ViewMut<'_, B>,
        write: Write,
    ) -> Result<()> {
        let mut start = 0;
        for (part, shape) in &self.parts {
            let range = start..start + shape.len();
            start = range.end;
            let from = match part {
                Part::State => state.view(),
                Part::Parameters => theta.flat()?,
                Part::Condition(i) => {
                    let missing = || Error::Missing { layer: "Jacobian".into(), what: format!("the gradient of condition {i}") };
                    conditions.get(*i).ok_or_else(missing)?.view()
                }
            };
            if out.shape() == *shape {
                put(backend, 1.0, from, out, write)?;
            } else {
                put(backend, 1.0, flat::flattened(from)?, &mut flat::part_mut(out, range)?, write)?;
            }
        }
        Ok(())
    }
}
