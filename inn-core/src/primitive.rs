//! Descriptions of primitives: what [`Traced`](crate::traced::Traced) records and what a backend's scratch memory depends on.

use crate::backend::{Conv, Direction, Squeeze};
use crate::shape::Shape;
use crate::stack::{StackPass, StackShape};

/// Which of the three products of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConvKind {
    /// y from x and w.
    Forward,
    /// gx from gy and w.
    Input,
    /// gw from x and gy.
    Weight,
}

/// One call of a [`Backend`](crate::backend::Backend), described by shapes alone.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Primitive {
    /// A pointwise kernel.
    Zip {
        /// Name of the kernel.
        kernel: &'static str,
        /// Where it is evaluated.
        domain: Shape,
        /// Elements that are read, and written, at each point.
        traffic: (usize, usize),
        /// Arithmetic operations at each point (a transcendental function counts as one).
        flops: usize,
    },
    /// A convolution or one of its adjoints; `x`, `w`, `y` as in the forward product.
    Conv {
        /// Which product.
        kind: ConvKind,
        /// Stride and padding.
        conv: Conv,
        /// Shape on the input side.
        x: Shape,
        /// Shape of the weight.
        w: Shape,
        /// Shape on the output side.
        y: Shape,
    },
    /// A squeeze.
    Squeeze {
        /// Which one.
        squeeze: Squeeze,
        /// Which way.
        dir: Direction,
        /// Shape before.
        x: Shape,
    },
    /// A fused [`Mix`](crate::mix::Mix).
    Mix {
        /// Whether it is the way back, with a cotangent.
        pull: bool,
        /// Whether it has scales and biases.
        affine: bool,
        /// Number of reflections.
        count: usize,
        /// Shape of the state.
        x: Shape,
    },
    /// A fused stack of convolutions.
    Stack {
        /// Which pass.
        pass: StackPass,
        /// Its shapes.
        shape: StackShape,
    },
    /// Storage was asked for.
    Alloc {
        /// Number of elements.
        len: usize,
    },
    /// A copy from the host.
    Upload {
        /// Number of elements.
        len: usize,
    },
    /// A copy to the host, which waits for the device.
    Read {
        /// Number of elements.
        len: usize,
    },
}

impl Primitive {
    /// A short name: the kernel's, or the primitive's.
    pub fn name(&self) -> String {
        match self {
            Self::Zip { kernel, .. } => format!("zip {kernel}"),
            Self::Conv { kind: ConvKind::Forward, .. } => "conv".into(),
            Self::Conv { kind: ConvKind::Input, .. } => "conv_input".into(),
            Self::Conv { kind: ConvKind::Weight, .. } => "conv_weight".into(),
            Self::Squeeze { .. } => "squeeze".into(),
            Self::Mix { pull: true, .. } => "mix_pull".into(),
            Self::Mix { .. } => "mix".into(),
            Self::Stack { pass: StackPass::Adjoint | StackPass::Both | StackPass::CouplePull, .. } => "stack_vjp".into(),
            Self::Stack { .. } => "stack".into(),
            Self::Alloc { .. } => "alloc".into(),
            Self::Upload { .. } => "upload".into(),
            Self::Read { .. } => "read".into(),
        }
    }

    /// The shape that stands for the size of the work.
    pub fn shape(&self) -> Shape {
        match *self {
            Self::Zip { domain, .. } => domain,
            Self::Conv { y, .. } => y,
            Self::Squeeze { x, .. } | Self::Mix { x, .. } => x,
            Self::Stack { shape, .. } => shape.x,
            Self::Alloc { len } | Self::Upload { len } | Self::Read { len } => Shape::flat(len),
        }
    }

    /// Arithmetic operations; a multiplication and an addition count as two.
    pub fn flops(&self) -> usize {
        match *self {
            Self::Zip { domain, flops, .. } => domain.len() * flops,
            Self::Conv { w, y, .. } => 2 * y.len() * w.sample_len(),
            Self::Squeeze { squeeze: Squeeze::Haar, x, .. } => 2 * x.rank() * x.len(),
            Self::Squeeze { squeeze: Squeeze::Wavelet(wavelet), x, .. } => 2 * wavelet.taps().len() * x.rank() * x.len(),
            Self::Mix { pull, affine, count, x } => {
                let (each, both) = if pull { (12, 7) } else { (4, 2) };
                (each * count + if affine { both } else { 0 }) * x.len()
            }
            Self::Stack { pass, shape } => {
                let passes = passes(pass);
                passes * 2 * shape.weights() * shape.x.batch() * shape.x.pixels()
            }
            _ => 0,
        }
    }

    /// Elements that have to move at least once.
    pub fn elements(&self) -> usize {
        match *self {
            Self::Zip { domain, traffic, .. } => domain.len() * (traffic.0 + traffic.1),
            Self::Conv { x, w, y, .. } => x.len() + w.len() + y.len(),
            Self::Squeeze { x, .. } | Self::Mix { pull: false, x, .. } => 2 * x.len(),
            Self::Mix { x, .. } => 4 * x.len(),
            Self::Stack { pass, shape } => {
                let passes = passes(pass);
                passes * (shape.x.len() + shape.outputs * shape.x.batch() * shape.x.pixels() + shape.weights())
            }
            Self::Alloc { .. } => 0,
            Self::Upload { len } | Self::Read { len } => len,
        }
    }

    /// Work that a device carries out, as opposed to bookkeeping of storage.
    pub fn is_dispatch(&self) -> bool {
        !matches!(self, Self::Alloc { .. } | Self::Upload { .. } | Self::Read { .. })
    }
}

/// How often a pass multiplies by the weights.
fn passes(pass: StackPass) -> usize {
    match pass {
        StackPass::Map | StackPass::Keep | StackPass::Couple => 1,
        StackPass::Adjoint => 2,
        StackPass::Both | StackPass::CouplePull => 3,
    }
}
