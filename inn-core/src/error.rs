//! What can go wrong, as values: every error names the tensor or setting, what was expected and what came.

use crate::shape::Shape;

/// The result of every fallible call of the workspace.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call could not be carried out. Nothing is changed or written where one is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor does not have the shape that its reader needs.
    #[error("{tensor}: expected {expected}, got {got}")]
    Shape {
        /// Name of the tensor, as its reader calls it.
        tensor: String,
        /// The shape or property that was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// A setting is out of its range or contradicts another.
    #[error("{setting}: {reason}")]
    Config {
        /// Name of the setting.
        setting: String,
        /// What is wrong, with the legal values.
        reason: String,
    },
    /// A value that would poison everything after it.
    #[error("{tensor}: expected finite values, got {value} at index {index}")]
    NonFinite {
        /// Name of the tensor.
        tensor: String,
        /// Flat index of the first such value.
        index: usize,
        /// The value: NaN or an infinity.
        value: f64,
    },
    /// An iteration met what its method cannot go on from.
    #[error("{method}, iteration {iteration}: {reason}")]
    Breakdown {
        /// The method.
        method: String,
        /// Where it stood.
        iteration: usize,
        /// What was expected, and what came.
        reason: String,
    },
    /// A parameter handle met a layout that it does not belong to.
    #[error("parameter {name}: {reason}")]
    Parameter {
        /// Name of the parameter in the layout at hand.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// A layer needs an input that the call did not bring: a condition or a linear operator.
    #[error("{layer} needs {what}, which this call does not bring")]
    Missing {
        /// The layer.
        layer: String,
        /// What it needs.
        what: String,
    },
    /// The device could not do its work (out of memory, lost device, a kernel with a wrong operand count).
    #[error("backend {backend}: {reason}")]
    Backend {
        /// Name of the backend.
        backend: String,
        /// What happened.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file was read but does not say what it should.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong with it, and what was expected.
        reason: String,
    },
    /// A check of [`verify`](crate::verify) did not hold.
    #[error("{0}")]
    Verification(String),
}

impl Error {
    /// A shape error: `tensor` should have been `expected`, and was `got`.
    pub fn shape(tensor: impl Into<String>, expected: impl ToString, got: impl ToString) -> Self {
        Self::Shape { tensor: tensor.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// A configuration error.
    pub fn config(setting: impl Into<String>, reason: impl ToString) -> Self {
        Self::Config { setting: setting.into(), reason: reason.to_string() }
    }

    /// A device error.
    pub fn backend(backend: impl Into<String>, reason: impl ToString) -> Self {
        Self::Backend { backend: backend.into(), reason: reason.to_string() }
    }

    /// A file error of the operating system.
    pub fn io(path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().display().to_string(), source }
    }

    /// A malformed file.
    pub fn format(path: impl AsRef<std::path::Path>, reason: impl ToString) -> Self {
        Self::Format { path: path.as_ref().display().to_string(), reason: reason.to_string() }
    }
}

/// The one gate for shapes: `got` has to equal `expected`.
pub fn expect_shape(tensor: &str, expected: Shape, got: Shape) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::shape(tensor, expected, got)) }
}
