//! What a device has to answer: storage, one pointwise map, convolution and its two adjoints, permutations.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::memory::Scratch;
use crate::mix::Mix;
use crate::primitive::Primitive;
use crate::scalar::Element;
use crate::shape::Shape;
use crate::stack::{Pointwise, Stack, StackShape};
use crate::view::{Update, View, ViewMut};
use crate::wavelet::Wavelet;

pub use crate::operands::{check_zip, kernel_name};

/// Whether a primitive overwrites its output or adds to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Overwrites; what was there before is not read.
    Set,
    /// Adds.
    Add,
}

/// Which way a map is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The map as it is written in the papers, data to latent.
    Forward,
    /// Its inverse.
    Inverse,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub fn flip(self) -> Self {
        match self {
            Self::Forward => Self::Inverse,
            Self::Inverse => Self::Forward,
        }
    }

    /// +1 forward, -1 inverse.
    pub fn sign(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Inverse => -1.0,
        }
    }
}

/// Stride and zero padding of a convolution, the same on every spatial axis; the kernel extents are those of the weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Distance of two outputs, in pixels of the input.
    pub stride: usize,
    /// Zeros on both sides of every axis.
    pub padding: usize,
}

impl Conv {
    /// Stride 1 and the padding under which a kernel of odd extent keeps the image's size.
    pub fn same(kernel: usize) -> Self {
        Self { stride: 1, padding: kernel / 2 }
    }

    /// The shape of the output: `floor((n + 2 padding - k) / stride) + 1` on every axis that exists.
    ///
    /// `weight` is (outputs, inputs, kernel extents) with the rank of the input.
    ///
    /// # Errors
    /// The weight has another rank or number of inputs, the stride is 0, or the kernel is larger than the padded image.
    pub fn output(&self, input: Shape, weight: Shape) -> Result<Shape> {
        if weight.channels() != input.channels() || weight.rank() != input.rank() {
            let expected = format!("{} input channels and {} kernel axes", input.channels(), input.rank());
            return Err(Error::shape("convolution weight", expected, weight));
        }
        if self.stride == 0 {
            return Err(Error::config("stride", "expected at least 1, got 0"));
        }
        let mut extents = input.extents();
        for axis in 3 - input.rank()..3 {
            let padded = extents[axis] + 2 * self.padding;
            let Some(room) = padded.checked_sub(weight.extents()[axis]) else {
                let expected = format!("a padded extent of at least {}", weight.extents()[axis]);
                return Err(Error::shape("convolution input", expected, input));
            };
            extents[axis] = room / self.stride + 1;
        }
        Ok(input.with_channels(weight.batch()).with_extents(extents))
    }
}

/// A permutation or orthogonal map that halves every spatial extent and multiplies the channels by 2^rank, per sample.
///
/// With b the parity (or half) of a pixel on each axis and q = b_x + 2 b_y + 4 b_z, x the last axis. All have determinant +-1 and
/// adjoint equal to inverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Squeeze {
    /// Output channel `q C + c`, source pixel `2 s + b` on each axis.
    Checkerboard,
    /// Output channel `q C + c`, source pixel `b n/2 + s` on each axis.
    Patch,
    /// Output channel `2^d c + q`: the memory of a channel, cut into 2^d equal runs. Moves nothing.
    Column,
    /// Orthonormal Haar lifting: low = (first + second)/sqrt 2, high = (first - second)/sqrt 2 on each axis; output channel
    /// `q' C + c` with q' = b_x in 1D, b_y + 2 b_x in 2D and b_z + 2 b_y + 4 b_x in 3D.
    Haar,
    /// One level of an orthonormal [`wavelet`](crate::wavelet) transform along each axis; output channel `2^d c + q`, b = 1 in the high band.
    Wavelet(Wavelet),
}

