//! Files that lie under another rank's name. All ranks' files have the same form, but torch writes into
//! each what it was called when it was saved.

use super::experts::Read;
use super::mesh::Step;
use super::model::ModelFile;
use super::names::RankFile;
use crate::inventory::Problem;
use crate::ranks::{Opened, name_of};

/// Names the files that were saved as those of other ranks, layers or experts.
pub(super) fn files(
    step: &Step<'_>,
    layers: &[((u64, u64), Opened<ModelFile>)],
    experts: &[Read],
    problems: &mut Vec<Problem>,
) {
    let models = step.models.iter().map(|(_, file)| (&file.path, &file.saved_as));
    let shards = step.shards.iter().map(|(_, file)| (&file.path, &file.saved_as));
    let layers = layers.iter().map(|(_, file)| (&file.path, &file.saved_as));
    let experts = experts.iter().map(|(_, file)| (&file.path, &file.saved_as));
    for (path, saved_as) in models.chain(shards).chain(layers).chain(experts) {
        let Some(saved_as) = saved_as else { continue };
        let (was, is) =
            (RankFile::parse(&format!("{saved_as}.pt")), RankFile::parse(&name_of(path)));
        if was.is_some() && was != is {
            let message = format!("it was saved as {saved_as}.pt: it is of another rank");
            let help = "Files were renamed or copied over one another: copy them again.";
            problems.push(Problem::new(path, message).help(help));
        }
    }
}
