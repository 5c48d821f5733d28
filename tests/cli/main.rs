//! The command as a person meets it: what each prints on both streams, and how it ends.

mod checkpoints;
mod help;
mod invariants;
mod json;
mod redact;
mod specs;
mod untrue;
