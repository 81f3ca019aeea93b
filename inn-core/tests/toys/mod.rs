//! Small layers, conditioners and operators on the contract, healthy or with one deliberate defect.
#![allow(dead_code, unused_imports, reason = "each test program uses a part")]

mod defects;
mod mixer;
mod scale;

pub use defects::Defect;
pub use mixer::{Blur, BlurNet, Mixer};
pub use scale::ConditionalScale;
