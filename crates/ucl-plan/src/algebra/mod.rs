//! Layout expressions, and what they become: pieces of parameters at addresses.
//!
//! Five constructors say how anything is stored. Lowering one gives boxes of a parameter's dims, each
//! with an address for its low corner and a stride for every dim.

mod expr;
mod piece;
mod proof;
mod walk;

pub(crate) use expr::Expr;
pub(crate) use piece::{
    Bounds, Component, Strides, address, boxed_components, clip, flat_components, meet,
    strided_components, volume,
};
pub use proof::Addresses;
pub(crate) use proof::{times, total, weight};
