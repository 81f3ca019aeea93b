//! Parameters, gradients, tangents and optimizer moments: one vector in one buffer, with readable names.

mod vector;

pub use vector::Params;

use crate::error::{Error, Result};
use crate::shape::{Shape, Window};
use std::fmt::Display;
use std::sync::Arc;

/// Entries start at multiples of this many elements, so that a GPU may bind one of them.
const ALIGNMENT: usize = 64;

/// A handle to a parameter: what a layer stores instead of a tensor. Copying it shares the parameter, and gradients of shared
/// parameters add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    index: usize,
    /// Fingerprint of name and shape, so that a handle of another network is refused.
    tag: u32,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// One value everywhere.
    Constant(f64),
    /// Uniform in (-a, a).
    Uniform(f64),
    /// Gaussian with mean 0 and this standard deviation.
    Normal(f64),
    /// Glorot & Bengio 2010: uniform in (-a, a) with `a = gain sqrt(6 / (K c_in + K c_out))`, K the taps of the kernel.
    Glorot {
        /// Factor on the bound; 1 in the paper, less for a layer that should start small.
        gain: f64,
    },
}

/// One parameter of a layout.
#[derive(Clone, Debug)]
pub struct Entry {
    name: String,
    dims: Vec<usize>,
    window: Window,
    init: Init,
    frozen: bool,
    /// Fingerprint of name and shape.
    tag: u32,
}

impl Entry {
    /// The readable name, such as `level0.step3.coupling.conv1.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its axes as a file stores them: `[C]` for vectors, `[out, in, kernel..]` for weights.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Where it lies in the arena. A vector is `(1, C)`; a weight has its outputs in the place of the batch.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Its place in the flat arena.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.window.offset..self.window.end()
    }

    /// Whether training leaves it as it is.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }
}

/// The fingerprint of a parameter.
fn tag(name: &str, dims: &[usize]) -> u32 {
    let dims = dims.iter().flat_map(|d| d.to_le_bytes());
    let hash = fnv1a(name.bytes().chain(dims));
    (hash ^ (hash >> 32)) as u32
}

/// FNV-1a, 64 bits: a stable hash for seeds and fingerprints.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The names, shapes and places of all parameters of a network.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    entries: Vec<Entry>,
    len: usize,
}

impl Layout {
    /// Builds a layer in a fresh layout: `f` gets the root scope and declares parameters through it.
    ///
    /// # Errors
    /// What `f` returns, and a name that is declared twice.
    pub fn build<L>(f: impl FnOnce(&mut Scope<'_>) -> Result<L>) -> Result<(L, Arc<Self>)> {
        let mut layout = Self::default();
        let layer = f(&mut Scope { layout: &mut layout, path: String::new() })?;
        let mut names: Vec<&str> = layout.entries.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::Parameter { name: pair[0].into(), reason: "declared twice; expected unique names".into() });
        }
        Ok((layer, Arc::new(layout)))
    }

    /// The parameters in the order of their declaration.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Elements of the arena, padding between entries included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of scalar parameters, padding excluded.
    pub fn count(&self) -> usize {
        self.entries.iter().map(|e| e.window.shape.len()).sum()
    }

    /// The entry of a name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// The entry behind a handle.
    ///
    /// # Errors
    /// The handle was made for a network with other names or shapes.
    pub fn entry(&self, param: Param) -> Result<&Entry> {
        match self.entries.get(param.index) {
            Some(entry) if entry.tag == param.tag => Ok(entry),
            Some(entry) => Err(Error::Parameter {
                name: entry.name.clone(),
                reason: "the layer was built for another network; expected the layout that it was built with".into(),
            }),
            None => Err(Error::Parameter {
                name: format!("#{}", param.index),
                reason: format!("the layout has {} parameters; expected the one that the layer was built with", self.entries.len()),
            }),
        }
    }

    /// The same layout with the parameters frozen whose names satisfy `predicate`, and no others.
    #[must_use]
    pub fn with_frozen(&self, predicate: impl Fn(&str) -> bool) -> Arc<Self> {
        let mut layout = self.clone();
        for entry in &mut layout.entries {
            entry.frozen = predicate(&entry.name);
        }
        Arc::new(layout)
    }

    /// Whether both describe the same parameters: names, shapes, places.
    pub fn is_compatible(&self, other: &Self) -> bool {
        // Mostly it is the same one.
        std::ptr::eq(self, other)
            || self.len == other.len
                && self.entries.len() == other.entries.len()
                && self.entries.iter().zip(&other.entries).all(|(a, b)| a.name == b.name && a.dims == b.dims)
    }
}

/// A place in the tree of names, where a layer declares its parameters.
#[derive(Debug)]
pub struct Scope<'a> {
    layout: &'a mut Layout,
    path: String,
}

impl Scope<'_> {
    /// The scope of a part.
    pub fn sub(&mut self, name: impl Display) -> Scope<'_> {
        let path = self.join(&name.to_string());
        Scope { layout: self.layout, path }
    }

    /// The path so far, `level0.step3`.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    /// A vector of one value a channel.
    pub fn vector(&mut self, name: &str, channels: usize, init: Init) -> Result<Param> {
        let shape = Shape::new(1, channels, &[])?;
        self.declare(name, vec![channels], shape, init)
    }

    /// A weight (outputs, inputs, kernel extents), at most three of the latter; a matrix has none.
    pub fn weight(&mut self, name: &str, outputs: usize, inputs: usize, kernel: &[usize], init: Init) -> Result<Param> {
        let shape = Shape::new(outputs, inputs, kernel)?;
        self.declare(name, shape.dims(), shape, init)
    }

    fn declare(&mut self, name: &str, dims: Vec<usize>, shape: Shape, init: Init) -> Result<Param> {
        let window = Window::contiguous(shape, self.layout.len);
        let name = self.join(name);
        let tag = tag(&name, &dims);
        let param = Param { index: self.layout.entries.len(), tag };
        self.layout.len = window.end().next_multiple_of(ALIGNMENT);
        self.layout.entries.push(Entry { name, dims, window, init, frozen: false, tag });
        Ok(param)
    }
}
