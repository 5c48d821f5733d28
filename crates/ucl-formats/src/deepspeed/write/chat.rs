//! The weights in a folder of DeepSpeed-Chat's: an actor, a critic or a reward model.
//!
//! Its steps save and load a model's state dict in one torch file beside its config (`save_hf_format`,
//! `save_zero_three_model` and `create_critic_model` of its `dschat/utils`), and never an optimizer.

use crate::target::{Buffer, Draft, Laid, Wanted, WriteError};
use std::sync::Arc;

/// The one file that a critic is loaded from: its steps look for neither shards nor safetensors.
const STEM: &str = "pytorch_model";

/// The file of all weights.
pub(crate) fn file(tensors: &[Wanted]) -> Result<Laid, WriteError> {
    let mut draft = Draft::default();
    let mut entries = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let node = draft.tensor(Buffer {
            name: tensor.name.clone(),
            state: tensor.state.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            parts: Arc::new([]),
        })?;
        entries.push((tensor.name.clone(), node));
    }
    let root = draft.ordered(entries);
    draft.pickle.set_root(root);
    let file = draft.finish(format!("{STEM}.bin"), STEM)?;
    // Storages lie in the order in which they were drafted.
    let tensors = file.buffers.iter().enumerate().map(|(number, (offset, _))| (number, *offset));
    let tensors = tensors.collect();
    Ok(Laid { path: file.path, len: file.len, fixed: file.fixed, tensors, seal: file.seal })
}
