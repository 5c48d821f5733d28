//! A config of one model and the tensors of another.

use super::types::{listing, model_type};
use crate::bind::claim;
use crate::huggingface::VIEW;
use crate::lora::is_all_halves;
use ucl_formats::Inventory;
use ucl_ir::{Program, Segment, View};

/// What a config says, and that the names are not of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The `model_type` of the config.
    pub model_type: String,
    /// The model that lists it, of several the one that claims the most names.
    pub model: String,
    /// Its view of Hugging Face's names.
    pub view: String,
    /// The names that this view does not claim.
    pub unclaimed: Vec<String>,
}

/// Tensors that are not of the model of their config's `model_type`: nothing of its layers is here, or
/// there are tensors in these which it does not have.
///
/// `None` if no model lists the type. A head of another kind is no other model.
pub fn foreign(programs: &[Program], inventory: &Inventory) -> Option<Foreign> {
    let found = model_type(inventory)?;
    if is_all_halves(inventory) {
        return None; // That is told first.
    }
    let mut best: Option<Foreign> = None;
    for program in listing(programs, found) {
        let family = |view: &&View| view.name == VIEW || view.ancestors.iter().any(|a| a == VIEW);
        for view in program.views.values().filter(family) {
            let claims = claim(view, inventory, true);
            let base = claims.without_base.as_deref().unwrap_or_default();
            let in_layers = |name: &String| {
                let whole = format!("{base}{name}");
                layers(view).any(|start| name.starts_with(start) || whole.starts_with(start))
            };
            let any = claims.claimed.values().flatten().any(|claim| !claim.indices.is_empty());
            // Scales stand beside the weights that they are of.
            let beside = |name: &&String| {
                let owner = name.rsplit_once('.').map(|(owner, _)| format!("{owner}.weight"));
                owner.is_some_and(|owner| claims.claimed.contains_key(&owner))
            };
            let others = claims.unclaimed.iter().filter(|name| !beside(name));
            if any && !others.into_iter().any(in_layers) {
                return None;
            }
            if best.as_ref().is_none_or(|best| claims.unclaimed.len() < best.unclaimed.len()) {
                best = Some(Foreign {
                    model_type: found.to_owned(),
                    model: program.model.name.clone(),
                    view: view.name.clone(),
                    unclaimed: claims.unclaimed,
                });
            }
        }
    }
    best.filter(|best| !best.unclaimed.is_empty())
}

/// What the names of the layers begin with: `model.layers.`
fn layers(view: &View) -> impl Iterator<Item = &str> {
    let templates = view.rules.iter().flat_map(|rule| &rule.spellings).map(|s| &s.template);
    templates.filter_map(|template| match template.segments.as_slice() {
        [Segment::Text(start), Segment::Index { .. }, ..] => Some(start.as_str()),
        _ => None,
    })
}
