//! Shared by the tests: fixtures with their oracles, the command in this process, and results read
//! back with independent readers.

pub mod command;
pub mod diagnostics;
pub mod made;
pub mod oracle;
pub mod rounding;
pub mod written;

use std::path::PathBuf;

/// The path of a fixture.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}
