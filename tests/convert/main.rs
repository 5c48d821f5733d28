//! Conversions against the oracles, bit for bit.

mod blocks;
mod families;
mod hf;
mod layers;
mod same;
mod stored;
