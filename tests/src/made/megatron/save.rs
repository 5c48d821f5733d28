//! The files of a step's ranks.

use super::Mlm;
use super::module::Piece;
use crate::made::pt::Pt;
use serde_json::json;
use std::fs;
use std::path::Path;
use ucl_formats::torch::NodeId;

impl Mlm {
    /// Writes a step's folder.
    pub fn write(&self, folder: &Path) {
        let stage_ranks = (self.etp * self.ep).max(self.tp);
        for stage in 0..self.pp() {
            for index in 0..stage_ranks {
                let (t, x) = (index % self.tp, index / self.etp % self.ep);
                self.write_rank(folder, [stage, t, x, index % self.etp], index);
            }
        }
    }

    fn write_rank(&self, folder: &Path, [stage, t, x, et]: [usize; 4], index: usize) {
        let mut name = format!("mp_rank_{t:02}");
        for (size, number) in [(self.pp(), stage), (self.ep, x)] {
            if size > 1 {
                name += &format!("_{number:03}");
            }
        }
        let mut pt = Pt::default();
        let mut args = self.arguments();
        let stage_ranks = (self.etp * self.ep).max(self.tp);
        args["rank"] = json!(stage * stage_ranks + index);
        args["world_size"] = json!(self.pp() * stage_ranks);
        for (key, value) in self.args.as_object().expect("a dict") {
            args[key] = value.clone();
        }
        let attrs = args.as_object().expect("a dict").iter().map(|(key, value)| {
            let value = pt.json(value);
            (pt.pickle.str(key), value)
        });
        let attrs = attrs.collect();
        let mut entries = vec![("args", pt.pickle.namespace(attrs))];
        if let Some(version) = self.version {
            entries.push(("checkpoint_version", pt.pickle.float(version)));
        }
        entries.push(("iteration", pt.pickle.int(7)));
        let tensors = self.tensors();
        let mut chunks: Vec<Vec<Piece>> = Vec::new();
        let keys: Vec<String> = (0..self.layers.len()).map(|u| format!("model{u}")).collect();
        for (chunk, key) in keys.iter().enumerate() {
            let held = self.chunk(&tensors, [chunk, stage, t, x, et]);
            let model = self.module(&mut pt, &held);
            entries.push((if keys.len() > 1 { key.as_str() } else { "model" }, model));
            chunks.push(held);
        }
        entries.push(("optimizer", self.optimizer(&mut pt, &chunks)));
        let root = pt.dict(entries);
        fs::create_dir_all(folder.join(&name)).expect("a folder");
        pt.save(root, &folder.join(&name).join("model_optim_rng.pt"));
        if self.distributed {
            self.write_buffers(
                &folder.join(&name).join("distrib_optim.pt"),
                &chunks,
                index < self.tp,
            );
        }
    }

    /// A flat dict, or dicts in dicts.
    fn module(&self, pt: &mut Pt, held: &[Piece]) -> NodeId {
        let tensor = |pt: &mut Pt, piece: &Piece| match self.half {
            true => pt.halves(&piece.shape, &piece.states[0]),
            false => pt.floats(&piece.shape, &piece.states[0]),
        };
        if !self.is_legacy() {
            let mut entries = Vec::new();
            for piece in held {
                entries.push((piece.name.as_str(), tensor(pt, piece)));
            }
            let none = pt.pickle.none();
            entries.push(("decoder.layers.0.mlp.linear_fc1._extra_state", none));
            return pt.ordered(entries);
        }
        let below = |pt: &mut Pt, prefix: &str| {
            let of =
                held.iter().filter_map(|piece| Some((piece.name.strip_prefix(prefix)?, piece)));
            let mut entries = Vec::new();
            for (name, piece) in of {
                entries.push((name, tensor(pt, piece)));
            }
            (!entries.is_empty()).then(|| pt.ordered(entries))
        };
        let mut embedding = Vec::new();
        for table in ["word_embeddings", "position_embeddings"] {
            let found = below(pt, &format!("language_model.embedding.{table}."));
            embedding.extend(found.map(|found| (table, found)));
        }
        let mut model = Vec::new();
        if !embedding.is_empty() {
            model.push(("embedding", pt.dict(embedding)));
        }
        for part in ["encoder", "transformer", "output_layer"] {
            model.extend(below(pt, &format!("language_model.{part}.")).map(|found| (part, found)));
        }
        let mut root = vec![("language_model", pt.dict(model))];
        let head = below(pt, "word_embeddings_for_head.");
        root.extend(head.map(|head| ("word_embeddings_for_head", head)));
        pt.dict(root)
    }
}
