//! What watches the states between the layers of a network: drift of the recomputed states, checkpoints, the first bad layer.

use crate::backend::Backend;
use crate::error::Result;
use crate::kernel::{Kernel, UNIFORMS};
use crate::scalar::{Element, Scalar};
use crate::shape::{Shape, Window};
use crate::tensor::Tensor;
use crate::view::{Access, Update, View, ViewMut};
use rand::{Rng, SeedableRng};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sign vectors that each sample is projected on; the errors of the samples of a batch average out further.
const PROBES: usize = 4;
/// Columns of a sketch: projections on the way out, on the way back, and the squared norm.
const COLUMNS: usize = 2 * PROBES + 1;
/// The probes use one sequence of signs, shifted by this much from probe to probe.
const SHIFT: usize = 13;

/// Visited by a [`Chain`](crate::compose::Chain) before each of its layers maps, and after each is pulled back.
///
/// The gradient of an invertible network is taken at inputs that were recomputed from outputs. The trail says how far they are from the
/// true ones, without keeping those: going forward it stores, for each layer, the projections of its input x on a few random sign
/// vectors r; coming back it projects the recomputed x'. Since E <r, x' - x>² = |x' - x|², the mean over the probes estimates the squared
/// error (Johnson & Lindenstrauss 1984; r is a product of independent signs of the channel and of the pixel, for which the identity
/// holds as well). A few numbers a sample and layer, which stay on the device until [`report`](Self::report) reads them.
///
/// With `checkpoint_every = m`, every m-th input is kept as well and put in place of the recomputed one, which bounds the drift by
/// that of m layers for the memory of one state in m.
pub struct Trail<B: Backend> {
    checkpoint_every: usize,
    visits: Mutex<Visits<B>>,
}

struct Visits<B: Backend> {
    /// Sites that were left and not yet come back to.
    open: Vec<Site<B>>,
    /// Sites that were passed both ways, last layer first.
    closed: Vec<Site<B>>,
    signs: Option<Tensor<B>>,
}

struct Site<B: Backend> {
    name: String,
    shape: Shape,
    /// (COLUMNS, batch), one row a column.
    sketch: Tensor<B>,
    checkpoint: Option<Tensor<B>>,
}

/// How far the recomputed input of one layer was from the true one.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The layer.
    pub layer: String,
    /// |x' - x| / |x| over the batch, estimated; infinite where x' is not finite.
    pub relative_error: f64,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2e}", self.layer, self.relative_error)
    }
}

impl<B: Backend> Trail<B> {
    /// Measures drift; keeps every m-th state too when `checkpoint_every` is m > 0.
    pub fn new(checkpoint_every: usize) -> Self {
        Self { checkpoint_every, visits: Mutex::new(Visits { open: Vec::new(), closed: Vec::new(), signs: None }) }
    }

    fn visits(&self) -> MutexGuard<'_, Visits<B>> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A layer is about to map `x`.
    pub fn leave(&self, backend: &B, name: &str, x: &ViewMut<'_, B>) -> Result<()> {
        let mut visits = self.visits();
        let shape = x.shape();
        let mut sketch = Tensor::zeros(backend, Shape::rows(COLUMNS, shape.batch()))?;
        visits.project(backend, x.view(), &mut sketch, 0)?;
        let keep = self.checkpoint_every > 0 && visits.open.len().is_multiple_of(self.checkpoint_every);
        let checkpoint = if keep {
            let mut copy = Tensor::scratch(backend, shape)?;
            copy.view_mut().assign(backend, x.view())?;
            Some(copy)
        } else {
            None
        };
        visits.open.push(Site { name: name.to_owned(), shape, sketch, checkpoint });
        Ok(())
    }

    /// The input of the layer that was left last has been recomputed as `x`.
    pub fn come_back(&self, backend: &B, x: &mut ViewMut<'_, B>) -> Result<()> {
        let mut visits = self.visits();
        // A gradient without a forward pass on the same trail has nothing to compare with.
        let Some(mut site) = visits.open.pop() else { return Ok(()) };
        if site.shape == x.shape() {
            visits.project(backend, x.view(), &mut site.sketch, PROBES)?;
            if let Some(copy) = site.checkpoint.take() {
                x.assign(backend, copy.view())?;
            }
            visits.closed.push(site);
        }
        Ok(())
    }

