//! Whether the files of all experts are here.

use super::Experts;
use crate::deepspeed::mesh::{Degrees, MODEL_RANK, Step, surplus};
use crate::deepspeed::model::NumExperts;
use crate::deepspeed::names::ExpertFile;
use crate::inventory::Problem;
use crate::ranks::count;
use std::collections::BTreeSet;

/// So many names of missing files are listed.
const LISTED: usize = 12;

impl Experts {
    /// Names the files that are missing or too many; whether some are missing.
    pub(super) fn present(
        &self,
        step: &Step<'_>,
        degrees: Degrees,
        problems: &mut Vec<Problem>,
    ) -> bool {
        let found: BTreeSet<ExpertFile> = step.files.experts.keys().copied().collect();
        let tp = degrees.tp.max(1);
        // Where tensor ranks share the experts out, any of a stage's ranks may have written one.
        let mp = |mp: u64| if self.whole { mp - mp % tp } else { mp };
        let by_rank: BTreeSet<ExpertFile> =
            found.iter().map(|file| ExpertFile { mp: mp(file.mp), ..*file }).collect();
        let mut missing: Vec<String> = Vec::new();
        let mut lacking = 0u64;
        let ranks = step.models.iter().map(|((rank, _), model)| (rank, model));
        for (rank, model) in ranks.filter(|(rank, _)| mp(**rank) == **rank) {
            let first = ExpertFile { mp: *rank, layer: None, expert: 0 };
            let last = ExpertFile { mp: rank + 1, ..first };
            let expected = match &model.content.num_experts {
                Some(said) => said.clone(),
                None => by_files(by_rank.range(first..last)),
            };
            for (layer, count) in &expected.by_layer {
                let of = |expert| ExpertFile { mp: *rank, layer: *layer, expert };
                let here = by_rank.range(of(0)..of(*count)).count() as u64;
                lacking = lacking.saturating_add(count - here);
                let room = LISTED.saturating_sub(missing.len()) as u64;
                let absent = (0..*count).filter(|expert| !by_rank.contains(&of(*expert)));
                let listed = absent.take((count - here).min(room) as usize);
                missing.extend(listed.map(|expert| of(expert).name()));
            }
            for (file, path) in step.files.experts.iter().filter(|(file, _)| mp(file.mp) == *rank) {
                let count = expected.by_layer.get(&file.layer);
                if count.is_none_or(|count| file.expert >= *count) {
                    let message =
                        format!("it belongs to no mixture: `num_experts` is {}", expected.text);
                    problems.push(Problem::new(path, message).help(
                        "It may be left from another run: move it away if its date says so.",
                    ));
                }
            }
        }
        let models = degrees.pp * tp;
        for (_, path) in step.files.experts.iter().filter(|(file, _)| file.mp >= models) {
            problems.push(surplus(path, &count(models, MODEL_RANK)));
        }
        if missing.is_empty() {
            return false;
        }
        let mut names = missing.join(", ");
        let more = lacking.saturating_sub(missing.len() as u64);
        if more > 0 {
            names += &format!(" and {more} more");
        }
        let verb = if lacking == 1 { "is" } else { "are" };
        problems.push(
            Problem::new(
                step.root,
                format!("{names} {verb} missing: each expert has a file of its own"),
            )
            .help("Copy every rank's files into one folder; each node may have kept its own."),
        );
        true
    }
}

/// What the names of files say where nothing else does.
fn by_files<'a>(files: impl Iterator<Item = &'a ExpertFile>) -> NumExperts {
    let mut said = NumExperts::default();
    for file in files {
        let count = said.by_layer.entry(file.layer).or_default();
        *count = (*count).max(file.expert.saturating_add(1));
    }
    said
}
