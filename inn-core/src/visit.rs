//! The layers of a network, one by one.

use crate::backend::{Backend, Direction};
use crate::error::Result;
use crate::layer::{Inputs, Invertible};
use crate::view::View;

/// Sees each layer of a network at the state that reaches it ([`Call::walk`](crate::model::Call::walk)).
///
/// Lists, chains, tuples, lanes, scales and reversals are walked through; whatever else a network is made of is a layer. A network
/// that a layer is wrapped around overrides [`Invertible::walk`] to be walked through as well.
pub trait Visitor<B: Backend> {
    /// `layer` is about to map `x`, with `at` what it is given. `path` says where it is: `level0.step3[2]` is the third of the step.
    ///
    /// # Errors
    /// Whatever ends the walk.
    fn visit<L: Invertible>(&mut self, path: &str, layer: &L, dir: Direction, at: &Inputs<'_, B>, x: View<'_, B>) -> Result<()>;
}

/// The path of part `index` of a layer made of layers.
pub(crate) fn part(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// The path of a part with a name; one that was made in a scope is a path already.
pub(crate) fn named(path: &str, name: &str) -> String {
    if path.is_empty() || name.contains('.') { name.to_owned() } else { format!("{path}.{name}") }
}
