//! Parameters as tensors of a file.

use super::archive::{Archive, Stored};
use inn_core::{Backend, Element, Layout, Params, Result};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::sync::Arc;

/// The tensors of a parameter vector, named `{group}{parameter}`.
pub(crate) fn store<B: Backend>(group: &str, params: &Params<B>, into: &mut Vec<Stored>) -> Result<()> {
    let values = params.read()?;
    for entry in params.layout().entries() {
        let values = values.get(entry.range()).unwrap_or_default();
        into.push(Stored {
            name: format!("{group}{}", entry.name()),
            dtype: dtype::<B::Elem>(),
            dims: entry.dims().to_vec(),
            bytes: bytes_of(values),
        });
    }
    Ok(())
}

fn dtype<T: Element>() -> Dtype {
    if size_of::<T>() == 4 { Dtype::F32 } else { Dtype::F64 }
}

/// Little-endian, as the format has it.
pub(crate) fn bytes_of<T: Element>(values: &[T]) -> Vec<u8> {
    let mut bytes = bytemuck::cast_slice(values).to_vec();
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    }
    bytes
}

/// The values of a tensor, widened to `f64`; `None` where they are no floating-point numbers of ours.
pub(crate) fn values_of(tensor: &TensorView<'_>) -> Option<Vec<f64>> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => Some(data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()),
        Dtype::F64 => Some(data.chunks_exact(8).map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])).collect()),
        _ => None,
    }
}

/// The parameter vector of a group, which has to match the layout exactly.
pub(crate) fn restore<B: Backend>(
    archive: &Archive,
    tensors: &SafeTensors<'_>,
    group: &str,
    backend: &B,
    layout: &Arc<Layout>,
) -> Result<Params<B>> {
    let mut host = vec![0.0; layout.len()];
    for entry in layout.entries() {
        let name = format!("{group}{}", entry.name());
        let Ok(tensor) = tensors.tensor(&name) else {
            let expected = format!("tensor {name}: expected {:?}, got no tensor of this name", entry.dims());
            return Err(archive.fail(expected));
        };
        if tensor.shape() != entry.dims() {
            return Err(archive.fail(format!("tensor {name}: expected {:?}, got {:?}", entry.dims(), tensor.shape())));
        }
        let Some(values) = values_of(&tensor) else {
            return Err(archive.fail(format!("tensor {name}: expected F32 or F64, got {:?}", tensor.dtype())));
        };
        let narrowed = |v: f64| Element::to_f64(B::Elem::from_f64(v));
        if let Some(v) = values.iter().find(|v| v.is_finite() && !narrowed(**v).is_finite()) {
            return Err(archive.fail(format!("tensor {name}: expected values in the range of {}, got {v}", B::Elem::NAME)));
        }
        host[entry.range()].copy_from_slice(&values);
    }
    Params::from_flat(backend, layout, &host)
}

/// Refuses tensors that no parameter of the layout asks for.
pub(crate) fn expect_only(archive: &Archive, tensors: &SafeTensors<'_>, group: &str, layout: &Layout) -> Result<()> {
    let mut unknown: Vec<&str> =
        tensors.names().into_iter().filter(|name| name.strip_prefix(group).is_some_and(|n| layout.find(n).is_none())).collect();
    unknown.sort_unstable();
    match unknown.first() {
        None => Ok(()),
        Some(name) => Err(archive.fail(format!(
            "tensor {name}: expected only the {} parameters of the network, got a tensor that is none of them ({} such)",
            layout.entries().len(),
            unknown.len()
        ))),
    }
}
