//! The model's tensors, whole, and what a rank holds of them.

use super::{MULTIPLE, Mlm, Names};
use crate::made::whole::{Cut, Whole};

/// Adds a parameter: its name; layer, expert, and whether it is of the first stage; rows; columns; its cut.
type Add<'a> =
    dyn FnMut(&str, (Option<usize>, Option<usize>, bool), usize, Option<usize>, Cut) + 'a;

/// A tensor and where it lies.
pub(super) struct Placed {
    pub(super) whole: Whole,
    /// Its layer by global number.
    pub(super) layer: Option<usize>,
    /// Its expert by global number.
    pub(super) expert: Option<usize>,
    pub(super) first: bool,
}

impl Mlm {
    /// All tensors of the model under names with global numbers, in forward order.
    pub(super) fn tensors(&self) -> Vec<Placed> {
        let [h, n, k, d, f, v, c] = self.sizes();
        let k = if self.gpt { n } else { k };
        let legacy = self.is_legacy();
        let mut list: Vec<Placed> = Vec::new();
        let mut add = |name: &str, at: (Option<usize>, Option<usize>, bool), rows, columns, cut| {
            let seed = list.len() as u64 + 1;
            let whole = Whole { name: name.to_owned(), rows, columns, cut, seed };
            list.push(Placed { whole, layer: at.0, expert: at.1, first: at.2 });
        };
        let table = Cut::Padded { multiple: MULTIPLE };
        let top = if legacy { "language_model." } else { "" };
        let first = (None, None, true);
        add(&format!("{top}embedding.word_embeddings.weight"), first, v, Some(h), table);
        if self.gpt {
            let name = format!("{top}embedding.position_embeddings.weight");
            add(&name, first, c, Some(h), Cut::Nowhere);
        }
        let stack = match self.names {
            Names::Legacy => "language_model.encoder",
            Names::Oldest => "language_model.transformer",
            _ => "decoder",
        };
        for l in 0..self.total() {
            let here = (Some(l), None, false);
            let p = format!("{stack}.layers.{l}");
            let both =
                |add: &mut Add<'_>, name: &str, rows: usize, columns: Option<usize>, cut: Cut| {
                    add(&format!("{p}.{name}weight"), here, rows, columns, cut);
                    if self.gpt {
                        let cut = if cut == Cut::Columns { Cut::Nowhere } else { cut };
                        add(&format!("{p}.{name}bias"), here, rows, None, cut);
                    }
                };
            let [norm1, qkv, proj, norm2, fc1, fc2] = match self.names {
                Names::Legacy => [
                    "input_norm.",
                    "self_attention.query_key_value.",
                    "self_attention.dense.",
                    "post_attention_norm.",
                    "mlp.dense_h_to_4h.",
                    "mlp.dense_4h_to_h.",
                ],
                Names::Oldest => [
                    "input_layernorm.",
                    "attention.query_key_value.",
                    "attention.dense.",
                    "post_attention_layernorm.",
                    "mlp.dense_h_to_4h.",
                    "mlp.dense_4h_to_h.",
                ],
                Names::Local => [
                    "input_layernorm.",
                    "self_attention.linear_qkv.",
                    "self_attention.linear_proj.",
                    "pre_mlp_layernorm.",
                    "mlp.linear_fc1.",
                    "mlp.linear_fc2.",
                ],
                _ => [
                    "self_attention.linear_qkv.layer_norm_",
                    "self_attention.linear_qkv.",
                    "self_attention.linear_proj.",
                    if self.experts > 0 {
                        "pre_mlp_layernorm."
                    } else {
                        "mlp.linear_fc1.layer_norm_"
                    },
                    "mlp.linear_fc1.",
                    "mlp.linear_fc2.",
                ],
            };
            both(&mut add, norm1, h, None, Cut::Nowhere);
            both(&mut add, proj, h, Some(n * d), Cut::Columns);
            both(&mut add, qkv, (n + 2 * k) * d, Some(h), Cut::Rows);
            both(&mut add, norm2, h, None, Cut::Nowhere);
            if self.experts == 0 {
                let (rows, cut) = if self.gpt { (f, Cut::Rows) } else { (2 * f, Cut::Halves) };
                both(&mut add, fc1, rows, Some(h), cut);
                both(&mut add, fc2, h, Some(f), Cut::Columns);
                continue;
            }
            add(&format!("{p}.mlp.router.weight"), here, self.experts, Some(h), Cut::Nowhere);
            for e in 0..self.experts {
                let of = (Some(l), Some(e), false);
                let name =
                    |fc: &str| format!("{p}.mlp.experts.local_experts.{e}.linear_{fc}.weight");
                add(&name("fc1"), of, 2 * f, Some(h), Cut::Halves);
                add(&name("fc2"), of, h, Some(f), Cut::Columns);
            }
        }
        let last = (None, None, false);
        let norm = match self.names {
            Names::Legacy => format!("{stack}.final_norm"),
            _ => format!("{stack}.final_layernorm"),
        };
        add(&format!("{norm}.weight"), last, h, None, Cut::Nowhere);
        if self.gpt {
            add(&format!("{norm}.bias"), last, h, None, Cut::Nowhere);
        } else {
            add(&format!("{top}output_layer.weight"), last, v, Some(h), table);
        }
        list
    }

    /// What a rank's chunk holds, under local names, in the order of the module.
    pub(super) fn chunk(
        &self,
        tensors: &[Placed],
        [chunk, stage, t, x, et]: [usize; 5],
    ) -> Vec<Piece> {
        let before: usize = self.layers[..chunk].iter().flatten().sum();
        let start = before + self.layers[chunk][..stage].iter().sum::<usize>();
        let layers = start..start + self.layers[chunk][stage];
        let local = self.experts / self.ep;
        let experts = x * local..(x + 1) * local;
        let is_first = chunk == 0 && stage == 0;
        let is_last = chunk + 1 == self.layers.len() && stage + 1 == self.pp();
        let mut held: Vec<Piece> = Vec::new();
        for one in tensors {
            let here = match one.layer {
                Some(layer) => layers.contains(&layer),
                None if one.first => is_first,
                None => is_last,
            };
            if !here || one.expert.is_some_and(|expert| !experts.contains(&expert)) {
                continue;
            }
            let piece = match one.expert {
                Some(_) => one.whole.piece(et, self.etp),
                None => one.whole.piece(t, self.tp),
            };
            let mut name = piece.name.clone();
            if let Some(layer) = one.layer {
                let to = format!(".layers.{}.", layer - start);
                name = name.replace(&format!(".layers.{layer}."), &to);
            }
            if let Some(expert) = one.expert {
                let from = format!("local_experts.{expert}.");
                let to = format!("local_experts.{}.", expert - experts.start);
                name = name.replace(&from, &to);
                if self.names == Names::Grouped {
                    let rest = name.replace(&to, "");
                    name = format!("{rest}{}", expert - experts.start);
                }
            }
            held.push(Piece {
                name,
                shape: piece.shape,
                states: piece.states,
                expert: one.expert.is_some(),
            });
        }
        let norms = held.iter_mut().filter(|piece| piece.name.ends_with("final_layernorm.weight"));
        if self.drift && x == 1 {
            norms.for_each(|norm| norm.states[0][0] += 1.0);
        }
        if self.names == Names::Gemm {
            held = gemm(held, local);
        }
        if self.gpt && is_last && !is_first {
            let table = &tensors[0].whole.piece(t, self.tp);
            let name = match self.names {
                Names::Legacy | Names::Oldest => "word_embeddings_for_head.weight",
                _ => "output_layer.weight",
            };
            let (shape, states) = (table.shape.clone(), table.states.clone());
            held.push(Piece { name: name.to_owned(), shape, states, expert: false });
        }
        held
    }
}

