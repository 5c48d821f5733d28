//! A Llama as Megatron-DeepSpeed trains it without a pipeline, and as Hugging Face names it.

use super::run::{Run, Zero};
use super::whole::{Cut, Whole, expected, groups};
use crate::oracle::Tensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Llama {
    /// Layers.
    pub layers: usize,
    /// Width.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads.
    pub kv: usize,
    /// Rows per head.
    pub head: usize,
    /// Width of the feed-forward part.
    pub ffn: usize,
    /// True size of the vocabulary.
    pub vocab: usize,
    /// The table's rows are a multiple of this times tp.
    pub multiple: usize,
}

/// Divides by 1, 2 and 4 tensor ranks; the vocabulary divides by nothing.
pub const SMALL: Llama =
    Llama { layers: 2, hidden: 6, heads: 8, kv: 4, head: 2, ffn: 12, vocab: 13, multiple: 2 };

const LAYER: &str = "language_model.encoder.layers";

impl Llama {
    /// The tensors of Megatron-DeepSpeed in forward order.
    pub fn megatron(&self) -> Vec<Whole> {
        let Llama { hidden: h, heads: n, kv: k, head: d, ffn: f, vocab: v, multiple, .. } = *self;
        let table = Cut::Padded { multiple };
        let mut list =
            vec![("language_model.embedding.word_embeddings.weight".to_owned(), v, Some(h), table)];
        for l in 0..self.layers {
            let mut add = |name, rows, columns, cut| {
                list.push((format!("{LAYER}.{l}.{name}.weight"), rows, columns, cut));
            };
            add("input_layernorm", h, None, Cut::Nowhere);
            add("self_attention.query_key_value", (n + 2 * k) * d, Some(h), Cut::Rows);
            add("self_attention.dense", h, Some(n * d), Cut::Columns);
            add("post_attention_layernorm", h, None, Cut::Nowhere);
            add("mlp.dense_h_to_4h", 2 * f, Some(h), Cut::Halves);
            add("mlp.dense_4h_to_h", h, Some(f), Cut::Columns);
        }
        let norm = "language_model.encoder.final_layernorm.weight".to_owned();
        list.push((norm, h, None, Cut::Nowhere));
        list.push(("language_model.output_layer.weight".to_owned(), v, Some(h), table));
        numbered(list)
    }

    /// The tensors of Hugging Face in forward order.
    pub fn hf(&self) -> Vec<Whole> {
        let Llama { hidden: h, heads: n, kv: k, head: d, ffn: f, vocab: v, .. } = *self;
        let mut list = vec![("model.embed_tokens.weight".to_owned(), v, Some(h), Cut::Nowhere)];
        for l in 0..self.layers {
            let mut add = |name, rows, columns| {
                list.push((format!("model.layers.{l}.{name}.weight"), rows, columns, Cut::Nowhere));
            };
            add("self_attn.q_proj", n * d, Some(h));
            add("self_attn.k_proj", k * d, Some(h));
            add("self_attn.v_proj", k * d, Some(h));
            add("self_attn.o_proj", h, Some(n * d));
            add("mlp.gate_proj", f, Some(h));
            add("mlp.up_proj", f, Some(h));
            add("mlp.down_proj", h, Some(f));
            add("input_layernorm", h, None);
            add("post_attention_layernorm", h, None);
        }
        list.push(("model.norm.weight".to_owned(), h, None, Cut::Nowhere));
        list.push(("lm_head.weight".to_owned(), v, Some(h), Cut::Nowhere));
        numbered(list)
    }

    /// A run of Megatron-DeepSpeed.
    pub fn run(&self, dp: usize, tp: usize, zero: Zero) -> Run {
        let tensors = self.megatron();
        let args = json!({
            "num_layers": self.layers, "hidden_size": self.hidden, "ffn_hidden_size": self.ffn,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv,
            "kv_channels": self.head, "make_vocab_size_divisible_by": self.multiple,
            "padded_vocab_size": self.padded(tp), "tensor_model_parallel_size": tp,
            "pipeline_model_parallel_size": 1, "use_rotary_position_embeddings": true,
            "add_position_embedding": false, "normalization": "rmsnorm", "swiglu": true,
            "apply_layernorm_1p": false, "untie_embeddings_and_output_weights": true,
        });
        let info = json!({
            "universal_checkpoint_version": 0.4, "original_vocab_size": self.vocab,
            "padded_vocab_size": self.padded(tp),
            "vocabulary_parameter_patterns": [
                "language_model.embedding.word_embeddings.weight",
                "language_model.output_layer.weight",
            ],
            "tp_replicated_parameter_patterns": [
                "language_model.encoder.layers.\\d+.input_layernorm.weight",
                "language_model.encoder.layers.\\d+.post_attention_layernorm.weight",
                "language_model.encoder.final_layernorm.weight",
            ],
            "parameter_with_row_parallelism_patterns": [
                "language_model.encoder.layers.\\d+.mlp.dense_4h_to_h.weight",
                "language_model.encoder.layers.\\d+.self_attention.dense.weight",
            ],
            "parameter_with_2_sub_params_cat_dim_0": [
                "language_model.encoder.layers.\\d+.mlp.dense_h_to_4h.weight",
            ],
        });
        let ranks = (0..tp).map(|rank| groups(&tensors, rank, tp)).collect();
        Run { dp, zero, step: 7, args, info, ranks }
    }

