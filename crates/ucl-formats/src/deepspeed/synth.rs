//! Small checkpoints of layouts that no fixture has, each element with a value of its own.

use crate::torch::{NodeId, Pickle, TorchLayout, emit};
use std::fs;
use std::path::Path;
use ucl_tensor::DType;

/// A step to write. Parameter `p` of all holds `1000 p`, `1000 p + 1`, … in every state.
pub(super) struct Synth {
    pub(super) ranks: u64,
    /// Names and sizes, by group.
    pub(super) groups: Vec<Vec<(&'static str, u64)>>,
    /// Frozen parameters that are only among the fragments.
    pub(super) frozen: Vec<(&'static str, u64)>,
    /// Put in front of all names.
    pub(super) wrapper: &'static str,
    /// The states' list of an elastic checkpoint.
    pub(super) elastic: bool,
    /// Whether Muon trains it: its groups say so, and its state is of whole parameters.
    pub(super) muon: bool,
    /// What follows the `mp` rank in a shard's name.
    pub(super) suffix: &'static str,
}

impl Default for Synth {
    fn default() -> Synth {
        Synth {
            ranks: 1,
            groups: Vec::new(),
            frozen: Vec::new(),
            wrapper: "",
            elastic: false,
            muon: false,
            suffix: "_optim_states.pt",
        }
    }
}

/// A file in the making.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) pickle: Pickle,
    storages: Vec<Vec<u8>>,
}

impl Draft {
    pub(super) fn tensor(&mut self, values: &[f32]) -> NodeId {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.of_type(DType::F32, bytes)
    }

    /// A flat tensor of any type.
    pub(super) fn of_type(&mut self, dtype: DType, bytes: Vec<u8>) -> NodeId {
        let key = self.storages.len().to_string();
        let len = bytes.len() as u64 / dtype.size_bytes();
        self.storages.push(bytes);
        self.pickle.whole_tensor(&key, dtype, &[len]).unwrap()
    }

    pub(super) fn dict(&mut self, pairs: Vec<(&str, NodeId)>) -> NodeId {
        let pairs = pairs.into_iter().map(|(key, value)| (self.pickle.str(key), value)).collect();
        self.pickle.dict(pairs)
    }

    pub(super) fn write(mut self, root: NodeId, path: &Path) {
        self.pickle.set_root(root);
        let sizes: Vec<_> = self
            .storages
            .iter()
            .enumerate()
            .map(|(key, s)| (key.to_string(), s.len() as u64))
            .collect();
        let layout = TorchLayout::new("x", emit(&self.pickle).unwrap(), &sizes).unwrap();
        let mut bytes = vec![0; layout.total_len() as usize];
        for (storage, offset) in self.storages.iter().zip(layout.storage_offsets()) {
            bytes[*offset as usize..][..storage.len()].copy_from_slice(storage);
        }
        let crcs: Vec<_> =
            self.storages.iter().map(|storage| Some(crc32fast::hash(storage))).collect();
        for (offset, chunk) in layout.chunks(&crcs) {
            bytes[offset as usize..][..chunk.len()].copy_from_slice(&chunk);
        }
        fs::write(path, bytes).unwrap();
    }
}

impl Synth {
    /// The values of a parameter.
    pub(super) fn values(index: usize, len: u64) -> Vec<f32> {
        (0..len).map(|element| (index as u64 * 1000 + element) as f32).collect()
    }

    pub(super) fn write(&self, folder: &Path) {
        self.model(&folder.join("mp_rank_00_model_states.pt"));
        for rank in 0..self.ranks {
            let name = format!("zero_pp_rank_{rank}_mp_rank_00{}", self.suffix);
            self.shard(rank, &folder.join(name));
        }
    }

