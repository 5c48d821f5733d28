//! Conversions against the oracles, bit for bit.

mod hf;
mod same;
mod stored;
