//! Conversions against the oracles, bit for bit.

mod hf;
mod layers;
mod same;
mod stored;
