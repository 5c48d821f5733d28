//! The planner without files: index-coded tensors through every view and mesh.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod experts;
mod layers;
mod published;
mod round_trip;
mod rows;
mod simulate;
mod turns;
