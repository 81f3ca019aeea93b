//! Operators from operators, in the order of reading.

use crate::{Adjoint, Composed, Scaled, Sum};
use inn_core::{Backend, LinearOperator, Result};

/// What every operator can be made into. References and boxes are operators too, so `(&a).adjoint()` leaves `a` where it is.
///
/// The normal operator AᵀA + λ I of a regularized least-squares problem:
/// ```
/// use inn_linop::{Algebra, Identity, LinearOperator, Matrix, dot_test};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 2, 3, &[1.0, 2.0, 3.0, 0.0, 1.0, 0.0])?;
/// let damping = Identity::new(a.domain()).scaled(0.1)?;
/// let normal = (&a).then((&a).adjoint())?.plus(damping)?;
/// assert_eq!(normal.domain(), a.domain());
/// dot_test(&cpu, &normal, 7, 1e-12)?;
/// # Ok::<(), inn_core::Error>(())
/// ```
pub trait Algebra<B: Backend>: LinearOperator<B> + Sized {
    /// `next` after this operator.
    ///
    /// # Errors
    /// The range of this operator is not the domain of `next`.
    fn then<A: LinearOperator<B>>(self, next: A) -> Result<Composed<A, Self>> {
        Composed::new(next, self)
    }

    /// `factor` times this operator.
    ///
    /// # Errors
    /// A factor that is not finite.
    fn scaled(self, factor: f64) -> Result<Scaled<Self>> {
        Scaled::new(factor, self)
    }

    /// This operator plus `other`.
    ///
    /// # Errors
    /// Another domain or range.
    fn plus<A: LinearOperator<B>>(self, other: A) -> Result<Sum<Self, A>> {
        Sum::new(self, other)
    }

    /// This operator minus `other`.
    ///
    /// # Errors
    /// Another domain or range.
    fn minus<A: LinearOperator<B>>(self, other: A) -> Result<Sum<Self, Scaled<A>>> {
        Sum::new(self, Scaled::new(-1.0, other)?)
    }

    /// This operator's adjoint.
    fn adjoint(self) -> Adjoint<Self> {
        Adjoint(self)
    }
}

impl<B: Backend, A: LinearOperator<B>> Algebra<B> for A {}
