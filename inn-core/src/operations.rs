//! The arithmetic of a pointwise kernel, counted by running it on a scalar that counts.

use crate::backend::{Backend, kernel_name};
use crate::kernel::{Kernel, MAX_OPERANDS, UNIFORMS};
use crate::primitive::Primitive;
use crate::scalar::Scalar;
use crate::shape::Shape;
use crate::view::{Access, Update};
use std::cell::Cell;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The description of a pointwise call.
pub(crate) fn describe_zip<K: Kernel, B: Backend>(kernel: &K, domain: Shape, reads: usize, update: &[Update<'_, B>]) -> Primitive {
    let old: usize = update.iter().filter(|u| u.access() == Access::ReadWrite).map(|u| u.windows().len()).sum();
    Primitive::Zip { kernel: kernel_name::<K>(), domain, traffic: (reads + old, K::UPDATE), flops: count_operations(kernel) }
}

/// A scalar that counts the operations on it.
#[derive(Clone, Copy)]
struct Counter;

thread_local! {
    static OPERATIONS: Cell<usize> = const { Cell::new(0) };
}

fn tick() -> Counter {
    OPERATIONS.with(|n| n.set(n.get() + 1));
    Counter
}

fn count_operations<K: Kernel>(kernel: &K) -> usize {
    const N: usize = 2 * MAX_OPERANDS;
    OPERATIONS.with(|n| n.set(0));
    let (read, mut update, mut channels, mut samples) = ([Counter; N], [Counter; N], [Counter; N], [Counter; N]);
    kernel.eval(
        &[Counter; UNIFORMS],
        &read[..K::READ.min(N)],
        &mut update[..K::UPDATE.min(N)],
        &mut channels[..K::CHANNEL_SUMS.min(N)],
        &mut samples[..K::SAMPLE_SUMS.min(N)],
    );
    OPERATIONS.with(Cell::get) + K::CHANNEL_SUMS + K::SAMPLE_SUMS
}

macro_rules! counted {
    ($($op:ident $name:ident),+) => { $(
        impl $op for Counter {
            type Output = Self;
            fn $name(self, _: Self) -> Self { tick() }
        }
    )+ };
}
counted!(Add add, Sub sub, Mul mul, Div div);

impl Neg for Counter {
    type Output = Self;
    fn neg(self) -> Self {
        tick()
    }
}

impl Scalar for Counter {
    fn constant(_: f64) -> Self {
        Self
    }
    fn select_ge(self, _: Self, _: Self, _: Self) -> Self {
        tick()
    }
    fn exp(self) -> Self {
        tick()
    }
    fn ln(self) -> Self {
        tick()
    }
    fn ln_1p(self) -> Self {
        tick()
    }
    fn sqrt(self) -> Self {
        tick()
    }
    fn tanh(self) -> Self {
        tick()
    }
    fn atan(self) -> Self {
        tick()
    }
    fn tan(self) -> Self {
        tick()
    }
}
