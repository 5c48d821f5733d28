//! `layer_L_expert_G_mp_rank_XX_model_states.pt`: an expert's own weights.

use super::Experts;
use crate::deepspeed::write::{Place, size, tag};
use crate::target::{Buffer, Draft, Part, Run, RunFile, WriteError};
use std::collections::BTreeMap;

impl Experts {
    /// The files of the experts of a model-parallel rank.
    pub(in crate::deepspeed::write) fn files(
        &self,
        run: &Run<'_>,
        place: &Place<'_>,
    ) -> Result<Vec<RunFile>, WriteError> {
        let Some(rank) = self.ranks.get(place.at) else { return Ok(Vec::new()) };
        let mut experts: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
        for (tensor, seated) in &rank.experts {
            // A stack has rows of every one.
            let ids = match seated.id {
                Some(id) => id..id + 1,
                None => 0..rank.mixtures[seated.mixture].count,
            };
            for id in ids {
                experts.entry((seated.mixture, id)).or_default().push(*tensor);
            }
        }
        let tp = size(run, "tp");
        let mut files = Vec::with_capacity(experts.len());
        for ((layer, id), tensors) in experts {
            let mixture = &rank.mixtures[layer];
            // Tensor ranks that share experts out look for their own alone.
            let expert_rank = id / (mixture.count / mixture.ranks);
            if self.whole && expert_rank % tp != place.mp % tp {
                continue;
            }
            let mut draft = Draft::default();
            let mut entries = Vec::with_capacity(tensors.len());
            for tensor in tensors {
                let mut buffer = Buffer::whole(run, (place.at, tensor), "param");
                if self.stacked {
                    buffer = row(buffer, id);
                }
                entries.push((buffer.name.clone(), draft.tensor(buffer)?));
            }
            let root = draft.dict(entries);
            draft.pickle.set_root(root);
            let stem = format!("layer_{layer}_expert_{id}_mp_rank_{:02}_model_states", place.mp);
            files.push(draft.finish(format!("{}/{stem}.pt", tag(run)), &stem)?);
        }
        Ok(files)
    }
}

/// The row of a stack that is an expert's.
fn row(stack: Buffer, id: u64) -> Buffer {
    let shape = stack.shape.get(1..).unwrap_or_default().to_vec();
    let len = shape.iter().product();
    let parts = stack.parts.iter().map(|part| Part { first: id * len, len, ..*part }).collect();
    Buffer { name: format!("{}.{id}", stack.name), shape, parts, ..stack }
}
