//! Throughput of pointwise kernels.
fn main() {}
