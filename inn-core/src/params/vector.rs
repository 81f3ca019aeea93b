//! The vector itself.

use super::{Init, Layout, Param, fnv1a};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::kernel::blas;
use crate::scalar::Element;
use crate::shape::{Shape, Window};
use crate::view::{Access, Update, View, ViewMut};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use std::sync::Arc;

/// A vector over the parameters of a network, on a device: parameters, gradients, tangents, moments.
///
/// Flat operations act on the whole arena in one dispatch; padding is kept at zero by all of them.
pub struct Params<B: Backend> {
    layout: Arc<Layout>,
    backend: B,
    buffer: B::Buffer,
}

impl<B: Backend> Params<B> {
    /// All zero: where gradients and moments start.
    pub fn zeros(backend: &B, layout: &Arc<Layout>) -> Result<Self> {
        let mut params = Self { layout: layout.clone(), backend: backend.clone(), buffer: backend.alloc(layout.len())? };
        params.fill(0.0)?;
        Ok(params)
    }

    /// Starting values as declared, drawn from (seed, name): the same whatever else is in the network.
    pub fn init(backend: &B, layout: &Arc<Layout>, seed: u64) -> Result<Self> {
        let mut host = vec![0.0; layout.len()];
        for entry in &layout.entries {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(fnv1a(entry.name.bytes()));
            let values = &mut host[entry.range()];
            match entry.init {
                Init::Constant(value) => values.fill(value),
                Init::Uniform(a) => uniform(&mut rng, a, values),
                Init::Normal(std) => values.iter_mut().for_each(|v| *v = std * normal(&mut rng)),
                Init::Glorot { gain } => {
                    let (outputs, inputs) = match entry.dims[..] {
                        [channels] => (channels, 1),
                        [outputs, inputs, ..] => (outputs, inputs),
                        [] => (1, 1),
                    };
                    let taps = entry.dims.iter().skip(2).product::<usize>();
                    uniform(&mut rng, gain * (6.0 / (taps * (inputs + outputs)) as f64).sqrt(), values);
                }
            }
        }
        Self::from_flat(backend, layout, &host)
    }

    /// From a flat vector over the arena ([`Layout::len`] values; padding is cleared).
    ///
    /// # Errors
    /// Another length.
    pub fn from_flat(backend: &B, layout: &Arc<Layout>, values: &[f64]) -> Result<Self> {
        if values.len() != layout.len() {
            return Err(Error::shape("flat parameters", format!("{} values", layout.len()), values.len()));
        }
        let mut host = vec![B::Elem::default(); layout.len()];
        for entry in &layout.entries {
            for (h, &v) in host[entry.range()].iter_mut().zip(&values[entry.range()]) {
                *h = B::Elem::from_f64(v);
            }
        }
        Ok(Self { layout: layout.clone(), backend: backend.clone(), buffer: backend.upload(&host)? })
    }

    /// Takes over a buffer of [`Layout::len`] elements.
    pub(crate) fn from_buffer(backend: &B, layout: &Arc<Layout>, buffer: B::Buffer) -> Self {
        debug_assert!(B::len(&buffer) >= layout.len());
        Self { layout: layout.clone(), backend: backend.clone(), buffer }
    }

    /// All values as a flat vector over the arena; waits for the device.
    pub fn to_flat(&self) -> Result<Vec<f64>> {
        Ok(self.backend.read(&self.buffer)?.into_iter().map(Element::to_f64).collect())
    }

    /// The values in their own number type; waits for the device.
    pub fn read(&self) -> Result<Vec<B::Elem>> {
        self.backend.read(&self.buffer)
    }

    /// Names, shapes and places.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Another layout of the same parameters, with other frozen flags.
    ///
    /// # Errors
    /// It describes other parameters.
    pub fn set_layout(&mut self, layout: &Arc<Layout>) -> Result<()> {
        self.expect_compatible(layout)?;
        self.layout = layout.clone();
        Ok(())
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The arena.
    pub fn buffer(&self) -> &B::Buffer {
        &self.buffer
    }

    /// The arena, to write. Padding has to stay 0.
    pub fn buffer_mut(&mut self) -> &mut B::Buffer {
        &mut self.buffer
    }

    /// One parameter.
    pub fn get(&self, param: Param) -> Result<View<'_, B>> {
        View::new(&self.buffer, self.layout.entry(param)?.window)
    }

