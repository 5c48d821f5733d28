//! What `model_type` in a config decides: which models are tried at all.

use super::Said;
use ucl_formats::Inventory;
use ucl_ir::Program;

/// How it is known which model a checkpoint is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sure {
    /// A spec was named, and its model is the only one to try.
    Named,
    /// A universal folder carries its spec.
    Carried,
    /// The checkpoint says itself how its parts fit together; no model that is known does.
    Described,
    /// `config.json` has this `model_type`, which the model lists.
    Type(String),
    /// Names and shapes alone: so many names fit.
    Fits(u64),
}

/// The `model_type` of the config, if there is one.
pub(super) fn model_type(inventory: &Inventory) -> Option<&str> {
    if carries_spec(inventory) {
        return None; // That is the one.
    }
    inventory.documents.get("config")?.get("model_type")?.as_str()
}

/// Whether a universal folder says itself what it is. One under the source's own names does not.
fn carries_spec(inventory: &Inventory) -> bool {
    inventory.universal.as_ref().is_some_and(|manifest| manifest.spec.is_some())
}

/// Whether a model lists the type of the config.
pub(super) fn is_listed(programs: &[Program], inventory: &Inventory) -> bool {
    let lists =
        |found: &str| programs.iter().any(|p| p.model.types.iter().any(|known| known == found));
    model_type(inventory).is_some_and(lists)
}

/// Whether a model is tried: one that lists the type, or any if there is no type. Where none lists it,
/// models that list no types are still tried, and what was named by the user always.
pub(super) fn is_tried(
    program: &Program,
    programs: &[Program],
    inventory: &Inventory,
    said: &Said,
) -> bool {
    let Some(found) = model_type(inventory).filter(|_| said.model.is_none()) else { return true };
    let lists = |program: &Program| program.model.types.iter().any(|known| known == found);
    match programs.iter().any(lists) {
        true => lists(program),
        false => said.named || program.model.types.is_empty(),
    }
}

/// Why this model is the one.
pub(super) fn sure(program: &Program, inventory: &Inventory, said: &Said) -> Sure {
    if carries_spec(inventory) && !said.named {
        return Sure::Carried;
    }
    match model_type(inventory) {
        Some(found) if program.model.types.iter().any(|known| known == found) => {
            Sure::Type(found.to_owned())
        }
        _ if said.named => Sure::Named,
        _ => {
            let names: std::collections::BTreeSet<&str> =
                inventory.tensors.iter().map(|stored| stored.name.as_str()).collect();
            Sure::Fits(names.len() as u64)
        }
    }
}

/// The models that list a type.
pub(super) fn listing<'p>(programs: &'p [Program], found: &str) -> Vec<&'p Program> {
    let lists = |program: &&Program| program.model.types.iter().any(|known| known == found);
    let all: Vec<&Program> = programs.iter().filter(lists).collect();
    // What is made for any model has its types from that one.
    let of_another = |program: &Program| {
        let is = |name: &String| all.iter().any(|other| other.model.name == *name);
        program.model.ancestors.iter().any(is)
    };
    all.iter().copied().filter(|program| !of_another(program)).collect()
}

/// `config.json says model_type "x", which no spec names`, and what fits all the same.
pub(super) fn unlisted(
    programs: &[Program],
    inventory: &Inventory,
    aside: &[(String, String)],
) -> Option<(String, Option<String>)> {
    let found = model_type(inventory)?;
    let listing: Vec<&str> =
        listing(programs, found).iter().map(|program| program.model.name.as_str()).collect();
    let message = match listing.as_slice() {
        [] => format!("config.json says model_type {found:?}, which no spec names"),
        [model] => format!("config.json says model_type {found:?}, and `{model}` does not fit"),
        models => format!(
            "config.json says model_type {found:?}, and none of `{}` fits",
            models.join("`, `")
        ),
    };
    let help = aside.first().map(|(model, view)| {
        format!(
            "`{model}` (view {view}) claims all its names and sizes; type `--spec {model}` to take it as that"
        )
    });
    Some((message, help))
}
