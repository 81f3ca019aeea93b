//! Configurations that build networks, so that a file restores one.

use crate::backend::Backend;
use crate::error::Result;
use crate::layer::Invertible;
use crate::model::Model;
use crate::params::Scope;
use serde::{Serialize, de::DeserializeOwned};

/// The configuration of a network: plain data that is written beside the weights and builds the network again.
///
/// ```
/// # use inn_core::{Architecture, Result, Scope};
/// # use inn_layers::ActNorm;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Scaled { channels: usize }
///
/// impl Architecture for Scaled {
///     const KIND: &'static str = "scaled";
///     type Network = ActNorm;
///     fn build(&self, scope: &mut Scope<'_>) -> Result<ActNorm> {
///         ActNorm::new(scope, self.channels)
///     }
/// }
/// ```
pub trait Architecture: Serialize + DeserializeOwned {
    /// A name for files, unique among architectures: `"glow"`.
    const KIND: &'static str;
    /// What it builds.
    type Network: Invertible;

    /// Declares the parameters and puts the layers together.
    ///
    /// # Errors
    /// Settings that contradict each other or are out of range.
    fn build(&self, scope: &mut Scope<'_>) -> Result<Self::Network>;

    /// A model with starting values drawn from `seed`.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    fn model<B: Backend>(&self, backend: &B, seed: u64) -> Result<Model<Self::Network, B>> {
        Model::build(backend, seed, |scope| self.build(scope))
    }
}
