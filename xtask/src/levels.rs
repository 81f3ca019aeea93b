//! The instruction sets that the kernels are written for.

/// A value of `INN_SIMD`, and whether this machine can run it.
///
/// What each takes is said in `inn_ops::simd`; a test of that crate fails where the two disagree.
pub struct Level {
    /// As `INN_SIMD` spells it.
    pub name: &'static str,
    /// Whether this machine has it.
    pub available: bool,
}

/// All of them, the widest first.
pub fn all() -> [Level; 4] {
    [("avx512", avx512()), ("avx2", avx2()), ("neon", cfg!(target_arch = "aarch64")), ("scalar", true)]
        .map(|(name, available)| Level { name, available })
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("popcnt")
}

#[cfg(not(target_arch = "x86_64"))]
fn avx512() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn avx2() -> bool {
    false
}
