//! Small dense matrices.

use crate::gate::Ends;
use inn_core::{Backend, Conv, Error, LinearOperator, Result, Shape, Tensor, View, ViewMut, Write, tensor::expect_finite};

/// A x = M x for each sample, with a dense matrix M: for tests and for physics that is small enough to be written down.
///
/// A sample is the column of its elements in memory order. The product is a convolution without spatial axes.
/// ```
/// use inn_core::{Shape, Tensor, Write};
/// use inn_linop::{LinearOperator, Matrix};
/// use inn_ops::Cpu;
///
/// let cpu = Cpu::<f64>::new();
/// let m = Matrix::new(&cpu, 2, 3, &[1.0, 2.0, 3.0, 0.0, 1.0, 0.0])?;
/// let x = Tensor::from_f64(&cpu, Shape::new(1, 3, &[])?, &[1.0, 10.0, 100.0])?;
/// let mut y = Tensor::zeros(&cpu, m.range())?;
/// m.apply(&cpu, x.view(), &mut y.view_mut(), Write::Set)?;
/// assert_eq!(y.slice(), [321.0, 10.0]);
/// # Ok::<(), inn_core::Error>(())
/// ```
pub struct Matrix<B: Backend> {
    /// (rows, columns), as a convolution's weight.
    weight: Tensor<B>,
    ends: Ends,
}

/// Without spatial axes there is nothing to stride over or to pad.
const POINT: Conv = Conv { stride: 1, padding: 0 };

impl<B: Backend> Matrix<B> {
    /// From `rows * columns` row-major values, between dense data (B, columns) and (B, rows).
    ///
    /// # Errors
    /// Another number of values, a zero extent, or a value that is not finite.
    pub fn new(backend: &B, rows: usize, columns: usize, values: &[f64]) -> Result<Self> {
        let shape = Shape::new(rows, columns, &[])?;
        expect_finite("matrix", values)?;
        let weight = Tensor::from_f64(backend, shape, values)?;
        Ok(Self { weight, ends: Ends::per_sample(Shape::per_channel(columns), Shape::per_channel(rows)) })
    }

    /// The same between samples of other shapes, images for example.
    ///
    /// ```
    /// # use inn_core::{Shape, Tensor};
    /// # use inn_linop::{LinearOperator, Matrix};
    /// # use inn_ops::Cpu;
    /// let image = Shape::new(1, 1, &[2, 2])?;
    /// let mean = Matrix::new(&Cpu::<f32>::new(), 1, 4, &[0.25; 4])?.between(image, Shape::per_channel(1))?;
    /// assert_eq!(mean.domain(), image);
    /// # Ok::<(), inn_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// A shape that is not one sample of as many elements as the matrix has columns or rows.
    pub fn between(self, domain: Shape, range: Shape) -> Result<Self> {
        let weight = self.weight.shape();
        for (name, shape, len) in [("domain", domain, weight.channels()), ("range", range, weight.batch())] {
            if shape.batch() != 1 || shape.len() != len {
                return Err(Error::shape(format!("{name} of the matrix"), format!("one sample of {len} elements"), shape));
            }
        }
        Ok(Self { ends: Ends::per_sample(domain, range), ..self })
    }
}

impl<B: Backend> LinearOperator<B> for Matrix<B> {
    fn domain(&self) -> Shape {
        self.ends.domain
    }
    fn range(&self) -> Shape {
        self.ends.range
    }
    fn apply(&self, backend: &B, x: View<'_, B>, y: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.ends.check("matrix", false, x.shape(), y.shape())?;
        let (batch, weight) = (x.shape().batch(), self.weight.shape());
        let mut y = y.reborrow();
        y.reshape(Shape::rows(batch, weight.batch()))?;
        backend.conv(POINT, x.reshape(Shape::rows(batch, weight.channels()))?, self.weight.view(), &mut y, write)
    }
    fn apply_adjoint(&self, backend: &B, y: View<'_, B>, x: &mut ViewMut<'_, B>, write: Write) -> Result<()> {
        self.ends.check("matrix", true, y.shape(), x.shape())?;
        let (batch, weight) = (y.shape().batch(), self.weight.shape());
        let mut x = x.reborrow();
        x.reshape(Shape::rows(batch, weight.channels()))?;
        backend.conv_input(POINT, y.reshape(Shape::rows(batch, weight.batch()))?, self.weight.view(), &mut x, write)
    }
}
