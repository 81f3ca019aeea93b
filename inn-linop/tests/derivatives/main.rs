//! Derivatives of layers and networks, against differences and against their definitions written out.

mod first;
mod flow;
mod second;
