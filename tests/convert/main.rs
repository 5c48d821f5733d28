//! Conversions against the oracles, bit for bit.

mod blocks;
mod families;
mod hf;
mod layers;
mod padding;
mod same;
mod stored;
