//! The language: its text, and what it means.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod semantics;
mod syntax;