    fn model(&self, path: &Path) {
        let mut draft = Draft::default();
        let (mut weights, mut groups, mut index) = (Vec::new(), Vec::new(), 0);
        for group in &self.groups {
            let mut shapes = Vec::new();
            for (name, len) in group {
                let key = draft.pickle.str(&format!("{}{name}", self.wrapper));
                weights.push((key, draft.tensor(&Synth::values(index, *len))));
                shapes.push((key, draft.pickle.size(&[*len])));
                index += 1;
            }
            groups.push(draft.pickle.ordered_dict(shapes));
        }
        let (mut shapes, mut fragments) = (Vec::new(), Vec::new());
        for (name, len) in &self.frozen {
            let key = draft.pickle.str(&format!("{}{name}", self.wrapper));
            shapes.push((key, draft.pickle.size(&[*len])));
            fragments.push((key, draft.tensor(&Synth::values(index, *len))));
            index += 1;
        }
        let pairs = vec![
            ("module", draft.pickle.ordered_dict(weights)),
            ("param_shapes", draft.pickle.list(groups)),
            ("frozen_param_shapes", draft.pickle.ordered_dict(shapes)),
            ("frozen_param_fragments", draft.pickle.ordered_dict(fragments)),
            ("global_steps", draft.pickle.int(5)),
        ];
        let root = draft.dict(pairs);
        draft.write(root, path);
    }

    fn shard(&self, rank: u64, path: &Path) {
        let mut draft = Draft::default();
        let (mut index, mut masters, mut states, mut counts) =
            (0, Vec::new(), Vec::new(), Vec::new());
        for group in &self.groups {
            let (mut flat, first) = (Vec::new(), index);
            for (_, len) in group {
                flat.extend(Synth::values(index, *len));
                index += 1;
            }
            let total = flat.len();
            flat.resize(total.next_multiple_of(2 * self.ranks as usize), 0.0);
            let width = flat.len() / self.ranks as usize;
            let start = rank as usize * width;
            let padded = &flat[start..start + width];
            let stripped = &flat[start.min(total)..(start + width).min(total)];
            masters.push(draft.tensor(stripped));
            let state = match (self.muon, self.elastic) {
                (false, false) => padded.to_vec(),
                (false, true) => stripped.to_vec(),
                (true, elastic) => {
                    let mut whole = met(group, first, start as u64, width as u64);
                    let padding = if elastic { padded.len() - stripped.len() } else { 0 };
                    whole.truncate(whole.len() - padding);
                    whole
                }
            };
            let state = draft.tensor(&state);
            let name = if self.muon { "momentum_buffer" } else { "exp_avg" };
            states.push(draft.dict(vec![(name, state)]));
            counts.push(draft.pickle.int(self.ranks as i64));
        }
        let base = if self.elastic {
            draft.pickle.list(states)
        } else {
            let numbered = states.into_iter().enumerate();
            let pairs =
                numbered.map(|(group, state)| (draft.pickle.int(group as i64), state)).collect();
            let states = draft.pickle.dict(pairs);
            let groups = (0..self.groups.len() as i64).map(|group| {
                let number = draft.pickle.int(group);
                let params = draft.pickle.list(vec![number]);
                let muon = draft.pickle.bool(true);
                draft.dict(vec![("use_muon", muon), ("params", params)])
            });
            let groups: Vec<NodeId> = if self.muon { groups.collect() } else { Vec::new() };
            let groups = draft.pickle.list(groups);
            draft.dict(vec![("state", states), ("param_groups", groups)])
        };
        let mut pairs = vec![
            ("base_optimizer_state", base),
            ("single_partition_of_fp32_groups", draft.pickle.list(masters)),
            ("partition_count", draft.pickle.list(counts)),
        ];
        if self.muon {
            pairs.push(("zero_stage", draft.pickle.int(1)));
        }
        let state = draft.dict(pairs);
        let root = draft.dict(vec![("optimizer_state_dict", state)]);
        draft.write(root, path);
    }
}

/// The values of every parameter of a group, whole, that a part of it has anything of.
fn met(group: &[(&str, u64)], first: usize, start: u64, width: u64) -> Vec<f32> {
    let (mut end, mut values) = (0, Vec::new());
    for (index, (_, len)) in group.iter().enumerate() {
        end += len;
        if end > start && end - len < start + width {
            values.extend(Synth::values(first + index, *len));
        }
    }
    values
}
