//! Floor 2: a program and an inventory become a plan: who each stored tensor is, how large every dim
//! is, which bytes go where, and the proof that none is lost.
//!
//! [`bind`] finds the model and binds; [`Plan::new`] plans and proves; a [`Plan`] is [`Work`] for the
//! executor.

#![forbid(unsafe_code)]

mod algebra;
mod bind;
mod cast;
mod class;
mod cover;
mod cut;
mod document;
mod explain;
mod huggingface;
mod laid;
mod lora;
mod manifest;
mod params;
mod pipeline;
mod plan;
mod recognise;
mod report;
mod run;
mod shard;
mod spell;
mod split;
mod step;
mod synth;
mod target;
mod trial;
mod universal;
mod work;

pub use algebra::Addresses;
pub use bind::Bound;
pub use class::{model_type, view_of_class};
pub use document::{document_of, numbers_of};
pub use explain::Slice;
pub use huggingface::{ConfigChange, VIEW as HUGGING_FACE_VIEW};
pub use lora::{Merge, Merged};
pub use params::{Param, ParamDim};
pub use plan::{Plan, Totals};
pub use recognise::{
    Difference, Fit, Foreign, Lost, Recognition, Refusal, Said, Sure, bind, differences, foreign,
    recognise,
};
pub use report::{Report, StateTotals};
pub use shard::{Rank, Shards, shard};
pub use synth::{Synth, SynthRun};
pub use target::{Naming, States, Target, usable_view};
pub use trial::{Trial, Verdict, trials, unpinned};
pub use universal::with_universal_view;
pub use work::{Check, Factor, Loop, Move, MoveRole, Product, TargetFile, TargetTensor, Work};