/// What a rank holds of a tensor: weight and moments in fp32.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) states: [Vec<f32>; 3],
    pub(super) expert: bool,
}

/// All experts of a layer in two tensors: the bytes are `[expert, h, 2f]` and `[expert, f, h]`, the
/// headers show `[h, expert * 2f]` and `[expert * f, h]`.
fn gemm(held: Vec<Piece>, experts: usize) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in held {
        let Some((layer, _)) = piece.name.split_once("local_experts.") else {
            out.push(piece);
            continue;
        };
        let number = if piece.name.contains("fc1") { 1 } else { 2 };
        let name = format!("{layer}weight{number}");
        let [rows, columns] = [piece.shape[0], piece.shape[1]];
        let turned = piece.states.map(|state| {
            let mut turned = Vec::with_capacity(state.len());
            for column in 0..columns {
                turned.extend((0..rows).map(|row| state[(row * columns + column) as usize]));
            }
            turned
        });
        let position = out.iter().position(|known| known.name == name);
        match position {
            Some(position) => {
                for (known, more) in out[position].states.iter_mut().zip(turned) {
                    known.extend(more);
                }
            }
            None => {
                let count = experts as u64;
                let shape = match number {
                    1 => vec![columns, count * rows],
                    _ => vec![count * columns, rows],
                };
                out.push(Piece { name, shape, states: turned, expert: true });
            }
        }
    }
    out
}
