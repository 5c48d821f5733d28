//! Low-rank pairs beside weights (LoRA): which tensors they are, by the names that DeepSpeed-Chat and
//! PEFT give them, and what they are multiplied by.
//!
//! DeepSpeed-Chat keeps `<module>.lora_right_weight` `[in, rank]` and `<module>.lora_left_weight`
//! `[rank, out]` beside `<module>.weight`; PEFT keeps `<module>.lora_A.<adapter>.weight` `[rank, in]` and
//! `<module>.lora_B.<adapter>.weight` `[out, rank]` beside `<module>.base_layer.weight`, all below
//! `base_model.model.`; for an embedding `lora_embedding_A` `[rank, rows]` and `lora_embedding_B`
//! `[columns, rank]`.

mod apart;
mod config;
mod join;
mod names;

pub(crate) use apart::set_apart;
pub use join::join;
pub use names::is_half;

use serde::{Deserialize, Serialize};

/// The low-rank pairs of a checkpoint. Their tensors are in the inventory like others, and are no
/// parameters of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Adapters {
    /// The names of all tensors that belong to adapters.
    pub tensors: Vec<String>,
    /// The pairs.
    pub pairs: Vec<Pair>,
    /// The view that spells the names of their weights, where it is not the one that the checkpoint is
    /// stored in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<String>,
    /// Why adding the pairs to their weights would not give the trained model; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
}

/// Two small matrices whose scaled product is added to a weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The stored name of the weight.
    pub weight: String,
    /// The stored name of the half that meets the input.
    pub down: String,
    /// The stored name of the half that makes the output.
    pub up: String,
    /// Whose names and shapes these are.
    pub convention: Convention,
    /// The scale is alpha / rank; `None` where nothing records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Whether the scale is alpha / √rank instead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root: bool,
    /// The rank that a document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u64>,
    /// Whether the weight is stored `[in, out]`; `None` where nothing says so but its shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transposed: Option<bool>,
}

/// Whose names and shapes a pair has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// `lora_right_weight` is `[in, rank]`, `lora_left_weight` `[rank, out]`.
    DeepspeedChat,
    /// `lora_A` is `[rank, in]`, `lora_B` `[out, rank]`.
    Peft,
}

impl Convention {
    /// Which dim of the half that meets the input is the rank; of the other half it is the other.
    pub fn rank_of_down(self) -> usize {
        match self {
            Convention::DeepspeedChat => 1,
            Convention::Peft => 0,
        }
    }

    /// Who calls them so.
    pub fn name(self) -> &'static str {
        match self {
            Convention::DeepspeedChat => "DeepSpeed-Chat",
            Convention::Peft => "PEFT",
        }
    }
}

impl Adapters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Whether a tensor of this name belongs to an adapter.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|known| known == name)
    }
}
