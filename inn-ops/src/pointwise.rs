//! Pointwise kernels that layers share.
