//! Dense tensors on a device.

use crate::backend::{Backend, HostBackend};
use crate::error::{Error, Result};
use crate::scalar::Element;
use crate::shape::{Shape, Window};
use crate::view::{View, ViewMut};
use ndarray::{Array, ArrayView, ArrayViewD, ArrayViewMutD, Dimension, IxDyn};

/// A dense row-major tensor (batch, channel, up to three extents) that owns its buffer.
///
/// It is moved through layers, which change it in place; a copy is explicit ([`duplicate`](Self::duplicate)).
pub struct Tensor<B: Backend> {
    backend: B,
    buffer: B::Buffer,
    shape: Shape,
}

impl<B: Backend> Tensor<B> {
    /// Unspecified contents: scratch that is written before it is read.
    pub fn scratch(backend: &B, shape: Shape) -> Result<Self> {
        Ok(Self { backend: backend.clone(), buffer: backend.alloc(shape.len())?, shape })
    }

    /// All zero.
    pub fn zeros(backend: &B, shape: Shape) -> Result<Self> {
        Self::full(backend, shape, 0.0)
    }

    /// One value everywhere.
    pub fn full(backend: &B, shape: Shape, value: f64) -> Result<Self> {
        let mut tensor = Self::scratch(backend, shape)?;
        tensor.view_mut().fill(backend, value)?;
        Ok(tensor)
    }

    /// Copies row-major values from the host.
    ///
    /// # Errors
    /// The number of values is not that of the shape.
    pub fn from_slice(backend: &B, shape: Shape, values: &[B::Elem]) -> Result<Self> {
        if values.len() != shape.len() {
            return Err(Error::shape("tensor data", format!("{} values for {shape}", shape.len()), values.len()));
        }
        Ok(Self { backend: backend.clone(), buffer: backend.upload(values)?, shape })
    }

    /// Copies row-major `f64` values from the host, rounding to the element type.
    ///
    /// # Errors
    /// The number of values is not that of the shape.
    pub fn from_f64(backend: &B, shape: Shape, values: &[f64]) -> Result<Self> {
        let values: Vec<B::Elem> = values.iter().map(|&v| B::Elem::from_f64(v)).collect();
        Self::from_slice(backend, shape, &values)
    }

    pub(crate) fn from_buffer(backend: &B, shape: Shape, buffer: B::Buffer) -> Self {
        debug_assert_eq!(B::len(&buffer), shape.len());
        Self { backend: backend.clone(), buffer, shape }
    }

    pub(crate) fn into_buffer(self) -> B::Buffer {
        self.buffer
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The buffer.
    pub fn buffer(&self) -> &B::Buffer {
        &self.buffer
    }

    /// The buffer, to write.
    pub fn buffer_mut(&mut self) -> &mut B::Buffer {
        &mut self.buffer
    }

    fn window(&self) -> Window {
        Window::contiguous(self.shape, 0)
    }

    /// All of it, to read.
    pub fn view(&self) -> View<'_, B> {
        // The window of a tensor always lies within its buffer.
        View::new(&self.buffer, self.window()).unwrap_or_else(|_| unreachable!("a tensor's own window"))
    }

    /// All of it, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, B> {
        let window = self.window();
        ViewMut::new(&mut self.buffer, window).unwrap_or_else(|_| unreachable!("a tensor's own window"))
    }

    /// The same elements in another shape with as many of them.
    ///
    /// # Errors
    /// Another number of elements.
    pub fn reshape(self, shape: Shape) -> Result<Self> {
        if shape.len() != self.shape.len() {
            return Err(Error::shape("reshaped tensor", format!("{} elements", self.shape.len()), shape));
        }
        Ok(Self { shape, ..self })
    }

    /// A copy of its own.
    pub fn duplicate(&self) -> Result<Self> {
        let mut copy = Self::scratch(&self.backend, self.shape)?;
        copy.view_mut().assign(&self.backend, self.view())?;
        Ok(copy)
    }

    /// The values on the host, row-major; waits for the device.
    pub fn to_vec(&self) -> Result<Vec<B::Elem>> {
        let mut values = self.backend.read(&self.buffer)?;
        values.truncate(self.shape.len());
        Ok(values)
    }

    /// The values as `f64`; waits for the device.
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        Ok(self.to_vec()?.into_iter().map(Element::to_f64).collect())
    }

    /// Checks that every value is finite; waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`] with the first such value.
    pub fn expect_finite(&self, name: &str) -> Result<()> {
        expect_finite(name, &self.to_vec()?)
    }
}

