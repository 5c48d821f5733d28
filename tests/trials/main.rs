//! `ucl test`: what it runs, what it finds, and what nothing would find.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod mutants;
mod shipped;
mod told;
