//! What the stages of a pipeline hold, by the names of its modules.
//!
//! A pipeline's module numbers its layers over all stages and keeps what several of them share apart
//! (`runtime/pipe/module.py`), so that names alone tell where in it a parameter is.

use super::Rank;
use super::model::ModelFile;
use crate::inventory::module_of_pipeline;
use crate::ranks::Opened;
use indexmap::IndexSet;

/// The modules that every stage trains: a layer's number, or `tied_modules.<key>`. Nothing if a name is none
/// of a pipeline's.
pub(super) fn stages(models: &[(Rank, Opened<ModelFile>)], tp: u64) -> Vec<IndexSet<String>> {
    let mut stages = vec![IndexSet::new(); models.len()];
    let mut of_pipeline = true;
    for ((mp, _), model) in models {
        let Some(stage) = stages.get_mut((mp / tp.max(1)) as usize) else { continue };
        for (name, _) in model.content.shapes.iter().flatten().flatten() {
            match module_of_pipeline(name) {
                Some(module) => _ = stage.insert(module.to_owned()),
                None => of_pipeline = false,
            }
        }
    }
    stages.retain(|stage| !stage.is_empty());
    if of_pipeline { stages } else { Vec::new() }
}
