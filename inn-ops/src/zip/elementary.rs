//! Elementary functions of `f32` on vectors: range reduction and minimax polynomials (Cephes, S. L. Moshier), within 2 units in the last
//! place, right at infinities and NaN.
//!
//! Products and sums are not fused, so that every instruction set gives the same bits.

use super::vector::Bits;
use inn_core::Scalar;

/// Adding this to a whole n in [-126, 128) leaves n + 127 in the low bits of the mantissa.
pub(super) const EXPONENT: f64 = ROUND + 127.0;
/// 1.5 · 2^23: adding it and taking it away rounds to a whole number.
const ROUND: f64 = 12_582_912.0;
/// ln 2 in two parts, of which the first times a whole number below 2^15 is exact.
const LN_2: (f64, f64) = (0.693_359_375, -2.121_944_4e-4);

/// c₀ + c₁ x + c₂ x² + ...
#[inline(always)]
fn polynomial<V: Scalar, const N: usize>(x: V, coefficients: [f64; N]) -> V {
    let mut sum = V::constant(coefficients[N - 1]);
    for c in coefficients[..N - 1].iter().rev() {
        sum = sum * x + V::constant(*c);
    }
    sum
}

/// e^x.
#[inline(always)]
pub(super) fn exp<V: Bits>(x: V) -> V {
    // Beyond these bounds the result is 0 or infinite anyway. NaN passes both.
    let low = V::constant(-104.0);
    let high = V::constant(89.0);
    let x = low.select_ge(x, low, high.select_ge(x, x, x.select_ge(high, high, x)));
    let n = (x * V::constant(std::f64::consts::LOG2_E) + V::constant(ROUND)) - V::constant(ROUND);
    let r = (x - n * V::constant(LN_2.0)) - n * V::constant(LN_2.1);
    let p = polynomial(r, [0.500_000_012, 0.166_666_654_6, 4.166_579_589_4e-2, 8.333_451_907_3e-3, 1.398_199_950_7e-3, 1.987_569_15e-4]);
    let p = (p * r.square() + r) + V::one();
    // In two steps, so that subnormal results and overflow come out right.
    let half = (n * V::constant(0.5) + V::constant(ROUND)) - V::constant(ROUND);
    p * V::exp2(half) * V::exp2(n - half)
}

/// ln x.
#[inline(always)]
pub(super) fn ln<V: Bits>(x: V) -> V {
    // Subnormal numbers are scaled into range.
    let smallest = V::constant(f64::from(f32::MIN_POSITIVE));
    let normal = x.select_ge(smallest, x, x * V::constant(8_388_608.0));
    let shift = x.select_ge(smallest, V::zero(), V::constant(-23.0));
    let (m, e) = normal.frexp();
    // m in [√½, √2).
    let root = V::constant(std::f64::consts::FRAC_1_SQRT_2);
    let e = e + shift + m.select_ge(root, V::zero(), V::constant(-1.0));
    let f = m.select_ge(root, m, m + m) - V::one();
    let z = f.square();
    let p = polynomial(
        f,
        [
            3.333_333_117_4e-1,
            -2.499_999_399_3e-1,
            2.000_071_476_5e-1,
            -1.666_805_766_5e-1,
            1.424_932_278_7e-1,
            -1.242_014_084_6e-1,
            1.167_699_874e-1,
            -1.151_461_031e-1,
            7.037_683_629_2e-2,
        ],
    );
    let y = f * z * p + e * V::constant(LN_2.1) - V::constant(0.5) * z;
    let finite = (f + y) + e * V::constant(LN_2.0);
    // ln 0 = -∞, ln ∞ = ∞, NaN below 0 and at NaN.
    let infinity = V::constant(f64::INFINITY);
    let positive = V::zero().select_ge(x, -infinity, x.select_ge(infinity, x, finite));
    x.select_ge(V::zero(), positive, V::constant(f64::NAN))
}

/// ln(1 + x), by the correction of D. Goldberg (1991, theorem 4).
#[inline(always)]
pub(super) fn ln_1p<V: Bits>(x: V) -> V {
    let u = V::one() + x;
    let d = u - V::one();
    // d = 0 where 1 + x rounds to 1; there ln(1 + x) = x.
    let tiny = V::constant(1e-30);
    let small = d.abs().select_ge(tiny, V::zero(), V::one());
    let quotient = ln(u) * (x / (d + small));
    let finite = small.select_ge(V::one(), x, quotient);
    x.select_ge(V::constant(f64::from(f32::MAX)), ln(u), finite)
}

/// tanh x: a polynomial near 0, beyond that from e^2|x|.
#[inline(always)]
pub(super) fn tanh<V: Bits>(x: V) -> V {
    let z = x.square();
    let p = polynomial(z, [-3.333_328_194_2e-1, 1.333_144_204_5e-1, -5.373_971_555_3e-2, 2.063_908_879_5e-2, -5.704_988_727_5e-3]);
    let near = x + x * z * p;
    let a = x.abs();
    let far = V::one() - V::constant(2.0) / (exp(a + a) + V::one());
    let far = x.select_ge(V::zero(), far, -far);
    // `a >= bound` is false for NaN, which the polynomial keeps.
    a.select_ge(V::constant(0.625), far, near)
}

/// atan x: reduced to |x| ≤ tan(π/8).
#[inline(always)]
pub(super) fn atan<V: Bits>(x: V) -> V {
    let a = x.abs();
    let (big, middle) = (V::constant(2.414_213_562_373_095), V::constant(0.414_213_562_373_095_05));
    let denominator = a.select_ge(big, a, a.select_ge(middle, a + V::one(), V::one()));
    let numerator = a.select_ge(big, -V::one(), a.select_ge(middle, a - V::one(), a));
    let offset = a.select_ge(
        big,
        V::constant(std::f64::consts::FRAC_PI_2),
        a.select_ge(middle, V::constant(std::f64::consts::FRAC_PI_4), V::zero()),
    );
    let r = numerator / denominator;
    let z = r.square();
    let p = polynomial(z, [-3.333_294_943_9e-1, 1.997_771_086_6e-1, -1.387_768_560_3e-1, 8.053_744_9e-2]);
    let y = offset + (r + r * z * p);
    x.select_ge(V::zero(), y, -y)
}
