//! The cache of a core.

use std::sync::LazyLock;

static FIRST_LEVEL: LazyLock<Option<usize>> = LazyLock::new(measure);

/// Bytes of the first-level data cache, where the CPU tells.
pub(crate) fn first_level() -> Option<usize> {
    *FIRST_LEVEL
}

/// Intel tells by leaf 4, AMD in the same form by another one; both tell nothing of leaves that they do not have.
#[cfg(target_arch = "x86_64")]
fn measure() -> Option<usize> {
    use std::arch::x86_64::__cpuid_count;

    let (basic, extended) = (__cpuid_count(0, 0).eax, __cpuid_count(0x8000_0000, 0).eax);
    let known = |leaf: u32| leaf <= if leaf < 0x8000_0000 { basic } else { extended };
    let caches = [4, 0x8000_001d].into_iter().filter(|&leaf| known(leaf)).flat_map(|leaf| (0..8).map(move |i| __cpuid_count(leaf, i)));
    caches
        .filter(|cache| cache.eax & 0xff == 0x21)
        .map(|cache| {
            let part = |low: u32, bits: u32| (cache.ebx >> low & ((1 << bits) - 1)) as usize + 1;
            part(0, 12) * part(12, 10) * part(22, 10) * (cache.ecx as usize + 1)
        })
        .next()
}

#[cfg(not(target_arch = "x86_64"))]
fn measure() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_first_level_cache_has_some_kilobytes() {
        assert!(super::first_level().is_none_or(|bytes| (8 << 10..=1 << 20).contains(&bytes) && bytes.is_multiple_of(1 << 10)));
    }
}
