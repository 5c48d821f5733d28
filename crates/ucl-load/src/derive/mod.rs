//! A spec from a checkpoint that describes itself: what `universal_checkpoint_info` says of how tensor
//! ranks fit together, written in the language, so that one way plans, proves and explains it.

mod affine;
mod cut;
mod info;
mod pattern;
mod same;
#[cfg(test)]
mod tests;
mod text;
mod tiles;
mod whole;

use cut::{Ranks, Used, decide};
use indexmap::IndexMap;
use info::Info;
use same::{Same, same};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use text::Tensor;
use ucl_formats::Inventory;
use ucl_formats::inventory::Role;
use ucl_ir::{Diagnostic, Program};
use ucl_parser::Library;
pub use whole::lay;

/// The document of a checkpoint that describes itself.
const INFO: &str = "universal_checkpoint_info";

/// So many mistakes are told.
const TOLD: usize = 20;

/// A spec that a checkpoint gave.
pub struct Derived {
    /// Its text, formatted.
    pub text: String,
    /// The text, compiled.
    pub program: Program,
    /// What was assumed, a sentence each.
    pub notes: Vec<String>,
}

/// What a checkpoint says of itself, if it does.
pub fn describes_itself(inventory: &Inventory) -> Option<&Map<String, Value>> {
    inventory.documents.get(INFO)
}

/// Whether tensors were put together as the checkpoint says.
pub(crate) fn is_laid(inventory: &Inventory) -> bool {
    describes_itself(inventory).is_some() && !whole::laid(inventory).is_empty()
}

/// Writes and compiles the spec of a checkpoint that describes itself.
///
/// # Errors
/// What cannot be read or contradicts the files; what a spec has no form for.
pub fn derive(
    inventory: &Inventory,
    info: &Map<String, Value>,
) -> Result<Derived, Vec<Diagnostic>> {
    let info = Info::read(info).map_err(|wrong| told(&wrong, "a checkpoint of a newer DeepSpeed, or a damaged one? `--spec` names a spec to use instead"))?;
    let (tensors, mut wrong) = tensors(inventory);
    let stages = inventory.mesh.get("pp").copied().unwrap_or(1);
    let mut used = Used::default();
    let mut unlisted: Vec<(usize, bool)> = Vec::new();
    let mut decided: Vec<Tensor> = Vec::new();
    let laid = whole::laid(inventory);
    for (name, (shapes, role)) in &tensors {
        let laid = laid.contains(name.as_str());
        match decide(&info, &Ranks { name, shapes, laid }, &mut used) {
            Ok(found) if whole::is_meant(&found) => {
                let why = whole::why_not(inventory, name, shapes, found);
                wrong.push(format!("{name:?}: {why}"));
            }
            Ok(mut found) => {
                let cut = matches!(found.merge, cut::Merge::Cut(_));
                // The engine keeps buffers whole, and its converter takes any rank's.
                if *role == Role::Buffer && !found.listed && cut {
                    found.merge = cut::Merge::Replicated;
                } else if !found.listed && cut {
                    let alike = shapes.windows(2).all(|two| two[0] == two[1]);
                    unlisted.push((decided.len(), alike));
                }
                let shape = shapes.first().cloned().unwrap_or_default();
                let (merge, rows) = (found.merge, found.rows);
                let first_stage = !info.first_stage.matching(name).is_empty() && stages > 1;
                decided.push(Tensor { name: name.clone(), shape, merge, rows, first_stage });
            }
            Err(why) => wrong.push(format!("{name:?}: {why}")),
        }
    }
    let help = "`--spec FILE.ucl` names a spec to use instead";
    if !wrong.is_empty() {
        return Err(told(&wrong, help));
    }
    let unlisted = Unlisted::told(inventory, &mut decided, &unlisted);
    let text = text::spec(&decided).map_err(|wrong| told(&wrong, help))?;
    let text = ucl_parser::format(&text)?;
    let program = compiled(&text)?;
    Ok(Derived { text, program, notes: notes(&info, &used, &unlisted) })
}

/// Compiles the spec that a universal folder has of what its source said of itself.
///
/// # Errors
/// It is none.
pub(crate) fn remembered(text: &str) -> Result<Derived, Vec<Diagnostic>> {
    let program = compiled(text)?;
    Ok(Derived { text: text.to_owned(), program, notes: Vec::new() })
}

fn compiled(text: &str) -> Result<Program, Vec<Diagnostic>> {
    let mut library = Library::new();
    library.add("derived.ucl", text);
    library.compile(text::MODEL)
}