    /// A run of the model of Hugging Face, which nothing but ZeRO cuts.
    pub fn hf_run(&self, dp: usize, zero: Zero) -> Run {
        let ranks = vec![groups(&self.hf(), 0, 1)];
        Run { dp, zero, step: 7, args: Value::Null, info: Value::Null, ranks }
    }

    /// Rows of the padded vocabulary.
    pub fn padded(&self, tp: usize) -> usize {
        self.vocab.next_multiple_of(self.multiple * tp)
    }

    /// What the universal checkpoint of [`Llama::megatron`] holds, by row formulas.
    pub fn universal(&self) -> BTreeMap<String, Tensors> {
        let Llama { hidden, heads, kv, head: d, ffn, vocab, .. } = *self;
        let q = heads / kv;
        let [h, n, k, f, v] = [hidden, heads, kv, ffn, vocab].map(|size| size as u64);
        let all = |size: usize| (0..size).collect::<Vec<_>>();
        let tensors = self.megatron();
        let mut parts = Vec::new();
        for whole in &tensors {
            let mut add = |name: &str, shape: &[u64], rows| {
                parts.push((name.to_owned(), shape.to_vec(), whole, rows));
            };
            let Some(rest) = whole.name.strip_prefix(LAYER) else {
                match whole.name.as_str() {
                    "language_model.embedding.word_embeddings.weight" => {
                        add("embed", &[v, h], all(vocab));
                    }
                    "language_model.output_layer.weight" => add("head", &[v, h], all(vocab)),
                    _ => add("norm", &[h], all(hidden)),
                }
                continue;
            };
            let (layer, rest) = rest[1..].split_once('.').expect("a layer");
            let to = |name: &str| format!("l.{layer}.{name}");
            // In a group of the fused rows: q queries, a key, a value; `d` rows each.
            let fused = |group: usize, part: usize| {
                (0..d).map(move |row| (group * (q + 2) + part) * d + row)
            };
            match rest {
                "input_layernorm.weight" => add(&to("attn.norm"), &[h], all(hidden)),
                "post_attention_layernorm.weight" => add(&to("mlp.norm"), &[h], all(hidden)),
                "self_attention.query_key_value.weight" => {
                    let queries = (0..heads).flat_map(|head| fused(head / q, head % q));
                    add(&to("attn.q"), &[n, d as u64, h], queries.collect());
                    let keys = (0..kv).flat_map(|group| fused(group, q));
                    add(&to("attn.k"), &[k, d as u64, h], keys.collect());
                    let values = (0..kv).flat_map(|group| fused(group, q + 1));
                    add(&to("attn.v"), &[k, d as u64, h], values.collect());
                }
                "self_attention.dense.weight" => {
                    add(&to("attn.o"), &[h, n, d as u64], all(hidden));
                }
                "mlp.dense_h_to_4h.weight" => {
                    add(&to("mlp.gate"), &[f, h], all(ffn));
                    add(&to("mlp.up"), &[f, h], (ffn..2 * ffn).collect());
                }
                _ => add(&to("mlp.down"), &[h, f], all(hidden)),
            }
        }
        expected(&parts)
    }

    /// What a conversion of [`Llama::hf`] under its own names holds.
    pub fn hf_names(&self) -> BTreeMap<String, Tensors> {
        as_they_are(&self.hf())
    }

    /// What a conversion of [`Llama::megatron`] under its own names holds.
    pub fn stored(&self) -> BTreeMap<String, Tensors> {
        as_they_are(&self.megatron())
    }
}

/// Whole tensors under their own names.
pub fn as_they_are(tensors: &[Whole]) -> BTreeMap<String, Tensors> {
    let parts = tensors.iter().map(|whole| {
        let mut shape = vec![whole.rows as u64];
        shape.extend(whole.columns.map(|columns| columns as u64));
        (whole.name.clone(), shape, whole, (0..whole.rows).collect())
    });
    expected(&parts.collect::<Vec<_>>())
}

fn numbered(list: Vec<(String, usize, Option<usize>, Cut)>) -> Vec<Whole> {
    let number = |(seed, (name, rows, columns, cut))| Whole {
        name,
        rows,
        columns,
        cut,
        seed: seed as u64 + 1,
    };
    list.into_iter().enumerate().map(number).collect()
}
