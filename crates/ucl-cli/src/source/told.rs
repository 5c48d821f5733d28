//! What was recognised, for a person and as data.

use super::Opened;
use crate::show;
use serde_json::{Value, json};
use ucl_plan::{Bound, Sure};

impl Opened {
    /// The first line: what was recognised.
    pub(crate) fn headline(&self, bound: Option<&Bound<'_>>) -> String {
        let what = match bound.map(|bound| bound.spec) {
            Some(Some((program, view))) => {
                format!(
                    " · model {} · view {}",
                    show::name(&program.model.name),
                    show::name(&view.name)
                )
            }
            Some(None) => " · the source's own names".to_owned(),
            None => String::new(),
        };
        self.kind() + &what
    }

    /// The first line of what converts: what was recognised, how surely and why.
    pub(crate) fn recognised(&self, bound: &Bound<'_>) -> String {
        let sure = bound.sure.as_ref().map(certainty);
        let sure = sure.map(|(how, why)| format!(" · {how}: {why}")).unwrap_or_default();
        self.headline(Some(bound)) + &sure
    }

    /// What wrote it: kind, mesh, step.
    pub(crate) fn kind(&self) -> String {
        let inventory = self.inventory();
        let mut parts = vec![match inventory.kind.as_str() {
            "" => "a checkpoint of unknown kind".to_owned(),
            kind => show::name(kind),
        }];
        if !inventory.mesh.is_empty() {
            parts.push(show::mesh(&inventory.mesh));
        }
        parts.extend(inventory.step.map(|step| format!("step {step}")));
        parts.join(", ")
    }

    /// What was recognised, as data.
    pub(crate) fn json(&self, bound: Option<&Bound<'_>>) -> Value {
        let inventory = self.inventory();
        let spec = bound.and_then(|bound| bound.spec);
        let sure = bound.and_then(|bound| bound.sure.as_ref()).map(certainty);
        json!({
            "path": inventory.root,
            "kind": inventory.kind,
            "framework": inventory.framework,
            "framework_version": inventory.version,
            "step": inventory.step,
            "mesh": inventory.mesh,
            "model": spec.map(|(program, _)| &program.model.name),
            "view": spec.map(|(_, view)| &view.name),
            "layout": bound.and_then(|bound| bound.layout.as_ref()),
            "certainty": sure.as_ref().map(|(how, _)| how),
            "why": sure.as_ref().map(|(_, why)| why),
        })
    }
}

/// How sure it is which model this is, and why: `certain`, and a sentence.
pub(crate) fn certainty(sure: &Sure) -> (&'static str, String) {
    match sure {
        Sure::Named => ("certain", "--spec names it".to_owned()),
        Sure::Carried => ("certain", "the folder carries its spec".to_owned()),
        Sure::Described => {
            ("certain", "universal_checkpoint_info says how its parts fit together".to_owned())
        }
        Sure::Type(name) => {
            ("certain", format!("config.json says model_type \"{}\"", show::name(name)))
        }
        Sure::Fits(1) => ("likely", "the one name and shape fits; no document says so".to_owned()),
        Sure::Fits(names) => (
            "likely",
            format!("all {} names and shapes fit; no document says so", show::number(*names)),
        ),
    }
}
