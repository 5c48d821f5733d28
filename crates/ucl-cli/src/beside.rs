//! Files beside the tensors: what goes along as it is, and the model's config.

use crate::failure::{Failure, Stop, of_problem};
use crate::show;
use std::error::Error;
use std::path::{Path, PathBuf};
use ucl_formats::carry::carried_bytes;
use ucl_formats::huggingface::{changed, model_files};
use ucl_formats::inventory::Carried;
use ucl_formats::{Format, Problem};
use ucl_plan::{ConfigChange, Plan, Report};

const CONFIG: &str = "config.json";

/// How many names a sentence lists.
const LISTED: usize = 4;

/// Names and bytes, or why there are none, as the executor takes them.
type Files = Result<Vec<(String, Vec<u8>)>, Box<dyn Error + Send + Sync>>;

/// Files to make beside the tensors.
pub(crate) struct Beside<'a> {
    /// What the checkpoint carries, by its place in the target.
    carried: Vec<(String, &'a Carried)>,
    /// Files of `--config`, likewise.
    copied: Vec<(String, PathBuf)>,
    /// What is not copied but made.
    made: Vec<(String, Vec<u8>)>,
    lossy: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Beside<'a> {
    /// What a checkpoint carries, and the model's files in the folder of `--config`, which count before
    /// those of the same names that the checkpoint has.
    pub(crate) fn of(plan: &Plan<'a>, config: Option<&Path>) -> Result<Beside<'a>, Stop> {
        let format = plan.target.format;
        let mut beside = Beside {
            carried: Vec::new(),
            copied: Vec::new(),
            made: Vec::new(),
            lossy: Vec::new(),
            notes: Vec::new(),
        };
        let given = config.map(model_files).unwrap_or_default();
        let (mut left_out, mut replaced) = (Vec::new(), Vec::new());
        for carried in &plan.bound.inventory.carried {
            match format.place(&carried.name) {
                _ if given.contains(&carried.name) => replaced.push(carried.name.as_str()),
                Some(place) => beside.carried.push((place, carried)),
                None => left_out.push(carried.name.as_str()),
            }
        }
        if let Some(folder) = config {
            let placed =
                given.iter().filter_map(|name| Some((format.place(name)?, folder.join(name))));
            beside.copied.extend(placed);
        }
        if !left_out.is_empty() {
            let files = show::count(left_out.len() as u64, "file");
            let more = left_out.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            left_out.truncate(LISTED);
            beside.lossy.push(format!(
                "what the run carries beside its tensors (scheduler, rng, args) is left out, {files}: {}{more}",
                left_out.join(", ")
            ));
        }
        if !replaced.is_empty() {
            beside.notes.push(format!(
                "of the folder of --config, not the checkpoint's own: {}",
                replaced.join(", ")
            ));
        }
        if format == Format::HuggingFace {
            beside.config(plan)?;
        }
        Ok(beside)
    }

    /// Makes the config of what is written, if it is another than that of the source.
    fn config(&mut self, plan: &Plan<'_>) -> Result<(), Stop> {
        let copied = self.copied.iter().position(|(name, _)| name == CONFIG);
        let carried = self.carried.iter().position(|(name, _)| name == CONFIG);
        let path = match (copied, carried) {
            (Some(at), _) => &self.copied[at].1,
            (None, Some(at)) => &self.carried[at].1.source,
            (None, None) => {
                self.notes.push(format!(
                    "{CONFIG} is missing, and `from_pretrained` needs one: --config DIR takes it from the folder of the model that was trained"
                ));
                return Ok(());
            }
        };
        let changes = plan.config_changes(copied.is_some());
        if changes.is_empty() {
            return Ok(());
        }
        let unread = |error: String| -> Stop {
            Failure::one(of_problem(&Problem::new(path, format!("it can't be read: {error}."))))
                .into()
        };
        let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
        let values: Vec<_> =
            changes.iter().map(|change| (change.key.clone(), change.value.clone())).collect();
        let text = changed(&text, &values).map_err(|error| unread(error.to_string()))?;
        self.copied.retain(|(name, _)| name != CONFIG);
        self.carried.retain(|(name, _)| name != CONFIG);
        self.made.push((CONFIG.to_owned(), text.into_bytes()));
        self.notes.extend(changes.iter().map(said));
        Ok(())
    }

    /// Says in a report what is left out and what changes.
    pub(crate) fn report(&self, report: &mut Report) {
        report.lossy.extend(self.lossy.iter().cloned());
        report.notes.extend(self.notes.iter().cloned());
    }

    /// Their paths in the target, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let carried = self.carried.iter().map(|(name, _)| name);
        let copied = self.copied.iter().map(|(name, _)| name);
        let made = self.made.iter().map(|(name, _)| name);
        let mut names: Vec<&str> = carried.chain(copied).chain(made).map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Their paths and bytes.
    pub(crate) fn files(&self) -> Files {
        let mut files = Vec::new();
        for (name, carried) in &self.carried {
            files.push((name.clone(), carried_bytes(carried)?));
        }
        for (name, path) in &self.copied {
            let bytes =
                std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push((name.clone(), bytes));
        }
        files.extend(self.made.iter().cloned());
        Ok(files)
    }
}

/// A change as a sentence.
fn said(change: &ConfigChange) -> String {
    let was = match &change.was {
        Some(was) => format!(", it was {was}"),
        None => String::new(),
    };
    format!("{CONFIG}: `{}` is {}{was}", change.key, change.value)
}
