//! The language: its text, and what it means.

mod semantics;
mod syntax;
