//! Conversions against the oracles, bit for bit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod affine;
mod beside;
mod blocks;
mod consolidated;
mod dcp;
mod derived;
mod dschat;
mod example;
mod families;
mod folders;
mod hf;
mod layers;
mod lora;
mod megatron;
mod muon;
mod padding;
mod prefixes;
mod ranks;
mod same;
mod stages;
mod stored;
