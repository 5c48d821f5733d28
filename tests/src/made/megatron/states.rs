//! The optimizer's states: numbered ones, and flat buffers of the distributed optimizer.

use super::Mlm;
use super::module::Piece;
use crate::made::pt::Pt;
use crate::made::run::STATES;
use serde_json::json;
use std::path::Path;
use ucl_formats::torch::NodeId;
use ucl_tensor::DType;

impl Mlm {
    /// Dense parameters and experts' have optimizers of their own where experts are spread.
    pub(super) fn optimizers(&self) -> &'static [Option<bool>] {
        let apart = self.ep > 1 || self.etp != self.tp;
        if apart { &[Some(false), Some(true)] } else { &[None] }
    }

    /// The states of all data ranks together; those of dense parameters only where a rank is the first
    /// of these.
    pub(super) fn write_buffers(&self, path: &Path, chunks: &[Vec<Piece>], dense: bool) {
        let mut pt = Pt::default();
        let mut parts = Vec::new();
        for expert in self.optimizers() {
            if *expert == Some(false) && !dense {
                parts.push(pt.pickle.none());
                continue;
            }
            let mut pairs = vec![(pt.pickle.str("buckets_coalesced"), pt.pickle.bool(true))];
            let of = |chunk: &'_ Vec<Piece>| -> Vec<usize> {
                let wanted = |index: &usize| expert.is_none_or(|e| chunk[*index].expert == e);
                (0..chunk.len()).filter(wanted).collect()
            };
            let held =
                chunks.iter().map(|chunk| (chunk, of(chunk))).filter(|(_, of)| !of.is_empty());
            for (number, (chunk, of)) in held.enumerate() {
                let mut entries = Vec::new();
                let mut len = 0;
                for (state, name) in ["param", "exp_avg", "exp_avg_sq"].iter().enumerate() {
                    let values = self.buffer(chunk, &of, state);
                    len = values.len() as i64;
                    entries.push((*name, pt.floats(&[values.len() as u64], &values)));
                }
                entries.push(("numel_unpadded", pt.pickle.int(len)));
                let states = pt.dict(entries);
                let types = [DType::BF16, DType::F32].map(|t| pt.pickle.dtype(t).expect("a type"));
                let types = (pt.pickle.tuple(&types), states);
                let types = pt.pickle.dict(vec![types]);
                pairs.push((pt.pickle.int(number as i64), types));
            }
            parts.push(pt.pickle.dict(pairs));
        }
        let root = if parts.len() == 1 { parts[0] } else { pt.pickle.list(parts) };
        pt.save(root, path);
    }

    /// From the last parameter to the first, each at a multiple of 64; a table that stages share begins
    /// anew and ends without a gap.
    fn buffer(&self, chunk: &[Piece], of: &[usize], state: usize) -> Vec<f32> {
        let mut order: Vec<usize> = of.iter().rev().copied().collect();
        if self.swapped {
            let longest = |order: &[usize]| {
                let len = |place: &usize| chunk[order[*place]].states[0].len();
                (0..order.len()).max_by_key(len).expect("a parameter")
            };
            let one = longest(&order);
            let len = chunk[order[one]].states[0].len();
            let other =
                (0..order.len()).find(|i| *i != one && chunk[order[*i]].states[0].len() == len);
            order.swap(one, other.expect("another of its size"));
        }
        let (mut closed, mut open): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
        for index in order {
            let piece = &chunk[index];
            while open.len() % 64 != 0 {
                open.push(0.0);
            }
            let table =
                piece.name.contains("word_embeddings") || piece.name.contains("output_layer");
            let shared = self.gpt && self.pp() > 1 && table;
            if shared {
                closed.append(&mut open);
            }
            open.extend(&piece.states[state]);
            if shared {
                closed.append(&mut open);
            }
        }
        closed.append(&mut open);
        closed
    }

    /// One optimizer, or a list of them.
    pub(super) fn optimizer(&self, pt: &mut Pt, chunks: &[Vec<Piece>]) -> NodeId {
        let mut parts = Vec::new();
        for expert in self.optimizers() {
            let pieces = chunks.iter().flatten();
            let of: Vec<&Piece> =
                pieces.filter(|piece| expert.is_none_or(|e| piece.expert == e)).collect();
            parts.push(self.part(pt, &of, *expert == Some(true)));
        }
        if parts.len() == 1 { parts[0] } else { pt.pickle.list(parts) }
    }

    fn part(&self, pt: &mut Pt, pieces: &[&Piece], expert: bool) -> NodeId {
        let (mut states, mut groups, mut masters) = (Vec::new(), Vec::new(), Vec::new());
        let kinds: &[usize] = if self.foreign { &[0, 1, 2] } else { &[0, 2] };
        for kind in kinds {
            let decay = *kind < 2;
            let own_kind = |index: usize| match *kind {
                1 => index % 2 == 1,
                _ => !self.foreign || !decay || index.is_multiple_of(2),
            };
            let numbered = pieces.iter().enumerate();
            let of = numbered.filter(|(i, p)| (p.shape.len() > 1) == decay && own_kind(*i));
            let of: Vec<_> = of.map(|(_, piece)| piece).collect();
            if of.is_empty() && expert {
                continue;
            }
            let mut own = Vec::new();
            let mut numbers = Vec::new();
            for piece in of {
                let step = pt.floats(&[], &[7.0]);
                let mut entries = vec![("step", step)];
                for (state, values) in STATES.iter().zip(&piece.states).skip(1) {
                    entries.push((*state, pt.floats(&piece.shape, values)));
                }
                let number = states.len() as i64;
                let key = pt.pickle.int(number);
                let held = pt.dict(entries);
                states.push((key, held));
                numbers.push(json!(number));
                own.push(pt.floats(&piece.shape, &piece.states[0]));
            }
            let factor = if decay { 1.0 } else { 0.0 };
            let mut group = json!({
                "is_expert_parallel": expert, "wd_mult": factor, "lr_mult": 1.0,
                "is_decoupled_lr": false, "lr": 0.25, "weight_decay": 0.1 * factor,
            });
            if self.distributed {
                group["step"] = json!(7);
            } else {
                group["params"] = numbers.into();
            }
            groups.push(pt.json(&group));
            masters.push(pt.pickle.list(own));
        }
        let (states, groups) = (pt.pickle.dict(states), pt.pickle.list(groups));
        if self.distributed {
            let inner = pt.dict(vec![("param_groups", groups)]);
            return pt.dict(vec![("optimizer", inner)]);
        }
        let inner = pt.dict(vec![("state", states), ("param_groups", groups)]);
        if !self.half {
            return inner;
        }
        let masters = pt.pickle.list(masters);
        pt.dict(vec![("optimizer", inner), ("fp32_from_fp16_params", masters)])
    }
}
