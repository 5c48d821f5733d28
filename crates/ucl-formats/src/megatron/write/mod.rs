//! Lays out a step of Megatron-LM's `torch` format before any value is known.
//!
//! The format is the one that the readers beside this read. What a run has beside its tensors, and how
//! its optimizer is grouped, is the same in Megatron-core's `torch_dist`, which takes it from here.

mod args;
mod groups;
mod module;
mod optimizer;
mod rank;
mod source;

use crate::target::{Held, Run, RunFile, RunLayout, WriteError};

pub(crate) use args::{Kind, fit};
pub(crate) use groups::{Groups, hyper_parameter};
pub(crate) use optimizer::whole_number;
pub use source::argument;
pub(crate) use source::{Source, stages};

/// The file that names the last step.
pub(crate) const LATEST: &str = "latest_checkpointed_iteration.txt";

/// All files of a run.
///
/// # Errors
/// A mesh that the names of folders do not tell; a name or type that the format cannot hold; what goes
/// along cannot be read.
pub(crate) fn lay_out(run: &Run<'_>) -> Result<RunLayout, WriteError> {
    possible(run)?;
    let source = Source::of(run)?;
    let groups = Groups::of(run)?;
    let mut files = Vec::new();
    for place in places(run) {
        files.push(rank::file(run, &place, &groups, &source)?);
    }
    files.push(RunFile::text(LATEST, latest(run)));
    let notes = source.repeats().into_iter().collect();
    Ok(RunLayout { files, along: source.names(), notes, ..RunLayout::default() })
}

/// A tensor, pipeline and expert rank: one file.
pub(crate) struct Place {
    pub(crate) tp: u64,
    pub(crate) pp: u64,
    pub(crate) ep: u64,
    /// Its virtual stages, as indices into [`Run::ranks`], in order.
    chunks: Vec<usize>,
}

impl Place {
    /// The folder of its file.
    fn folder(&self, run: &Run<'_>) -> String {
        let mut name = format!("mp_rank_{:02}", self.tp);
        for (axis, number) in [("pp", self.pp), ("ep", self.ep)] {
            if size(run, axis) > 1 {
                name += &format!("_{number:03}");
            }
        }
        name
    }
}

fn places(run: &Run<'_>) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    let at = |rank: usize, axis: &str| run.ranks[rank].at.get(axis).copied().unwrap_or(0);
    let mut ranks: Vec<usize> = (0..run.ranks.len()).collect();
    ranks.sort_by_key(|rank| (at(*rank, "pp"), at(*rank, "ep"), at(*rank, "tp"), at(*rank, "vpp")));
    for rank in ranks {
        let (tp, pp, ep) = (at(rank, "tp"), at(rank, "pp"), at(rank, "ep"));
        match places.last_mut() {
            Some(last) if (last.tp, last.pp, last.ep) == (tp, pp, ep) => last.chunks.push(rank),
            _ => places.push(Place { tp, pp, ep, chunks: vec![rank] }),
        }
    }
    places
}

/// The size of an axis.
pub(crate) fn size(run: &Run<'_>, axis: &str) -> u64 {
    run.mesh.get(axis).copied().unwrap_or(1)
}

/// Whether there is an optimizer.
pub(crate) fn is_trained(run: &Run<'_>) -> bool {
    run.ranks.iter().flat_map(|rank| &rank.tensors).any(Held::is_trained)
}

/// The folder of a step; what has none was not trained by Megatron, which calls that a release.
pub(crate) fn folder(run: &Run<'_>) -> String {
    run.step.map_or_else(|| "release".to_owned(), |step| format!("iter_{step:07}"))
}

/// What the file says that names the last step.
pub(crate) fn latest(run: &Run<'_>) -> String {
    run.step.map_or_else(|| "release".to_owned(), |step| step.to_string())
}

/// What the format has no place for.
fn possible(run: &Run<'_>) -> Result<(), WriteError> {
    let (tp, pp, vpp, etp) = (
        size(run, "tp"),
        size(run, "pp"),
        size(run, "vpp"),
        run.mesh.get("etp").copied().unwrap_or(size(run, "tp")),
    );
    let known = ["tp", "pp", "vpp", "ep", "etp", "dp"];
    if let Some((axis, _)) =
        run.mesh.iter().find(|(axis, size)| !known.contains(&axis.as_str()) && **size > 1)
    {
        let message = format!("a Megatron run's files are not cut over `{axis}`");
        return Err(WriteError::refused(message, "its axes: tp, pp, vpp, ep, dp"));
    }
    if etp != tp {
        let message = format!(
            "the names of Megatron's folders do not tell the parts of experts that are cut over {etp} ranks where everything else is over {tp}"
        );
        return Err(WriteError::refused(
            message,
            "leave `etp` out of --mesh, or write `--to torch-dist`",
        ));
    }
    if vpp > 1 && pp < 2 {
        return Err(WriteError::refused(
            format!("{vpp} virtual stages need a pipeline, and `pp` is {pp}"),
            "leave `vpp` out of --mesh, or say a `pp` of 2 or more",
        ));
    }
    Ok(())
}
