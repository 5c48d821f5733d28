//! Conversions against the oracles, bit for bit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod beside;
mod blocks;
mod dcp;
mod example;
mod families;
mod folders;
mod hf;
mod layers;
mod padding;
mod same;
mod stored;
