//! What a checkpoint was recognised as, how surely, and what it is not.

use crate::show;
use crate::source::certainty;
use indexmap::IndexMap;
use serde_json::{Value, json};
use ucl_plan::{Difference, Lost, Recognition, Sure, differences};

/// What was recognised and how.
pub(super) struct Found {
    /// The views that fit.
    pub(super) fits: Vec<String>,
    /// How sure the model is.
    sure: Option<Sure>,
    /// What the views that fit read differently.
    pub(super) differences: Vec<Difference>,
    lost: Vec<Lost>,
}

impl Found {
    pub(super) fn of(recognition: &Recognition<'_>) -> Found {
        Found {
            fits: recognition.fits.iter().map(|fit| fit.view.name.clone()).collect(),
            sure: recognition.fits.first().and_then(|fit| fit.bound.sure.clone()),
            differences: differences(&recognition.fits),
            lost: recognition.lost.clone(),
        }
    }

    /// How sure, and why: `certain`, and a sentence.
    pub(super) fn certainty(&self) -> Option<(&'static str, String)> {
        self.sure.as_ref().map(certainty)
    }

    /// Who lost and why; those that lost alike in one line.
    pub(super) fn lost_lines(&self, model: &str) -> Vec<String> {
        let mut groups: IndexMap<&str, Vec<String>> = IndexMap::new();
        for lost in &self.lost {
            let who = match lost.model == model {
                true => format!("view {}", lost.view),
                false => lost.model.clone(),
            };
            let group = groups.entry(&lost.why).or_default();
            if !group.contains(&who) {
                group.push(who);
            }
        }
        let line = |(why, who): (&&str, &Vec<String>)| {
            show::name(&format!("not {}: {why}", who.join(", ")))
        };
        groups.iter().map(line).collect()
    }

    pub(super) fn json(&self) -> Value {
        let certainty = self.certainty();
        json!({
            "certainty": certainty.as_ref().map(|(how, _)| how),
            "why": certainty.map(|(_, why)| why),
            "differences": self.differences.iter().map(|difference| json!({
                "name": difference.name,
                "readings": self.fits.iter().zip(&difference.readings).map(|(view, shape)| json!({
                    "view": view, "shape": shape,
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "lost": self.lost.iter().map(|lost| json!({
                "model": lost.model, "view": lost.view, "why": lost.why, "detail": lost.detail,
            })).collect::<Vec<_>>(),
        })
    }
}
