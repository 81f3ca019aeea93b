//! The GPU backend of the `inn` workspace: not written yet.
//!
//! This version holds no kernel, opens no device and depends on no graphics API; `wgpu` is not in its dependencies. The WGSL kernels that
//! answer [`Backend`](inn_core::Backend) in f32 come in a later part of the work. The crate has its place already, so that nothing else has
//! to move then: layers and networks name no backend, and what runs on `inn_ops::Cpu` today is to run on the GPU unchanged.
//!
//! Until then the one thing to ask is whether there is a backend:
//! ```
//! assert!(!inn_gpu::is_available());
//! ```

/// Whether this version can run networks on a GPU of this machine: always `false`, since it contains no GPU code.
pub fn is_available() -> bool {
    false
}

#[cfg(test)]
mod tests {
    /// A machine that is meant to test the GPU says so, and must not pass without one.
    #[test]
    fn a_required_gpu_is_there() {
        let required = std::env::var("INN_REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(
            !required || super::is_available(),
            "INN_REQUIRE_GPU=1 asks for tests on a GPU, but this version of inn-gpu contains no GPU code: nothing was tested there"
        );
    }
}

/// Keeps the example of the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
