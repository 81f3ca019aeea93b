//! The shape of a convolution.

use super::ConvError;

/// Extents of a convolution: how many samples and channels, and for each of
/// three spatial axes the pixels, the kernel, the stride and the padding.
///
/// Arrays are `[batch][channel][axis 0][axis 1][axis 2]`, the last axis
/// contiguous. Signals and images leave out the *leading* axes: those have an
/// extent, kernel and stride of one and no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Number of samples.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Pixels of the input along each axis.
    pub input: [usize; 3],
    /// Pixels of the output along each axis,
    /// `(input + 2 * padding - kernel) / stride + 1` rounded down.
    pub output: [usize; 3],
    /// Kernel taps along each axis.
    pub kernel: [usize; 3],
    /// Input pixels from one output pixel to the next along each axis.
    pub stride: [usize; 3],
    /// Zeros on either side of the input along each axis.
    pub padding: [usize; 3],
}

/// Limit on every extent, on the pixel and tap counts and on the elements of
/// each array, so that no index computation can overflow. It stands for 128
/// tebi elements where addresses have 64 bits.
const LIMIT: usize = (isize::MAX >> 16) as usize;

impl Geometry {
    /// A convolution of `batch` samples of `input` pixels; the output extents
    /// follow from the others.
    ///
    /// # Errors
    ///
    /// If an extent, kernel or stride is zero, if the kernel exceeds the
    /// padded input, or if an extent or an array is too large to be real. Zero
    /// samples or channels are fine.
    pub fn new(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        input: [usize; 3],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Result<Self, ConvError> {
        let mut output = [0; 3];
        for axis in 0..3 {
            let (n, k, s, p) = (input[axis], kernel[axis], stride[axis], padding[axis]);
            if n == 0 || k == 0 || s == 0 {
                return Err(ConvError::Geometry("an extent, kernel or stride is zero"));
            }
            if n.max(k).max(s).max(p) > LIMIT {
                return Err(ConvError::Geometry("an extent is too large"));
            }
            if k > n + 2 * p {
                return Err(ConvError::Geometry("the kernel exceeds the padded input"));
            }
            output[axis] = (n + 2 * p - k) / s + 1;
        }
        let geometry = Geometry { batch, in_channels, out_channels, input, output, kernel, stride, padding };
        geometry.check()?;
        Ok(geometry)
    }

    /// Pixels of a channel of the input.
    pub fn input_pixels(&self) -> usize {
        self.input.iter().product()
    }

    /// Pixels of a channel of the output.
    pub fn output_pixels(&self) -> usize {
        self.output.iter().product()
    }

    /// Taps of a kernel.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Floating-point operations of each of the three operations, a
    /// multiplication and an addition counting two (padding not subtracted).
    pub fn flops(&self) -> f64 {
        2.0 * self.batch as f64 * self.out_channels as f64 * self.in_channels as f64 * self.output_pixels() as f64 * self.taps() as f64
    }

    /// Taps that meet at a pixel of the target at most: all in the forward operation, those of one phase in the input gradient.
    pub(crate) fn most_taps(&self, adjoint: bool) -> usize {
        (0..3).map(|axis| if adjoint { self.kernel[axis].div_ceil(self.stride[axis]) } else { self.kernel[axis] }).product()
    }

    /// Checks that the fields, which are public, fit together.
    pub(crate) fn check(&self) -> Result<(), ConvError> {
        for axis in 0..3 {
            let (n, k, s, p) = (self.input[axis], self.kernel[axis], self.stride[axis], self.padding[axis]);
            let valid = n > 0
                && k > 0
                && s > 0
                && n.max(k).max(s).max(p) <= LIMIT
                && k <= n + 2 * p
                && self.output[axis] == (n + 2 * p - k) / s + 1;
            if !valid {
                return Err(ConvError::Geometry("the extents do not fit together"));
            }
        }
        let product = |factors: [usize; 3]| factors.iter().try_fold(1usize, |product, &factor| product.checked_mul(factor));
        let mut padded = [0; 3];
        for axis in 0..3 {
            padded[axis] = self.input[axis] + 2 * self.padding[axis];
        }
        for extents in [padded, self.output, self.kernel, self.stride] {
            if product(extents).is_none_or(|count| count > LIMIT) {
                return Err(ConvError::Geometry("an extent is too large"));
            }
        }
        let arrays = [
            [self.batch, self.in_channels, padded.iter().product()],
            [self.batch, self.out_channels, self.output_pixels()],
            [self.out_channels, self.in_channels, self.taps()],
        ];
        // An empty array may have more of the rest than any other, so that one sample and channel are counted at least.
        if arrays.iter().any(|array| product(array.map(|count| count.max(1))).is_none_or(|count| count > LIMIT)) {
            return Err(ConvError::Geometry("an array is too large"));
        }
        Ok(())
    }
}

/// One of the three operations of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Outputs from inputs and weights.
    Forward,
    /// Gradients of inputs from gradients of outputs and weights.
    InputGradient,
    /// Gradients of weights from inputs and gradients of outputs.
    WeightGradient,
}
