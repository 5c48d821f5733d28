//! Writes what Megatron-LM saves in its `torch` format, by the simplest loops: the test's own idea of the
//! format, to hold the reader's against.

mod expected;
mod module;
mod save;
mod states;

use serde_json::{Value, json};

/// How tensors are called and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Megatron-core with Transformer Engine.
    Engine,
    /// Megatron-core with its own layers.
    Local,
    /// Megatron-core's experts in one tensor, whose header shows another order than the bytes have.
    Gemm,
    /// Megatron-core's experts with a number at the end of the name.
    Grouped,
    /// Before Megatron-core: nested dicts.
    Legacy,
    /// The same before attention was called `self_attention`, and the stack `encoder`.
    Oldest,
}

/// A model, a mesh, and how it was saved.
#[derive(Clone, Debug)]
pub struct Mlm {
    /// Spelling.
    pub names: Names,
    /// Layers of each chunk: by virtual stage, then stage.
    pub layers: Vec<Vec<usize>>,
    /// Tensor ranks.
    pub tp: usize,
    /// Expert ranks.
    pub ep: usize,
    /// Tensor ranks of experts.
    pub etp: usize,
    /// Experts; none for a dense model.
    pub experts: usize,
    /// A GPT: biases, learned positions, no gate, tied embeddings.
    pub gpt: bool,
    /// Weights in bf16 with masters beside them, or in fp32 without.
    pub half: bool,
    /// `checkpoint_version`.
    pub version: Option<f64>,
    /// Whether the second expert rank's final norm is another than the first's.
    pub drift: bool,
    /// Whether matrices are in two groups that nothing tells apart.
    pub foreign: bool,
    /// Whether states are those of the distributed optimizer, in flat buffers.
    pub distributed: bool,
    /// Whether rotary pairs are neighbours; heads are then of more than one pair.
    pub interleaved: bool,
    /// Whether the two largest tensors of a buffer are in each other's place.
    pub swapped: bool,
    /// More arguments, or others.
    pub args: Value,
}

/// Width, heads, key heads, rows per head, feed-forward, vocabulary, positions.
const SIZES: [usize; 7] = [6, 8, 4, 2, 12, 13, 5];
/// The table's rows are a multiple of this times tp.
const MULTIPLE: usize = 2;

impl Default for Mlm {
    fn default() -> Mlm {
        Mlm {
            names: Names::Local,
            layers: vec![vec![2]],
            tp: 1,
            ep: 1,
            etp: 1,
            experts: 0,
            gpt: false,
            half: true,
            version: Some(3.0),
            drift: false,
            foreign: false,
            distributed: false,
            interleaved: false,
            swapped: false,
            args: json!({}),
        }
    }
}

impl Mlm {
    fn sizes(&self) -> [usize; 7] {
        let [h, n, k, d, f, v, c] = SIZES;
        [h, n, k, if self.interleaved { 3 * d } else { d }, f, v, c]
    }

    fn is_legacy(&self) -> bool {
        matches!(self.names, Names::Legacy | Names::Oldest)
    }

    /// Stages.
    pub fn pp(&self) -> usize {
        self.layers[0].len()
    }

    fn total(&self) -> usize {
        self.layers.iter().flatten().sum()
    }

    fn arguments(&self) -> Value {
        let [h, n, k, d, f, v, c] = self.sizes();
        let virtual_stages = (self.layers.len() > 1).then_some(self.layers.len());
        json!({
            "num_layers": self.total(), "hidden_size": h, "ffn_hidden_size": f,
            "num_attention_heads": n, "group_query_attention": !self.gpt,
            "num_query_groups": if self.gpt { 1 } else { k }, "kv_channels": d,
            "max_position_embeddings": c, "make_vocab_size_divisible_by": MULTIPLE,
            "padded_vocab_size": v.next_multiple_of(MULTIPLE * self.tp),
            "tokenizer_type": "NullTokenizer", "vocab_size": v - 1,
            "swiglu": !self.gpt, "untie_embeddings_and_output_weights": !self.gpt,
            "rotary_interleaved": self.interleaved, "rotary_percent": 1.0,
            "num_experts": (self.experts > 0).then_some(self.experts),
            "tensor_model_parallel_size": self.tp, "pipeline_model_parallel_size": self.pp(),
            "virtual_pipeline_model_parallel_size": virtual_stages,
            "expert_model_parallel_size": self.ep, "expert_tensor_parallel_size": self.etp,
        })
    }
}
