//! One level of orthonormal Haar lifting, rearranged into channels.

use inn_core::Direction;
use num_traits::Float;

/// Lifts the planes of one channel along every axis: 2^d neighbours are one value in each of 2^d sub-bands.
///
/// Along an axis `low = (first + second)/√2` and `high = (first - second)/√2`. The factors of the axes are taken together, so that in 2D
/// they are one exact 1/2. `bands[q]` is where sub-band q starts on the small side (q = b_x + 2 b_y + 4 b_z), `corner` the
/// distances of the two neighbours on the axes x, y, z on the large side, outermost axes that are missing have distance 0.
pub(crate) struct Lift {
    /// Number of axes, 1 to 3.
    pub(crate) rank: usize,
    /// Small extents, outermost first.
    pub(crate) small: [usize; 3],
    /// Large extents, outermost first.
    pub(crate) large: [usize; 3],
}

impl Lift {
    /// From the large side in `from` to sub-bands in `to` (`Forward`), or from sub-bands to the large side (`Inverse`).
    /// `band(q)` is the start of sub-band q on the small side, `plane` that of the channel on the large side.
    pub(crate) fn channel<T: Float>(&self, dir: Direction, from: &[T], to: &mut [T], plane: usize, band: impl Fn(usize) -> usize) {
        match self.rank {
            1 => self.lift::<T, 2>(dir, from, to, plane, band),
            2 => self.lift::<T, 4>(dir, from, to, plane, band),
            _ => self.lift::<T, 8>(dir, from, to, plane, band),
        }
    }

    fn lift<T: Float, const N: usize>(&self, dir: Direction, from: &[T], to: &mut [T], plane: usize, band: impl Fn(usize) -> usize) {
        let half = T::one() / (T::one() + T::one());
        let root = half.sqrt();
        let factor = [T::one(), root, half, half * root][self.rank];
        let [_, ny, nx] = self.large;
        let [mz, my, mx] = self.small;
        let rows = N / 2;
        for z in 0..mz {
            for y in 0..my {
                // Start of each of the rows that meet here, on the large side and on the small side.
                let row = |r: usize| {
                    let (y, z) = (if rows > 1 { 2 * y + (r & 1) } else { y }, if rows > 2 { 2 * z + (r >> 1) } else { z });
                    plane + (z * ny + y) * nx
                };
                let large: [usize; N] = std::array::from_fn(|q| row(q >> 1));
                let small: [usize; N] = std::array::from_fn(|q| band(q) + (z * my + y) * mx);
                match dir {
                    Direction::Forward => {
                        let source: [&[T]; N] = large.map(|at| &from[at..at + nx]);
                        for x in 0..mx {
                            let values: [T; N] = butterfly(std::array::from_fn(|q| source[q][2 * x + (q & 1)]), factor);
                            for q in 0..N {
                                to[small[q] + x] = values[q];
                            }
                        }
                    }
                    Direction::Inverse => {
                        let source: [&[T]; N] = small.map(|at| &from[at..at + mx]);
                        for x in 0..mx {
                            let values: [T; N] = butterfly(std::array::from_fn(|q| source[q][x]), factor);
                            for q in 0..N {
                                to[large[q] + 2 * x + (q & 1)] = values[q];
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums and differences along each axis; its own inverse.
#[inline(always)]
fn butterfly<T: Float, const N: usize>(mut v: [T; N], factor: T) -> [T; N] {
    let mut step = 1;
    while step < N {
        for q in 0..N {
            if q & step == 0 {
                (v[q], v[q | step]) = (v[q] + v[q | step], v[q] - v[q | step]);
            }
        }
        step *= 2;
    }
    v.map(|x| x * factor)
}
