//! The dot test.

use inn_core::verify::{Tolerances, Verify};
use inn_core::{Backend, LinearOperator, Result};

/// Tests that the adjoint of `a` is its adjoint: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ at random x and y drawn from `seed`, within `tolerance` of
/// |A x| |y| + |x| |Aᵀ y|.
///
/// It also tests that both products are linear and that they add where they are told to ([`Write::Add`](inn_core::Write)). The table of what
/// was measured comes from [`Verify::operator`], which this calls. In f64, 1e-12 is a fair tolerance.
///
/// # Errors
/// [`Error::Verification`](inn_core::Error::Verification) with the checks that failed, and what the operator returns.
pub fn dot_test<B: Backend, A: LinearOperator<B>>(backend: &B, a: &A, seed: u64, tolerance: f64) -> Result<()> {
    let tolerances = Tolerances { dot: tolerance, ..Tolerances::default() };
    Verify::new(backend.clone()).seed(seed).tolerances(tolerances).operator(a)?.check()
}
