//! Floor 2: from the text of a spec to its [`Program`](ucl_ir::Program).
//!
//! It does not know that checkpoints exist. Stages: `parse` (text to [`ast`]), `resolve`
//! (inheritance, names, shapes), `check` (the proofs that need no files).

#![forbid(unsafe_code)]

mod any;
pub mod ast;
mod build;
mod check;
mod fmt;
mod grammar;
mod library;
mod recover;
mod resolve;
pub mod suggest;
mod syntax;
mod tokens;

pub use check::{absent, check};
pub use fmt::format;
pub use library::Library;
pub use syntax::parse;
