//! Files beside the tensors: what goes along as it is, and the model's config.

use crate::failure::Stop;
use crate::show;
use std::error::Error;
use std::path::Path;
use ucl_formats::Problem;
use ucl_formats::carry::carried_bytes;
use ucl_formats::huggingface::{changed, model_files};
use ucl_formats::inventory::Carried;
use ucl_load::{Failure, of_problem};
use ucl_plan::{ConfigChange, Plan, Report};

const CONFIG: &str = "config.json";

/// How many names a sentence lists.
const LISTED: usize = 4;

/// Names and bytes, or why there are none, as the executor takes them.
type Files = Result<Vec<(String, Vec<u8>)>, Box<dyn Error + Send + Sync>>;

/// Files to make beside the tensors.
pub(crate) struct Beside {
    /// What goes along, by its place in the target.
    carried: Vec<(String, Carried)>,
    /// What is not copied but made.
    made: Vec<(String, Vec<u8>)>,
    lossy: Vec<String>,
    notes: Vec<String>,
}

impl Beside {
    /// What a checkpoint carries, and the model's files in the folder of `--config`, which count before
    /// those of the same names that the checkpoint has.
    pub(crate) fn of(plan: &Plan<'_>, config: Option<&Path>) -> Result<Beside, Stop> {
        let format = plan.target.format;
        let mut beside =
            Beside { carried: Vec::new(), made: Vec::new(), lossy: Vec::new(), notes: Vec::new() };
        let given = config.map(model_files).unwrap_or_default();
        let (mut left_out, mut replaced) = (Vec::new(), Vec::new());
        for carried in &plan.bound.inventory.carried {
            match format.place(&carried.name) {
                _ if given.iter().any(|file| file.name == carried.name) => {
                    replaced.push(carried.name.as_str());
                }
                Some(place) => beside.carried.push((place, carried.clone())),
                None if plan.goes_along(&carried.name) => {}
                None => left_out.push(carried.name.as_str()),
            }
        }
        let given_config = given.iter().any(|file| file.name == CONFIG);
        let placed = given.into_iter().filter_map(|file| Some((format.place(&file.name)?, file)));
        beside.carried.extend(placed);
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
        if format.is_of_transformers() {
            beside.config(plan, given_config)?;
        }
        Ok(beside)
    }

    /// Makes the config of what is written, if it is another than that of the source. `given` says that
    /// it is that of `--config`.
    fn config(&mut self, plan: &Plan<'_>, given: bool) -> Result<(), Stop> {
        let Some(at) = self.carried.iter().position(|(name, _)| name == CONFIG) else {
            self.notes.push(format!(
                "{CONFIG} is missing, and `from_pretrained` needs one: --config DIR takes it from the folder of the model that was trained"
            ));
            return Ok(());
        };
        let changes = plan.config_changes(given);
        if changes.is_empty() {
            return Ok(());
        }
        let source = &self.carried[at].1;
        let wrong = |problem: Problem| -> Stop { Failure::one(of_problem(&problem)).into() };
        let unread = |error: &dyn std::fmt::Display| {
            wrong(Problem::new(&source.source, format!("it can't be read: {error}")))
        };
        let text = carried_bytes(source).map_err(wrong)?;
        let text = String::from_utf8(text).map_err(|error| unread(&error))?;
        let values: Vec<_> =
            changes.iter().map(|change| (change.key.clone(), change.value.clone())).collect();
        let text = changed(&text, &values).map_err(|error| unread(&error))?;
        self.carried.remove(at);
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
        let made = self.made.iter().map(|(name, _)| name);
        let mut names: Vec<&str> = carried.chain(made).map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Their paths and bytes.
    pub(crate) fn files(&self) -> Files {
        let mut files = Vec::new();
        for (name, carried) in &self.carried {
            files.push((name.clone(), carried_bytes(carried)?));
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
