//! What the examples share: digits, pictures, figures of merit, the linear Gaussian estimate, memory readings.
//!
//! | module | holds |
//! |---|---|
//! | [`memory`] | the resident set of this process, now and at its highest |
//! | [`cli`] | how the programs end and print |

pub mod cli;
pub mod memory;