/// Every name with the shape on each tensor rank, and what is wrong with them.
#[allow(clippy::type_complexity, reason = "shapes and role by name")]
fn tensors(inventory: &Inventory) -> (IndexMap<String, (Vec<Vec<u64>>, Role)>, Vec<String>) {
    let ranks = inventory.mesh.get("tp").copied().unwrap_or(1).max(1);
    let mut found: IndexMap<&str, (BTreeMap<u64, &[u64]>, Role)> = IndexMap::new();
    let mut wrong = Vec::new();
    for stored in &inventory.tensors {
        let rank = stored.at.get("tp").copied().unwrap_or(0);
        let (shapes, _) = found.entry(&stored.name).or_insert((BTreeMap::new(), stored.role));
        let shape = *shapes.entry(rank).or_insert(&stored.shape);
        if shape != stored.shape {
            wrong.push(format!(
                "{:?} has the shapes {shape:?} and {:?} at tp={rank}",
                stored.name, stored.shape
            ));
        }
    }
    let laid = whole::laid(inventory);
    let mut out = IndexMap::new();
    for (name, (shapes, role)) in found {
        let all = laid.contains(name) || shapes.keys().copied().eq(0..ranks);
        if !all {
            let held: Vec<String> = shapes.keys().map(u64::to_string).collect();
            wrong.push(format!(
                "{name:?} is stored at tp={} alone, of {ranks} tensor ranks",
                held.join(", ")
            ));
            continue;
        }
        let shapes = shapes.values().map(|shape| shape.to_vec()).collect();
        out.insert(name.to_owned(), (shapes, role));
    }
    (out, wrong)
}

/// Parameters that no category has.
#[derive(Default)]
struct Unlisted {
    parts: Vec<String>,
    copies: Vec<String>,
    unknown: Vec<String>,
}

impl Unlisted {
    /// Tells copies from parts, by what the files hold; copies are no longer cut.
    fn told(inventory: &Inventory, decided: &mut [Tensor], which: &[(usize, bool)]) -> Unlisted {
        let mut told = Unlisted::default();
        let names: Vec<&str> =
            which.iter().map(|(number, _)| decided[*number].name.as_str()).collect();
        let found = same(inventory, &names);
        for ((number, alike), same) in which.iter().zip(found) {
            let tensor = &mut decided[*number];
            let name = format!("{:?}", tensor.name);
            match same {
                Same::Copies if *alike => {
                    tensor.merge = cut::Merge::Replicated;
                    told.copies.push(name);
                }
                Same::Unknown if *alike => told.unknown.push(name),
                _ => told.parts.push(name),
            }
        }
        told
    }
}

/// `1 parameter`, `3 parameters`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// What was assumed, and what was of no use.
fn notes(info: &Info, used: &Used, unlisted: &Unlisted) -> Vec<String> {
    let mut notes = vec![
        "how tensor ranks fit together is what the checkpoint says itself (`universal_checkpoint_info`); `ucl derive` writes it as a spec"
            .to_owned(),
    ];
    let joined = "their parts are joined along dim 0, as DeepSpeed does";
    let mut tell = |names: &[String], what: &str| {
        if !names.is_empty() {
            let count = counted(names.len(), "parameter");
            notes.push(format!("{count} in no category of it, {}: {what}", listed(names)));
        }
    };
    tell(&unlisted.parts, joined);
    tell(
        &unlisted.copies,
        "all ranks hold the same, so they are copies, which are compared; DeepSpeed would join them along dim 0",
    );
    let unknown = format!(
        "all ranks hold one number everywhere, in parts or in copies; {joined}. If they are copies, mend their lines in what `ucl derive` writes"
    );
    tell(&unlisted.unknown, &unknown);
    let categories = [
        ("vocabulary_parameter_patterns", &info.vocabulary),
        ("tp_replicated_parameter_patterns", &info.replicated),
        ("parameter_to_average_patterns", &info.average),
        ("parameter_with_row_parallelism_patterns", &info.rows),
        ("parameter_with_2_sub_params_cat_dim_0", &info.halves),
    ];
    for (key, patterns) in categories {
        let unused = (0..patterns.len()).filter(|number| !used.0.contains(&(key, *number)));
        let unused: Vec<String> = unused.map(|n| format!("{:?}", patterns.text(n))).collect();
        if !unused.is_empty() {
            notes.push(format!("`{key}`: no parameter matches {}", listed(&unused)));
        }
    }
    notes
}

fn listed(all: &[String]) -> String {
    let more = all.len().saturating_sub(5);
    let first = all.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

fn told(wrong: &[String], help: &str) -> Vec<Diagnostic> {
    let mut out: Vec<Diagnostic> = wrong
        .iter()
        .take(TOLD)
        .map(|text| Diagnostic::new("ucl::derive", format!("universal_checkpoint_info: {text}")))
        .collect();
    if wrong.len() > TOLD {
        let text = format!("universal_checkpoint_info: {} more like these", wrong.len() - TOLD);
        out.push(Diagnostic::new("ucl::derive", text));
    }
    if let Some(last) = out.pop() {
        out.push(last.help(help));
    }
    out
}
