//! Where something stands in the text of a spec.

use serde::{Deserialize, Serialize};

/// A byte range of one source text of a [`Program`](crate::Program).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Span {
    /// Index into [`Program::sources`](crate::Program::sources).
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// One `.ucl` text that a program was compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file's name as the user knows it (`specs/llama.ucl`, or `llama` for a built-in spec).
    pub name: String,
    /// The whole text.
    pub text: String,
}
