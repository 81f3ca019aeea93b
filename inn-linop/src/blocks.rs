//! Operators side by side, one above the other, along a diagonal.

use crate::gate::{Ends, flat_piece, flat_piece_mut, product};
use inn_core::{Backend, Error, LinearOperator, Result, Shape, View, ViewMut, Write, error::expect_shape};

/// A matrix of operators, empty places being zero: `y_i = Σ_j A_ij x_j`, with adjoint `x_j = Σ_i A_ijᵀ y_i`.
///
/// Where there are several columns the vectors `x_j` lie one behind the other in a flat domain, [`Shape::flat`]; where there are several rows,
/// so do the `y_i`. Operators of several kinds go in as `Box<dyn LinearOperator<B>>`. Each block has the batch that it states.
///
/// Misfit and damping as one least-squares operator, \[A; √λ I\]:
/// ```
/// use inn_linop::{Algebra, Blocks, Identity, LinearOperator, Matrix, dot_test};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let a = Matrix::new(&cpu, 2, 3, &[1.0, 2.0, 3.0, 0.0, 1.0, 0.0])?;
/// let damping = Identity::new(a.domain()).scaled(0.1)?;
/// let stacked = Blocks::column::<Cpu<f64>>(vec![Box::new(a) as Box<dyn LinearOperator<_>>, Box::new(damping)])?;
/// assert_eq!(stacked.range().len(), 5);
/// dot_test(&cpu, &stacked, 7, 1e-12)?;
/// # Ok::<(), inn_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Blocks<A> {
    grid: Vec<Vec<Option<A>>>,
    domains: Vec<Shape>,
    ranges: Vec<Shape>,
}

impl<A> Blocks<A> {
    /// \[A_1, A_2, ..\].
    ///
    /// # Errors
    /// No blocks, or other ranges.
    pub fn row<B: Backend>(blocks: Vec<A>) -> Result<Self>
    where
        A: LinearOperator<B>,
    {
        Self::grid(vec![blocks.into_iter().map(Some).collect()])
    }

    /// \[A_1; A_2; ..\].
    ///
    /// # Errors
    /// No blocks, or other domains.
    pub fn column<B: Backend>(blocks: Vec<A>) -> Result<Self>
    where
        A: LinearOperator<B>,
    {
        Self::grid(blocks.into_iter().map(|a| vec![Some(a)]).collect())
    }

    /// diag(A_1, A_2, ..).
    ///
    /// # Errors
    /// No blocks.
    pub fn diagonal<B: Backend>(blocks: Vec<A>) -> Result<Self>
    where
        A: LinearOperator<B>,
    {
        let n = blocks.len();
        let line = |(i, a): (usize, A)| {
            let mut line: Vec<Option<A>> = (0..n).map(|_| None).collect();
            if let Some(place) = line.get_mut(i) {
                *place = Some(a);
            }
            line
        };
        Self::grid(blocks.into_iter().enumerate().map(line).collect())
    }

    /// Any matrix of blocks, row by row.
    ///
    /// # Errors
    /// Rows of other lengths; a row or column without a block; blocks of a row with other ranges or of a column with other domains.
    pub fn grid<B: Backend>(grid: Vec<Vec<Option<A>>>) -> Result<Self>
    where
        A: LinearOperator<B>,
    {
        let columns = grid.first().map_or(0, Vec::len);
        if columns == 0 || grid.iter().any(|row| row.len() != columns) {
            let got: Vec<usize> = grid.iter().map(Vec::len).collect();
            return Err(Error::shape("matrix of operators", "rows of one length, at least one block", format!("rows of {got:?} blocks")));
        }
        let mut domains: Vec<Option<Shape>> = vec![None; columns];
        let mut ranges = Vec::with_capacity(grid.len());
        for (i, row) in grid.iter().enumerate() {
            let mut range = None;
            for (j, (a, domain)) in row.iter().zip(&mut domains).enumerate() {
                let Some(a) = a else { continue };
                expect_shape(&format!("domain of block ({i}, {j})"), *domain.get_or_insert(a.domain()), a.domain())?;
                expect_shape(&format!("range of block ({i}, {j})"), *range.get_or_insert(a.range()), a.range())?;
            }
            ranges.push(range.ok_or_else(|| empty("row", i))?);
        }
        let domains = domains.into_iter().enumerate().map(|(j, d)| d.ok_or_else(|| empty("column", j))).collect::<Result<_>>()?;
        Ok(Self { grid, domains, ranges })
    }

    fn product<B: Backend>(&self, adjoint: bool, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()>
    where
        A: LinearOperator<B>,
    {
        let ends = Ends { domain: whole(&self.domains), range: whole(&self.ranges), per_sample: false };
        ends.check("matrix of operators", adjoint, x.shape(), y.shape())?;
        let (from, to) = if adjoint { (&self.ranges, &self.domains) } else { (&self.domains, &self.ranges) };
        let mut start = 0;
        for (i, &shape) in to.iter().enumerate() {
            let mut out = if to.len() == 1 { y.reborrow() } else { flat_piece_mut(y, start, shape)? };
            start += shape.len();
            let (mut write, mut place) = (write, 0);
            for (j, &shape) in from.iter().enumerate() {
                let (row, column) = if adjoint { (j, i) } else { (i, j) };
                let input = if from.len() == 1 { x } else { flat_piece(x, place, shape)? };
                place += shape.len();
                if let Some(a) = self.grid.get(row).and_then(|row| row.get(column)).and_then(Option::as_ref) {
                    product(a, adjoint, backend, input, &mut out, write)?;
                    write = Write::Add;
                }
            }
        }
        Ok(())
    }
}

fn empty(what: &str, index: usize) -> Error {
    Error::shape(format!("{what} {index} of a matrix of operators"), "at least one block, which tells its shape", "none")
}

/// The shape of one part, or of several behind each other.
fn whole(parts: &[Shape]) -> Shape {
    match parts {
        [one] => *one,
        many => Shape::flat(many.iter().map(Shape::len).sum()),
    }
}

impl<B: Backend, A: LinearOperator<B>> LinearOperator<B> for Blocks<A> {
    fn domain(&self) -> Shape {
        whole(&self.domains)
    }
    fn range(&self) -> Shape {
        whole(&self.ranges)
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(false, backend, x, y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.product(true, backend, y, x, write)
    }
}
