//! Where a layer mixes its channels.

use crate::householder::Householder;
use inn_core::{Invertible, On, Result, Reversed, Scope};

/// Which channels are mixed by an orthogonal matrix around a layer (the modes of the original's HINT coupling).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permute {
    /// None.
    #[default]
    None,
    /// The upper half, before the layer.
    Lower,
    /// All of them before the layer, and back again after it with the same matrix.
    Both,
    /// All of them, before the layer.
    Full,
}

/// A layer with its mixing: Q before it, and for [`Permute::Both`] Qᵀ after it.
///
/// ```text
/// none: f        full: f ∘ Q        lower: f ∘ [1; Q]        both: Qᵀ ∘ f ∘ Q        ℓ = that of f
/// ```
/// Both uses of Q read one parameter, `mix.vectors`, and their gradients add. Each list has at most one layer.
pub type Permuted<L> = (Vec<On<Householder>>, L, Vec<Reversed<Householder>>);

/// Declares `mix` as the mode asks and puts it around `layer`, whose lower half are its first `lower` of `channels` channels.
///
/// # Errors
/// No reflections.
pub fn permuted<L: Invertible>(
    scope: &mut Scope<'_>,
    permute: Permute,
    (lower, channels): (usize, usize),
    reflections: usize,
    layer: L,
) -> Result<Permuted<L>> {
    let range = match permute {
        Permute::None => return Ok((vec![], layer, vec![])),
        Permute::Lower => lower..channels,
        Permute::Both | Permute::Full => 0..channels,
    };
    let mix = Householder::new(&mut scope.sub("mix"), range.len(), reflections)?;
    let after = if permute == Permute::Both { vec![Reversed(mix.clone())] } else { vec![] };
    Ok((vec![On { channels: range, layer: mix }], layer, after))
}