impl Squeeze {
    /// The shape after (`Forward`) or before (`Inverse`) a squeeze.
    ///
    /// # Errors
    /// Forward: no spatial axis, or an odd extent. Inverse: channels that are no multiple of 2^rank.
    pub fn output(self, dir: Direction, input: Shape) -> Result<Shape> {
        let (rank, mut extents) = (input.rank(), input.extents());
        let factor = 1 << rank;
        if rank == 0 {
            return Err(Error::shape("squeeze input", "at least one spatial axis", input));
        }
        match dir {
            Direction::Forward => {
                if input.spatial().iter().any(|e| e % 2 == 1) {
                    return Err(Error::shape("squeeze input", "even spatial extents", input));
                }
                extents[3 - rank..].iter_mut().for_each(|e| *e /= 2);
                Ok(input.with_channels(input.channels() * factor).with_extents(extents))
            }
            Direction::Inverse => {
                if !input.channels().is_multiple_of(factor) {
                    return Err(Error::shape("unsqueeze input", format!("a multiple of {factor} channels"), input));
                }
                extents[3 - rank..].iter_mut().for_each(|e| *e *= 2);
                Ok(input.with_channels(input.channels() / factor).with_extents(extents))
            }
        }
    }
}

/// A device: storage and the few primitives that layers are written with.
///
/// A layer names no backend; its methods are generic over it. What a primitive reads and writes is given as windows: a buffer
/// that is written is bound once ([`Update`]), and no primitive needs its input and output to be the same buffer. Nothing returns a
/// host value but [`read`](Self::read), the only call that waits for the device. Shapes have passed the network's gate before a
/// primitive is called; a backend still refuses operands that do not fit, with a typed error.
///
/// A handle is cheap to clone and shares its device and its pool of buffers.
pub trait Backend: Clone + Send + Sync + 'static {
    /// The number type of its tensors.
    type Elem: Element;
    /// Storage on the device. Neither `Clone` nor shared: what is written has one owner. Returns to the pool when dropped.
    type Buffer: Send + Sync;

    /// A name for messages and tables, such as `"cpu f32"`.
    fn name(&self) -> String;

    /// Storage for `len` elements with unspecified contents.
    fn alloc(&self, len: usize) -> Result<Self::Buffer>;

    /// Storage that holds a copy of `host`.
    fn upload(&self, host: &[Self::Elem]) -> Result<Self::Buffer>;

    /// Waits for the device and copies a buffer to the host.
    fn read(&self, buffer: &Self::Buffer) -> Result<Vec<Self::Elem>>;

    /// Number of elements of a buffer.
    fn len(buffer: &Self::Buffer) -> usize;

    /// Runs a pass over a whole network of `elements` numbers, in the place from where the device is best served.
    fn enter<R: Send>(&self, elements: usize, work: impl FnOnce() -> R + Send) -> R {
        let _ = elements;
        work()
    }

    /// Into how many parts a batch of such a state is best cut when a whole network passes, because its layers are too short to be shared
    /// between cores; `parameters` is what a gradient of each part takes. It may depend on shapes alone.
    fn chunks(&self, state: Shape, parameters: usize) -> usize {
        let _ = (state, parameters);
        1
    }

    /// The results of `task` for each number below `count`, in their order, run side by side where the device can.
    fn side_by_side<R: Send>(&self, count: usize, task: impl Fn(usize) -> R + Send + Sync) -> Vec<R> {
        (0..count).map(task).collect()
    }

    /// Evaluates a pointwise kernel at every element of `domain`, with sums. See [`Kernel`].
    ///
    /// Operands come in the order of the kernel's slices; the windows of all `update`s follow each other. Reads and updates have the shape of
    /// `domain` (strides of 0 repeat), channel sums are windows of `(1, C)` and sample sums of `(B, 1)`; both are added to.
    ///
    /// # Errors
    /// Another number of operands than the kernel's, a window of another shape, windows of one update that overlap.
    fn zip<K: Kernel>(
        &self,
        kernel: &K,
        domain: Shape,
        read: &[View<'_, Self>],
        update: &mut [Update<'_, Self>],
        channel_sums: &mut [Update<'_, Self>],
        sample_sums: &mut [Update<'_, Self>],
    ) -> Result<()>;

    /// Cross-correlation with zero padding: `y[b,o,q] = sum_{i,t} w[o,i,t] x[b,i, q stride + t - padding]`.
    ///
    /// `x` (B, I, n..), `w` (O, I, k..), `y` (B, O, [`Conv::output`]).
    fn conv(&self, conv: Conv, x: View<'_, Self>, w: View<'_, Self>, y: &mut ViewMut<'_, Self>, write: Write) -> Result<()>;

    /// The exact adjoint of [`conv`](Self::conv) in x (transposed convolution), with the extents of `gx`: pixels that no output
    /// covers get 0.
    fn conv_input(&self, conv: Conv, gy: View<'_, Self>, w: View<'_, Self>, gx: &mut ViewMut<'_, Self>, write: Write) -> Result<()>;

    /// The gradient of `<gy, conv(x, w)>` in w.
    fn conv_weight(&self, conv: Conv, x: View<'_, Self>, gy: View<'_, Self>, gw: &mut ViewMut<'_, Self>, write: Write) -> Result<()>;

    /// Squeezes or unsqueezes in place and reshapes the view. Samples of the view have to be contiguous.
    fn squeeze(&self, squeeze: Squeeze, dir: Direction, x: &mut ViewMut<'_, Self>) -> Result<()>;

    /// How many samples a layer should treat at once when each needs `bytes` of scratch; 1 to `batch`.
    ///
    /// It bounds hidden arrays. Tiles are part of the order of summation, so the answer may depend on shapes only, never on the number of
    /// threads.
    fn tile(&self, bytes: usize, batch: usize) -> usize {
        let _ = bytes;
        batch
    }

    /// What the backend holds beside its operands to carry out a primitive, for [`peak_bytes`](crate::memory::peak_bytes).
    fn scratch(&self, primitive: &Primitive) -> Scratch {
        let _ = primitive;
        Scratch::default()
    }

    /// Whether freed buffers stay for reuse as [`Shelf`](crate::shelf::Shelf) keeps them.
    fn reuses(&self) -> bool {
        false
    }

    /// Whether the backend takes up the offer that a primitive describes.
    fn takes(&self, primitive: &Primitive) -> bool {
        let _ = primitive;
        false
    }

    /// An offer: a [`Mix`] in one pass over the state, and its log-determinant, added to `logdet`, (B, 1). `Inverse` takes the inverse map. Answers
    /// whether it took the offer.
    ///
    /// # Errors
    /// Shapes that do not fit.
    fn mix(&self, dir: Direction, mix: &Mix<'_, Self>, x: &mut ViewMut<'_, Self>, logdet: &mut ViewMut<'_, Self>) -> Result<bool> {
        let _ = (dir, mix, x, logdet);
        Ok(false)
    }

    /// An offer: the way back of [`mix`](Self::mix) in one pass over its output and the cotangent of that, which become its input and the cotangent of
    /// the input. With the cotangent `gl` of the log-determinant, (B, 1), the gradients are added to windows of one update, in the order v (, s, b).
    /// Answers whether it took the offer.
    ///
    /// # Errors
    /// As [`mix`](Self::mix).
    fn mix_pull(
        &self,
        dir: Direction,
        mix: &Mix<'_, Self>,
        y: &mut ViewMut<'_, Self>,
        gy: &mut ViewMut<'_, Self>,
        gl: View<'_, Self>,
        gradients: &mut Update<'_, Self>,
    ) -> Result<bool> {
        let _ = (dir, mix, y, gy, gl, gradients);
        Ok(false)
    }

    /// Elements that [`stack`](Self::stack) leaves in `kept` for its adjoint.
    fn kept(&self, stack: &StackShape) -> usize {
        let _ = stack;
        0
    }

    /// An offer, taken where [`takes`](Self::takes) says so of its [`Primitive::Stack`]: all of a [`Stack`] in one pass. `out` is
    /// (B, outputs, pixels of x); `kept`, of [`kept`](Self::kept) elements, is what [`stack_vjp`](Self::stack_vjp) asks for.
    ///
    /// # Errors
    /// Shapes that do not fit, or a backend that does not take it.
    fn stack<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        out: &mut ViewMut<'_, Self>,
        write: Write,
        kept: Option<&mut Self::Buffer>,
    ) -> Result<()> {
        let _ = (stack, out, write, kept);
        Err(Error::backend(self.name(), "expected a backend that takes a fused stack"))
    }

    /// The adjoint of the Jacobian of [`stack`](Self::stack) at what it kept: adds to `gx`, one view for each input, and to the
    /// weights' cotangents, windows of one update in the order W_1, b_1, W_2, b_2, .., W (, b). Windows may coincide where a
    /// weight is used twice.
    ///
    /// # Errors
    /// As [`stack`](Self::stack).
    fn stack_vjp<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        kept: &Self::Buffer,
        gout: View<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        let _ = (stack, kept, gout, gx, weights);
        Err(Error::backend(self.name(), "expected a backend that takes a fused stack"))
    }

    /// [`stack`](Self::stack) within one state: `state` binds two disjoint windows, that which is read as the first input and that to which
    /// the output is added.
    ///
    /// # Errors
    /// As [`stack`](Self::stack).
    fn stack_add<A: Pointwise>(&self, stack: &Stack<'_, Self, A>, state: &mut Update<'_, Self>) -> Result<()> {
        let _ = (stack, state);
        Err(Error::backend(self.name(), "expected a backend that takes a fused stack"))
    }

    /// [`stack_add`](Self::stack_add) and its adjoint in one pass that keeps no hidden values: `cotangent` binds the window of the first
    /// input's cotangent, which is added to, and that of the output's, which is read; `gx` are those of the other inputs.
    ///
    /// # Errors
    /// As [`stack`](Self::stack).
    fn stack_pull<A: Pointwise>(
        &self,
        stack: &Stack<'_, Self, A>,
        state: &mut Update<'_, Self>,
        cotangent: &mut Update<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        let _ = (stack, state, cotangent, gx, weights);
        Err(Error::backend(self.name(), "expected a backend that takes a fused stack"))
    }

    /// An offer, taken where [`takes`](Self::takes) says so of a [`Primitive::Stack`] with [`StackPass::Couple`](crate::stack::StackPass::Couple):
    /// a coupling in one pass. `state` binds two disjoint windows, that which the stack reads as its first input and that which changes.
    /// The kernel reads the groups of the stack's output, each with the channels of the second window, updates that window, and may have a sample
    /// sum, which is added to `logdet`, (B, 1).
    ///
    /// # Errors
    /// As [`stack`](Self::stack), and a kernel of other operands.
    fn couple<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        kernel: &K,
        state: &mut Update<'_, Self>,
        logdet: &mut ViewMut<'_, Self>,
    ) -> Result<()> {
        let _ = (stack, kernel, state, logdet);
        Err(Error::backend(self.name(), "expected a backend that takes a fused coupling"))
    }

    /// The way back of a coupling in one pass, for [`StackPass::CouplePull`](crate::stack::StackPass::CouplePull): the stack, a kernel, and the adjoint
    /// of the stack. The kernel reads `gl`, (B, 1), and updates the second window of the `state`, that of its `cotangent`, and the groups of the
    /// stack's output, which it turns into their cotangent; that goes back to the first window of `cotangent`, which is added to, to `gx`, the cotangents
    /// of the other inputs, and to those of the `weights`.
    ///
    /// # Errors
    /// As [`couple`](Self::couple).
    fn couple_pull<A: Pointwise, K: Kernel>(
        &self,
        stack: &Stack<'_, Self, A>,
        kernel: &K,
        gl: View<'_, Self>,
        state: &mut Update<'_, Self>,
        cotangent: &mut Update<'_, Self>,
        gx: &mut [ViewMut<'_, Self>],
        weights: &mut Update<'_, Self>,
    ) -> Result<()> {
        let _ = (stack, kernel, gl, state, cotangent, gx, weights);
        Err(Error::backend(self.name(), "expected a backend that takes a fused coupling"))
    }
}

/// A backend whose buffers lie in the host's memory, so that arrays move in and out without a copy.
pub trait HostBackend: Backend {
    /// The elements of a buffer.
    fn slice(buffer: &Self::Buffer) -> &[Self::Elem];
    /// The elements of a buffer, to change.
    fn slice_mut(buffer: &mut Self::Buffer) -> &mut [Self::Elem];
    /// Takes a vector over as a buffer.
    fn adopt(&self, values: Vec<Self::Elem>) -> Self::Buffer;
    /// Gives a buffer up as a vector.
    fn release(buffer: Self::Buffer) -> Vec<Self::Elem>;
}