    /// The drift of every layer that was passed both ways, in the order of the forward pass; waits for the device.
    pub fn report(&self) -> Result<Vec<Drift>> {
        let visits = self.visits();
        visits
            .closed
            .iter()
            .rev()
            .map(|site| {
                let values = site.sketch.to_f64()?;
                let batch = site.shape.batch();
                let (out, back) = values.split_at(PROBES * batch);
                let squared = out.iter().zip(back).map(|(a, b)| (b - a).powi(2)).sum::<f64>() / PROBES as f64;
                // The squared norm was added up on both passes.
                let norm = values[2 * PROBES * batch..].iter().sum::<f64>() / 2.0;
                let error = (squared / norm.max(f64::MIN_POSITIVE)).sqrt();
                let relative_error = if error.is_finite() { error } else { f64::INFINITY };
                Ok(Drift { layer: site.name.clone(), relative_error })
            })
            .collect()
    }

    /// The first layer that turned a finite state into one that is not, `"input"` if it came in that way, and the last layer if every
    /// layer's input was finite; `None` before any pass. Waits for the device.
    pub fn first_bad_layer(&self) -> Result<Option<String>> {
        let visits = self.visits();
        let mut previous = None;
        for site in visits.open.iter().chain(visits.closed.iter().rev()) {
            if site.sketch.to_f64()?.iter().any(|v| !Element::is_finite(*v)) {
                return Ok(Some(previous.unwrap_or_else(|| "input".into())));
            }
            previous = Some(site.name.clone());
        }
        Ok(previous)
    }
}

/// Sums of r_k x for the probes, and of x².
#[derive(Clone, Copy)]
struct Project;
impl Kernel for Project {
    const READ: usize = 2 + PROBES;
    const UPDATE: usize = 0;
    const SAMPLE_SUMS: usize = PROBES + 1;
    #[inline(always)]
    fn eval<T: Scalar>(&self, _: &[T; UNIFORMS], read: &[T], _: &mut [T], _: &mut [T], sums: &mut [T]) {
        let signed = read[0] * read[1];
        for k in 0..PROBES {
            sums[k] = signed * read[2 + k];
        }
        sums[PROBES] = read[0].square();
    }
}

impl<B: Backend> Visits<B> {
    /// Adds the projections of `x` to rows `first..first + PROBES` of the sketch, and its squared norm to the last row.
    fn project(&mut self, backend: &B, x: View<'_, B>, sketch: &mut Tensor<B>, first: usize) -> Result<()> {
        let shape = x.shape();
        let len = shape.channels() + shape.pixels() + PROBES * SHIFT;
        let signs = match self.signs.take() {
            Some(signs) if signs.shape().len() >= len => signs,
            _ => {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0x5eed);
                let host: Vec<f64> = (0..len).map(|_| if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 }).collect();
                Tensor::from_f64(backend, Shape::flat(len), &host)?
            }
        };
        let window = |offset, channel_stride, pixel_stride| Window { shape, offset, batch_stride: 0, channel_stride, pixel_stride };
        let at = |window| View::new(signs.buffer(), window);
        let channels = shape.channels();
        let mut read = vec![x, at(window(0, 1, 0))?];
        for k in 0..PROBES {
            read.push(at(window(channels + k * SHIFT, 0, 1))?);
        }
        let rows: Vec<Window> = (0..PROBES)
            .map(|k| first + k)
            .chain([2 * PROBES])
            .map(|row| Window::contiguous(Shape::per_sample(shape.batch()), row * shape.batch()))
            .collect();
        let sums = Update::new(sketch.buffer_mut(), Access::ReadWrite, &rows);
        backend.zip(&Project, shape, &read, &mut [], &mut [], &mut [sums])?;
        self.signs = Some(signs);
        Ok(())
    }
}
