//! The command as a person meets it: what each prints on both streams, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checkpoints;
mod diff;
mod help;
mod invariants;
mod json;
mod recognition;
mod redact;
mod specs;
mod untrue;
