//! What can be wrong with a toy.

use inn_core::Scalar;

/// One defect, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Healthy.
    None,
    /// The gradient of the scale has the opposite sign.
    Sign,
    /// The map does not report its log-determinant.
    LogdetValue,
    /// The log-determinant has no part in the gradient.
    LogdetGradient,
    /// The cotangent of the log-determinant counts as 1, as if a loss had no 1/B.
    MeanFactor,
    /// Gradients of parameters are written over what is there.
    Overwrite,
    /// The same for gradients of the input.
    OverwriteInput,
    /// The log-determinant is written over what is there.
    OverwriteLogdet,
    /// The inverse forgets the shift.
    Inverse,
    /// The map takes the shift through the host.
    HostConstant,
    /// The condition gets no gradient.
    Condition,
    /// The shift gets no gradient.
    Shift,
    /// None, but the shift counts 10⁻¹³ times.
    Faint,
    /// The same, and it gets no gradient.
    FaintShift,
    /// An adjoint is off by one pixel.
    Pixel,
    /// `Write::Add` overwrites.
    WriteAdd,
    /// An operator with a constant: affine, not linear.
    Affine,
    /// Scratch is read before it is written.
    Scratch,
    /// A value of one sample enters the others.
    Leak,
}

impl Defect {
    /// What the shift counts.
    pub fn weight<T: Scalar>(self) -> T {
        if matches!(self, Self::Faint | Self::FaintShift) { T::constant(1e-13) } else { T::one() }
    }
}