/// Checks that every value is finite.
///
/// # Errors
/// [`Error::NonFinite`] with the first such value.
pub fn expect_finite<T: Element>(name: &str, values: &[T]) -> Result<()> {
    match values.iter().position(|v| !Element::is_finite(*v)) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { tensor: name.into(), index, value: values[index].to_f64() }),
    }
}

impl<B: HostBackend> Tensor<B> {
    /// From an array (batch, channel, up to three extents). Costs no copy when the array is in standard layout.
    ///
    /// ```
    /// # use inn_core::{Shape, Tensor};
    /// # use inn_ops::Cpu;
    /// let images = ndarray::Array4::<f32>::zeros((8, 3, 16, 16));
    /// let x = Tensor::from_array(&Cpu::new(), images)?;
    /// assert_eq!(x.shape(), Shape::new(8, 3, &[16, 16])?);
    /// # Ok::<(), inn_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// The array does not have 2 to 5 axes, or a zero extent.
    pub fn from_array<D: Dimension>(backend: &B, array: Array<B::Elem, D>) -> Result<Self> {
        let shape = Shape::from_dims(array.shape())?;
        let values = if array.is_standard_layout() {
            // A standard-layout array may still be a slice of a larger allocation.
            match array.into_raw_vec_and_offset() {
                (values, Some(0) | None) if values.len() == shape.len() => values,
                (values, offset) => {
                    let start = offset.unwrap_or(0);
                    values[start..start + shape.len()].to_vec()
                }
            }
        } else {
            array.iter().copied().collect()
        };
        Ok(Self { backend: backend.clone(), buffer: backend.adopt(values), shape })
    }

    /// From a view of an array, whose values are copied.
    ///
    /// # Errors
    /// The array does not have 2 to 5 axes, or a zero extent.
    pub fn from_array_view<D: Dimension>(backend: &B, array: &ArrayView<'_, B::Elem, D>) -> Result<Self> {
        Self::from_array(backend, array.to_owned())
    }

    /// The tensor as an array, without a copy.
    pub fn into_array(self) -> Result<Array<B::Elem, IxDyn>> {
        let shape = self.shape;
        let mut values = B::release(self.buffer);
        values.truncate(shape.len());
        Array::from_shape_vec(IxDyn(&shape.dims()), values).map_err(|e| Error::shape("array", shape, e))
    }

    /// The tensor seen as an array, without a copy.
    pub fn array(&self) -> ArrayViewD<'_, B::Elem> {
        ArrayViewD::from_shape(IxDyn(&self.shape.dims()), self.slice()).unwrap_or_else(|_| unreachable!("a tensor's own shape"))
    }

    /// The tensor seen as an array, to change in place.
    pub fn array_mut(&mut self) -> ArrayViewMutD<'_, B::Elem> {
        let dims = self.shape.dims();
        ArrayViewMutD::from_shape(IxDyn(&dims), self.slice_mut()).unwrap_or_else(|_| unreachable!("a tensor's own shape"))
    }

    /// The values, row-major.
    pub fn slice(&self) -> &[B::Elem] {
        &B::slice(&self.buffer)[..self.shape.len()]
    }

    /// The values, row-major, to change in place.
    pub fn slice_mut(&mut self) -> &mut [B::Elem] {
        &mut B::slice_mut(&mut self.buffer)[..self.shape.len()]
    }
}
