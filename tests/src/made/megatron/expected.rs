//! What a conversion has to hold, by the formulas of the rows.

use super::Mlm;
use crate::made::whole::{Whole, expected};
use crate::oracle::Tensors;
use std::collections::BTreeMap;

impl Mlm {
    /// What a conversion holds: under Hugging Face's names, or a GPT under universal ones.
    pub fn expected(&self) -> BTreeMap<String, Tensors> {
        let [h, n, k, d, f, v, c] = self.sizes();
        let k = if self.gpt { n } else { k };
        let q = n / k;
        let size = |n: usize| n as u64;
        let tensors = self.tensors();
        let mut parts: Vec<(String, Vec<u64>, &Whole, Vec<usize>)> = Vec::new();
        for one in &tensors {
            let whole = &one.whole;
            let all = |rows: usize| (0..rows).collect::<Vec<_>>();
            let mut add = |name: String, shape: &[usize], rows| {
                parts.push((name, shape.iter().map(|n| size(*n)).collect(), whole, rows));
            };
            let (name, end) = whole.name.rsplit_once(['.', '_']).expect("a name");
            let bias = end == "bias";
            let Some(l) = one.layer else {
                let gpt = self.gpt;
                let to = |own: &str, hf: &str| if gpt { own.to_owned() } else { hf.to_owned() };
                if name.ends_with("word_embeddings") {
                    add(to("embed", "model.embed_tokens.weight"), &[v, h], all(v));
                } else if name.ends_with("position_embeddings") {
                    add("pos".to_owned(), &[c, h], all(c));
                } else if name.ends_with("output_layer") {
                    add("lm_head.weight".to_owned(), &[v, h], all(v));
                } else {
                    let own = if bias { "norm.bias" } else { "norm" };
                    add(to(own, "model.norm.weight"), &[h], all(h));
                }
                continue;
            };
            // In a group of the fused rows: q queries, a key, a value; `d` rows each.
            let fused = |group: usize, part: usize| {
                (0..d).map(move |row| (group * (q + 2) + part) * d + row)
            };
            // Row r of a head is half r / (d / 2) of pair r % (d / 2): its halves are neighbours, or all
            // firsts come before all seconds.
            let turned = |group: usize, part: usize| {
                let half = d / 2;
                let place =
                    move |r: usize| if self.interleaved { 2 * (r % half) + r / half } else { r };
                (0..d).map(move |row| (group * (q + 2) + part) * d + place(row))
            };
            let rows_of = |what: usize| -> Vec<usize> {
                match what {
                    0 => (0..n).flat_map(|head| turned(head / q, head % q)).collect(),
                    1 => (0..k).flat_map(|group| turned(group, q)).collect(),
                    _ => (0..k).flat_map(|group| fused(group, q + 1)).collect(),
                }
            };
            let first_norm = name.ends_with("input_norm")
                || name.ends_with("input_layernorm")
                || name.ends_with("linear_qkv.layer_norm");
            let second_norm = name.ends_with("post_attention_norm")
                || name.ends_with("post_attention_layernorm")
                || name.ends_with("pre_mlp_layernorm")
                || name.ends_with("linear_fc1.layer_norm");
            let qkv = name.ends_with("query_key_value") || name.ends_with("linear_qkv");
            let proj = name.ends_with("attention.dense") || name.ends_with("linear_proj");
            let up = name.ends_with("dense_h_to_4h") || name.ends_with("linear_fc1");
            if self.gpt {
                let to = |own: &str| format!("l.{l}.{own}{}", if bias { ".bias" } else { "" });
                let with =
                    |shape: &[usize]| if bias { shape.to_vec() } else { [shape, &[h]].concat() };
                if first_norm {
                    add(to("attn.norm"), &[h], all(h));
                } else if second_norm {
                    add(to("mlp.norm"), &[h], all(h));
                } else if qkv {
                    for (what, own) in ["attn.q", "attn.k", "attn.v"].into_iter().enumerate() {
                        add(to(own), &with(&[n, d]), rows_of(what));
                    }
                } else if proj {
                    let shape = if bias { vec![h] } else { vec![h, n, d] };
                    add(to("attn.o"), &shape, all(h));
                } else if up {
                    add(to("mlp.up"), &with(&[f]), all(f));
                } else {
                    let shape = if bias { vec![h] } else { vec![h, f] };
                    add(to("mlp.down"), &shape, all(h));
                }
                continue;
            }
            let to = |hf: &str| format!("model.layers.{l}.{hf}.weight");
            let experts = |part: &str| match one.expert {
                Some(e) => to(&format!("block_sparse_moe.experts.{e}.{part}")),
                None => to(match part {
                    "w1" => "mlp.gate_proj",
                    "w3" => "mlp.up_proj",
                    _ => "mlp.down_proj",
                }),
            };
            if first_norm {
                add(to("input_layernorm"), &[h], all(h));
            } else if second_norm {
                add(to("post_attention_layernorm"), &[h], all(h));
            } else if qkv {
                add(to("self_attn.q_proj"), &[n * d, h], rows_of(0));
                add(to("self_attn.k_proj"), &[k * d, h], rows_of(1));
                add(to("self_attn.v_proj"), &[k * d, h], rows_of(2));
            } else if proj {
                add(to("self_attn.o_proj"), &[h, n * d], all(h));
            } else if name.ends_with("router") {
                add(to("block_sparse_moe.gate"), &[self.experts, h], all(self.experts));
            } else if up {
                add(experts("w1"), &[f, h], all(f));
                add(experts("w3"), &[f, h], (f..2 * f).collect());
            } else {
                add(experts("w2"), &[h, f], all(h));
            }
        }
        let mut states = expected(&parts);
        if !self.half {
            let weights = states.remove("fp32").expect("weights");
            states.insert("param".to_owned(), weights);
        }
        states
    }
}
