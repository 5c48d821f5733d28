//! Checkpoints of any mesh, written naively: nothing here shares code with the reader or the planner
//! but the pickles and zips of torch.

pub mod llama;
pub mod megatron;
pub mod pt;
pub mod run;
pub mod sharded;
pub mod whole;
