//! The blocks of an operator on a diagonal.

use crate::gate::{Ends, product};
use inn_core::{Backend, Error, Layout, LinearOperator, Result, Shape, Tensor, View, ViewMut, Window, Write};
use std::collections::BTreeMap;
use std::ops::Range;

/// Σ_j P_j A P_j of an operator A on a flat vector, P_j the projection on block j: what A does within each block.
///
/// Of a curvature in the parameters with one block a layer: the block-diagonal approximation, whose blocks can be solved one by one. A
/// product takes one product with A for each block.
/// ```
/// use inn_core::Shape;
/// use inn_linop::{BlockDiagonal, LinearOperator, Matrix, dot_test};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 3, 3, &[1.0, 2.0, 3.0, 2.0, 5.0, 6.0, 3.0, 6.0, 9.0])?.between(Shape::flat(3), Shape::flat(3))?;
/// let blocks = BlockDiagonal::new::<Cpu<f64>>(a, vec![vec![0..1], vec![1..3]])?; // [1 0 0; 0 5 6; 0 6 9]
/// dot_test(&cpu, &blocks, 7, 1e-12)?;
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockDiagonal<A> {
    operator: A,
    blocks: Vec<Vec<Range<usize>>>,
    shape: Shape,
}

impl<A> BlockDiagonal<A> {
    /// With blocks that are ranges of the vector, or several ranges each. What lies in no block is taken to zero.
    ///
    /// # Errors
    /// An operator that is not from and to flat vectors of one length; ranges outside, or that overlap.
    pub fn new<B: Backend>(operator: A, blocks: Vec<Vec<Range<usize>>>) -> Result<Self>
    where
        A: LinearOperator<B>,
    {
        let shape = operator.domain();
        if shape != Shape::flat(shape.len()) || operator.range() != shape {
            let got = format!("{shape} to {}", operator.range());
            return Err(Error::shape("operator of a block diagonal", "flat vectors of one length, (1, 1, n)", got));
        }
        let mut all: Vec<Range<usize>> = blocks.iter().flatten().filter(|r| !r.is_empty()).cloned().collect();
        all.sort_by_key(|r| r.start);
        let overlap = all.windows(2).any(|pair| matches!(pair, [a, b] if a.end > b.start));
        if overlap || all.last().is_some_and(|r| r.end > shape.len()) {
            return Err(Error::shape("blocks", format!("disjoint ranges within 0..{}", shape.len()), format!("{all:?}")));
        }
        Ok(Self { operator, blocks, shape })
    }

    /// One block for all parameters whose names `key` maps to the same key: `|name| name.split('.').take(2).collect::<String>()` makes one
    /// of each `level0.step3`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn by_name<B: Backend, K: Ord>(operator: A, layout: &Layout, key: impl Fn(&str) -> K) -> Result<Self>
    where
        A: LinearOperator<B>,
    {
        let mut blocks: BTreeMap<K, Vec<Range<usize>>> = BTreeMap::new();
        for entry in layout.entries() {
            blocks.entry(key(entry.name())).or_default().push(entry.range());
        }
        Self::new(operator, blocks.into_values().collect())
    }

    fn product<B: Backend>(&self, adjoint: bool, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>
    where
        A: LinearOperator<B>,
    {
        Ends { domain: self.shape, range: self.shape, per_sample: false }.check("block diagonal", adjoint, x.shape(), y.shape())?;
        if write == Write::Set {
            y.fill(backend, 0.0)?;
        }
        let part =
            |all: Window, r: &Range<usize>| Window { shape: Shape::flat(r.len()), offset: all.offset + r.start * all.pixel_stride, ..all };
        let mut out = Tensor::scratch(backend, self.shape)?;
        for block in &self.blocks {
            let mut input = Tensor::zeros(backend, self.shape)?;
            for range in block {
                let window = part(input.view().window(), range);
                ViewMut::new(input.buffer_mut(), window)?.assign(backend, View::new(x.buffer(), part(x.window(), range))?)?;
            }
            product(&self.operator, adjoint, backend, input.view(), &mut out.view_mut(), Write::Set)?;
            for range in block {
                let (from, to) = (part(out.view().window(), range), part(y.window(), range));
                ViewMut::new(y.buffer_mut(), to)?.axpy(backend, 1.0, View::new(out.buffer(), from)?)?;
            }
        }
        Ok(())
    }
}

impl<B: Backend, A: LinearOperator<B>> LinearOperator<B> for BlockDiagonal<A> {
    fn domain(&self) -> Shape {
        self.shape
    }
    fn range(&self) -> Shape {
        self.shape
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(false, backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(true, backend, y, x, write)
    }
}
