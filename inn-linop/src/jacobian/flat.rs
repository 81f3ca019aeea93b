//! Ranges of flat vectors, and parameters from them.

use inn_core::{Backend, Layout, Params, Result, Shape, Tensor, View, ViewMut, Window};
use std::ops::Range;
use std::sync::Arc;

fn window(all: Window, range: Range<usize>) -> Window {
    Window { shape: Shape::flat(range.len()), offset: all.offset + range.start * all.pixel_stride, ..all }
}

/// A range of a flat vector.
pub fn part<B: Backend>(x: View<'_, B>, range: Range<usize>) -> Result<View<'_, B>> {
    View::new(x.buffer(), window(x.window(), range))
}

/// A range of a flat vector, to write.
pub fn part_mut<'b, B: Backend>(x: &'b mut ViewMut<'_, B>, range: Range<usize>) -> Result<ViewMut<'b, B>> {
    let all = x.window();
    ViewMut::new(x.buffer_mut(), window(all, range))
}

/// A vector over the parameters from the values of an arena, of which padding is left out.
pub fn to_params<B: Backend>(backend: &B, layout: &Arc<Layout>, arena: View<'_, B>) -> Result<Params<B>> {
    let mut params = Params::zeros(backend, layout)?;
    for entry in layout.entries() {
        let place = Window::contiguous(Shape::flat(entry.range().len()), entry.range().start);
        ViewMut::new(params.buffer_mut(), place)?.assign(backend, part(arena, entry.range())?)?;
    }
    Ok(params)
}

/// A copy.
pub fn copy<B: Backend>(backend: &B, v: View<'_, B>) -> Result<Tensor<B>> {
    let mut tensor = Tensor::scratch(backend, v.shape())?;
    tensor.view_mut().assign(backend, v)?;
    Ok(tensor)
}

/// A whole tensor as one row.
pub fn flattened<B: Backend>(x: View<'_, B>) -> Result<View<'_, B>> {
    View::new(x.buffer(), Window::contiguous(Shape::flat(x.shape().len()), x.window().offset))
}
