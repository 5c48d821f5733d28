//! Floor 0: element types, boxes of elements, strides, and the copies and casts between them.
//!
//! Pure arithmetic on numbers and byte slices: no files, no names of frameworks.

#![forbid(unsafe_code)]

mod cast;
mod copy;
mod dtype;
mod minifloat;
mod synth;
mod walk;

pub use cast::{CastError, cast, castable, round_equal};
pub use copy::{
    Affine, Against, Differences, Total, accumulate, compare, compare_values, convert,
    convert_synth, copy, settle,
};
pub use dtype::DType;
pub use synth::{synth, synth_f32, synth_seed};
pub use walk::{Step, Walk, WalkError};
