//! Weight gradients of odd channel counts, in two passes.

use super::geometry::Geometry;

/// Output channels that should be taken first, without the rest. Where neither
/// side fills its vectors, as with 17 channels of each, most outputs do so
/// apart from a few, and those have the lanes on the other side.
fn first_outputs(g: &Geometry, lanes: usize) -> usize {
    let (i, o) = (g.in_channels, g.out_channels);
    let padded = |channels: usize| channels.div_ceil(lanes) * lanes;
    let cost = |o: usize| (padded(o) * i).min(padded(i) * o);
    let first = o / lanes * lanes;
    // The second pass copies the inputs again, which taps make up for.
    if first > 0 && g.taps() > 1 && 5 * cost(o) > 6 * (cost(first) + cost(o - first)) { first } else { o }
}

/// The two calls that [`first_outputs`] splits a call into, or the only one.
pub(super) fn passes(g: &Geometry, lanes: usize) -> impl Iterator<Item = (usize, Geometry)> {
    let first = first_outputs(g, lanes);
    let pass = |start, end| (start, Geometry { out_channels: end - start, ..*g });
    [pass(0, first), pass(first, g.out_channels)].into_iter().filter(|(_, pass)| pass.out_channels > 0)
}
