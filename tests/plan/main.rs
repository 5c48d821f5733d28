//! The planner without files: index-coded tensors through every view and mesh.

mod round_trip;
mod rows;
mod simulate;
