//! The pointwise map with sums.

use crate::cpu::{Cpu, CpuElement};
use inn_core::backend::check_zip;
use inn_core::kernel::MAX_OPERANDS;
use inn_core::view::{Access, Update, View};
use inn_core::{Kernel, Result, Scalar, Shape, Window};

/// Stand-in.
pub trait Vectors {}
impl Vectors for f32 {}
impl Vectors for f64 {}

pub(crate) fn zip<T: CpuElement, K: Kernel>(
    cpu: &Cpu<T>,
    kernel: &K,
    domain: Shape,
    read: &[View<'_, Cpu<T>>],
    update: &mut [Update<'_, Cpu<T>>],
    channel_sums: &mut [Update<'_, Cpu<T>>],
    sample_sums: &mut [Update<'_, Cpu<T>>],
) -> Result<()> {
    check_zip::<Cpu<T>, K>(cpu, domain, read, update, channel_sums, sample_sums)?;
    const N: usize = 2 * MAX_OPERANDS;
    let at = |w: &Window, b: usize, c: usize, p: usize| w.offset + b * w.batch_stride + c * w.channel_stride + p * w.pixel_stride;
    let places = |updates: &[Update<'_, Cpu<T>>]| -> Vec<(usize, Window)> {
        updates.iter().enumerate().flat_map(|(i, u)| u.windows().iter().map(move |&w| (i, w)).collect::<Vec<_>>()).collect()
    };
    let (up, cp, sp) = (places(update), places(channel_sums), places(sample_sums));
    let zero = <T as Scalar>::zero();
    let uniforms = kernel.uniforms().map(<T as Scalar>::constant);
    let mut csum = vec![zero; K::CHANNEL_SUMS * domain.channels()];
    for b in 0..domain.batch() {
        let mut ssum = [zero; N];
        for c in 0..domain.channels() {
            for p in 0..domain.pixels() {
                let mut r = [zero; N];
                let mut u = [zero; N];
                let (mut cs, mut ss) = ([zero; N], [zero; N]);
                for (i, view) in read.iter().enumerate() {
                    r[i] = view.buffer().as_slice()[at(&view.window(), b, c, p)];
                }
                for (i, (k, w)) in up.iter().enumerate() {
                    if update[*k].access() == Access::ReadWrite {
                        u[i] = update[*k].buffer().as_slice()[at(w, b, c, p)];
                    }
                }
                let (read, cs_len, ss_len) = (&r[..K::READ], K::CHANNEL_SUMS, K::SAMPLE_SUMS);
                kernel.eval(&uniforms, read, &mut u[..K::UPDATE], &mut cs[..cs_len], &mut ss[..ss_len]);
                for (i, (k, w)) in up.iter().enumerate() {
                    update[*k].buffer_mut().as_mut_slice()[at(w, b, c, p)] = u[i];
                }
                for i in 0..cs_len {
                    csum[c * cs_len + i] += cs[i];
                }
                for i in 0..ss_len {
                    ssum[i] += ss[i];
                }
            }
        }
        for (i, (k, w)) in sp.iter().enumerate() {
            sample_sums[*k].buffer_mut().as_mut_slice()[at(w, b, 0, 0)] += ssum[i];
        }
    }
    for (i, (k, w)) in cp.iter().enumerate() {
        for c in 0..domain.channels() {
            channel_sums[*k].buffer_mut().as_mut_slice()[at(w, 0, c, 0)] += csum[c * K::CHANNEL_SUMS + i];
        }
    }
    Ok(())
}
