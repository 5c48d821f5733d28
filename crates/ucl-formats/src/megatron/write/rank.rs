//! `model_optim_rng.pt`: everything that a rank has.

use super::{Groups, Kind, Place, Source, fit, folder, is_trained, module, optimizer};
use crate::target::{Draft, Run, RunFile, WriteError};
use crate::torch::NodeId;
use indexmap::IndexMap;

/// The order in which Megatron writes its entries; others follow.
const ORDER: [&str; 3] = ["args", "checkpoint_version", "iteration"];

/// The file of a rank.
pub(super) fn file(
    run: &Run<'_>,
    place: &Place,
    groups: &Groups,
    source: &Source,
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let mut carried: IndexMap<String, NodeId> = source.entries(&mut draft, place)?;
    let at = (place.tp, place.pp, place.ep);
    let args = fit(&mut draft, run, carried.shift_remove("args"), at, Kind::Torch);
    let mut entries: IndexMap<String, NodeId> = IndexMap::new();
    entries.extend(args.map(|args| ("args".to_owned(), args)));
    entries.insert("checkpoint_version".to_owned(), draft.pickle.float(3.0));
    let step = run.step.unwrap_or(0);
    entries.insert("iteration".to_owned(), draft.json(&step.into()));
    match place.chunks.as_slice() {
        [only] => {
            let module = module::state_dict(&mut draft, run, *only)?;
            entries.insert("model".to_owned(), module);
        }
        chunks => {
            for (number, rank) in chunks.iter().enumerate() {
                let module = module::state_dict(&mut draft, run, *rank)?;
                entries.insert(format!("model{number}"), module);
            }
        }
    }
    if is_trained(run) {
        let scaler = source.scaler(&mut draft, (place.pp, place.ep, place.tp))?;
        let fused = source.fused(place);
        let optimizer = optimizer::state_dict(&mut draft, run, place, groups, (scaler, fused))?;
        entries.insert("optimizer".to_owned(), optimizer);
    }
    carried.retain(|key, _| !ORDER.contains(&key.as_str()));
    entries.extend(carried);
    let root = draft.dict(entries.into_iter().collect());
    draft.pickle.set_root(root);
    let (step, rank) = (folder(run), place.folder(run));
    draft.finish(format!("{step}/{rank}/model_optim_rng.pt"), "model_optim_rng")
}
