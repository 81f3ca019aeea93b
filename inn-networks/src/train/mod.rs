//! Training: data, objective, loop, records, checkpoints.
//!
//! | item | what it is |
//! |---|---|
//! | [`Trainer`] | the loop: batches, gradients, clipping, optimizer, evaluation, early stopping, checkpoints |
//! | [`Options`] | its settings, as plain data |
//! | [`Dataset`], [`ArrayDataset`] | where samples and conditions come from |
//! | [`Objective`], [`MaximumLikelihood`], [`ReverseKl`] | what is minimized |
//! | [`Observer`], [`Console`] | who is told of each step, and may stop |
//! | [`Record`] | what is known of a step; a [`Trainer`] keeps all, a CSV file too |
//!
//! # Reproducibility
//! Everything random is drawn from a counter-based generator keyed by (seed, epoch, sample): the order of an epoch, dequantization, noise,
//! simulated observations. The same seed gives the same weights bit by bit, whatever the number of threads, and a training that was
//! interrupted at any step and [resumed](Trainer::resume) ends where the uninterrupted one does, loss history included.
//!
//! ```
//! # use inn_core::Model;
//! # use inn_layers::ActNorm;
//! # use inn_ops::Cpu;
//! use inn_networks::train::{ArrayDataset, Options, Trainer};
//!
//! let data = ndarray::Array2::from_shape_fn((100, 2), |(i, j)| (i as f32 * 0.1).sin() + j as f32);
//! let data = ArrayDataset::new(data)?;
//! let model = Model::build(&Cpu::<f32>::new(), 0, |scope| ActNorm::new(scope, 2))?;
//! let mut trainer = Trainer::new(model, Options { epochs: 2, batch: 50, ..Options::default() })?;
//! let outcome = trainer.fit(&data, None, &mut ())?;
//! assert_eq!(outcome.steps, 4);
//! let model = trainer.into_model()?;
//! # Ok::<(), inn_core::Error>(())
//! ```

#[cfg(feature = "progress")]
mod bar;
mod batch;
mod checkpoint;
mod csv;
mod data;
mod guard;
mod objective;
mod observer;
mod options;
mod outcome;
#[cfg(feature = "plot")]
mod plot;
mod random;
mod reverse;
mod state;
mod step;
mod trainer;

#[cfg(feature = "progress")]
pub use bar::Bar;
pub use data::{ArrayDataset, Dataset, Subset, Varied, split};
pub use objective::{MaximumLikelihood, Objective};
pub use observer::{Console, Observer, Progress, Record};
pub use options::{LastBatch, Options};
pub use outcome::{Every, Outcome, Stopped};
#[cfg(feature = "plot")]
pub use plot::plot_losses;
pub use rand_chacha::ChaCha8Rng;
pub use reverse::{LogDensity, ReverseKl};
pub use trainer::Trainer;