    /// One parameter, to write.
    pub fn get_mut(&mut self, param: Param) -> Result<ViewMut<'_, B>> {
        let window = self.layout.entry(param)?.window;
        ViewMut::new(&mut self.buffer, window)
    }

    /// Several parameters as operands of one kernel.
    pub fn update(&mut self, params: &[Param]) -> Result<Update<'_, B>> {
        let mut update = Update::new(&mut self.buffer, Access::ReadWrite, &[]);
        for &param in params {
            update.push(self.layout.entry(param)?.window);
        }
        Ok(update)
    }

    /// The whole arena as one row.
    pub fn flat(&self) -> Result<View<'_, B>> {
        View::new(&self.buffer, Window::contiguous(Shape::flat(self.layout.len()), 0))
    }

    /// The whole arena as one row, to write. Padding has to stay 0.
    pub fn flat_mut(&mut self) -> Result<ViewMut<'_, B>> {
        let window = Window::contiguous(Shape::flat(self.layout.len()), 0);
        ViewMut::new(&mut self.buffer, window)
    }

    /// A copy of its own.
    pub fn duplicate(&self) -> Result<Self> {
        let buffer = self.backend.alloc(self.layout.len())?;
        let mut copy = Self { layout: self.layout.clone(), backend: self.backend.clone(), buffer };
        copy.assign(self)?;
        Ok(copy)
    }

    fn expect_compatible(&self, layout: &Layout) -> Result<()> {
        if self.layout.is_compatible(layout) {
            Ok(())
        } else {
            let describe = |l: &Layout| format!("{} parameters of {} values", l.entries.len(), l.count());
            Err(Error::shape("parameter vector", describe(&self.layout), describe(layout)))
        }
    }

    /// self = x.
    pub fn assign(&mut self, x: &Self) -> Result<()> {
        self.expect_compatible(&x.layout)?;
        if self.layout.is_empty() {
            return Ok(());
        }
        let backend = self.backend.clone();
        self.flat_mut()?.assign(&backend, x.flat()?)
    }

    /// self += a x.
    pub fn axpy(&mut self, a: f64, x: &Self) -> Result<()> {
        self.expect_compatible(&x.layout)?;
        if self.layout.is_empty() {
            return Ok(());
        }
        let backend = self.backend.clone();
        self.flat_mut()?.axpy(&backend, a, x.flat()?)
    }

    /// self = a self.
    pub fn scale(&mut self, a: f64) -> Result<()> {
        if self.layout.is_empty() {
            return Ok(());
        }
        let backend = self.backend.clone();
        let mut flat = self.flat_mut()?;
        let shape = flat.shape();
        backend.zip(&blas::Scale(a), shape, &[], &mut [flat.update()], &mut [], &mut [])
    }

    /// Every value = `value`, padding excepted.
    pub fn fill(&mut self, value: f64) -> Result<()> {
        if self.layout.is_empty() {
            return Ok(());
        }
        let backend = self.backend.clone();
        self.flat_mut()?.fill(&backend, 0.0)?;
        if value != 0.0 {
            for window in self.layout.entries.iter().map(|e| e.window).collect::<Vec<_>>() {
                ViewMut::<B>::new(&mut self.buffer, window)?.fill(&backend, value)?;
            }
        }
        Ok(())
    }

    /// Clears the entries of frozen parameters: what gradients and tangents have to be there.
    pub fn clear_frozen(&mut self) -> Result<()> {
        let frozen: Vec<Window> = self.layout.entries.iter().filter(|e| e.frozen).map(|e| e.window).collect();
        let backend = self.backend.clone();
        for window in frozen {
            ViewMut::<B>::new(&mut self.buffer, window)?.fill(&backend, 0.0)?;
        }
        Ok(())
    }

    /// <self, x>; waits for the device.
    pub fn dot(&self, x: &Self) -> Result<f64> {
        self.expect_compatible(&x.layout)?;
        if self.layout.is_empty() {
            return Ok(0.0);
        }
        let mut sum = self.backend.upload(&[B::Elem::default()])?;
        let target = Window::contiguous(Shape::per_sample(1), 0);
        self.backend.zip(
            &blas::Dot,
            Shape::flat(self.layout.len()),
            &[self.flat()?, x.flat()?],
            &mut [],
            &mut [],
            &mut [Update::new(&mut sum, Access::ReadWrite, &[target])],
        )?;
        Ok(self.backend.read(&sum)?[0].to_f64())
    }

    /// The Euclidean norm; waits for the device.
    pub fn norm(&self) -> Result<f64> {
        Ok(self.dot(self)?.sqrt())
    }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn uniform(rng: &mut ChaCha8Rng, a: f64, values: &mut [f64]) {
    match Uniform::new(-a, a) {
        Ok(distribution) => values.iter_mut().for_each(|v| *v = distribution.sample(rng)),
        // An empty interval, a = 0.
        Err(_) => values.fill(0.0),
    }
}

impl<B: Backend, const G: bool> Params<crate::dual::Dual<B, G>> {
    /// The tangent part, moved out; `empty` lends its backend.
    pub(crate) fn into_tangent(self, empty: Params<B>) -> Result<Params<B>> {
        if empty.layout.is_empty() {
            return Ok(empty);
        }
        Ok(Params { layout: self.layout, backend: empty.backend, buffer: self.buffer.d })
    }
}
