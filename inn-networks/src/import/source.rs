//! Files of arrays.

use super::npz;
use crate::files::weights::values_of;
use inn_core::{Backend, Error, Result, Shape, Tensor};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Row-major values with their axes; no axes for a single number.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents, outermost first.
    pub dims: Vec<usize>,
    /// As many values as the extents say.
    pub values: Vec<f64>,
}

impl Array {
    /// As a tensor (batch, channel, up to three extents), rounded to the backend's element type.
    ///
    /// # Errors
    /// Other than 2 to 5 axes, or a number of values that the axes do not have.
    pub fn tensor<B: Backend>(&self, backend: &B) -> Result<Tensor<B>> {
        Tensor::from_f64(backend, Shape::from_dims(&self.dims)?, &self.values)
    }
}

/// A file of arrays in f32 or f64, all in memory: safetensors, or an npz archive (stored or deflated, as NPZ.jl and numpy write it).
///
/// Of an npz archive the axes of column-major arrays are reversed, so that the arrays of both kinds of file are those of one memory.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    arrays: BTreeMap<String, Array>,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, that is of neither kind, or that is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(path, &std::fs::read(path).map_err(|e| Error::io(path, e))?)
    }

    /// The same from memory; `path` is for messages. Arrays of other types than f32 and f64 are left out.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for reading.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Self> {
        let path = path.as_ref();
        if bytes.starts_with(npz::MAGIC) {
            return Ok(Self { path: path.into(), arrays: npz::read(path, bytes)? });
        }
        let malformed = |e| Error::format(path, format!("expected a valid safetensors file, got: {e}"));
        let file = SafeTensors::deserialize(bytes).map_err(malformed)?;
        let arrays = file.iter().filter_map(|(name, tensor)| {
            let values = values_of(&tensor)?;
            Some((name.to_owned(), Array { dims: tensor.shape().to_vec(), values }))
        });
        Ok(Self { path: path.into(), arrays: arrays.collect() })
    }

    /// The names of all arrays, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.arrays.keys().map(String::as_str)
    }

    /// An array, if it is there.
    pub fn find(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    /// An array.
    ///
    /// # Errors
    /// No array of this name with numbers in f32 or f64.
    pub fn get(&self, name: &str) -> Result<&Array> {
        let reason = || format!("array {name}: expected f32 or f64 numbers, got no such array");
        self.find(name).ok_or_else(|| Error::format(&self.path, reason()))
    }

    /// The arrays `{prefix}000`, `{prefix}001`, .. as far as they go without a gap.
    ///
    /// # Errors
    /// An array of this prefix after a gap.
    pub fn list(&self, prefix: &str) -> Result<Vec<&Array>> {
        let list: Vec<&Array> = (0..).map_while(|i| self.find(&format!("{prefix}{i:03}"))).collect();
        let numbered = |name: &&str| name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        match self.names().filter(numbered).nth(list.len()) {
            None => Ok(list),
            Some(name) => {
                let reason =
                    format!("array {name}: expected the numbers from {prefix}000 on without a gap, got {} such arrays", list.len());
                Err(Error::format(&self.path, reason))
            }
        }
    }
}
