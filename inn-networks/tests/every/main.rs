//! Every layer and network at once, in f64: random architectures, what the original gets wrong, awkward shapes. One program, so that the
//! harness is compiled for one type.

mod any;
mod awkward;
mod defects;
mod draw;
mod gradients;
mod networks;
mod random;
