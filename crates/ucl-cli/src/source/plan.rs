//! What a checkpoint becomes: under which names, and whether these may be a Hugging Face model's.

use super::{Opened, stop};
use crate::failure::{Stop, refuse};
use crate::foreign;
use crate::session::Session;
use ucl_formats::Format;
use ucl_load::Failure;
use ucl_plan::{Bound, HUGGING_FACE_VIEW, Merge, Naming, Plan, Sure, Target, foreign};

/// The view of a model with a value head, as DeepSpeed-Chat names it.
const CHAT_VIEW: &str = "deepspeed-chat";

impl Opened {
    /// Binds and plans.
    ///
    /// A Hugging Face model has Hugging Face's names, or, where no spec knows the source's, those.
    pub(crate) fn plan(
        &self,
        mut target: Target,
        session: &Session<'_, '_>,
    ) -> Result<Plan<'_>, Stop> {
        if target.format.is_cut() {
            if self.merge.is_some() {
                return Err(refuse(
                    "low-rank pairs are merged into whole weights, and this target is cut over ranks",
                    "merge them first: `--to universal --merge-lora`, then convert that",
                ));
            }
            return self.checkpoint.plan_cut(target).map_err(|unbound| stop(unbound, session));
        }
        if target.format == Format::DeepSpeedChat && self.has_value_head() {
            target.naming = Naming::View(CHAT_VIEW.to_owned());
        }
        if target.format.is_of_transformers() {
            if self.inventory().is_adapter() && self.merge.is_none() {
                return Err(refuse(
                    "adapter_config.json says that these are the weights of an adapter, not of a model",
                    "give the folder of its model, and this one behind a flag: `--merge-lora=ADAPTER`; `--to universal` keeps its tensors as they are",
                ));
            }
            let own_view =
                matches!(&target.naming, Naming::View(name) if self.is_of_transformers(name));
            if !own_view && matches!(target.naming, Naming::View(_)) {
                self.checkpoint.known_view(&target.naming)?;
                return Err(not_of_transformers());
            }
            let own = target.naming == Naming::Stored && self.stores_names_of_transformers();
            // What no spec knows keeps its names, unless others were asked for.
            let of_default =
                matches!(&target.naming, Naming::View(name) if name == HUGGING_FACE_VIEW);
            match self.bind(&target.naming, session) {
                Ok(bound) if own_view || own => return self.planned(bound, target),
                Err(stop) if own => return Err(stop),
                // Under its own names, which a Hugging Face model under AutoTP has.
                Err(_) if of_default && self.describes_all() => target.naming = Naming::Universal,
                Err(stop) if own_view && !(of_default && self.is_unknown()) => return Err(stop),
                _ if !own_view && !self.is_unknown() => return Err(not_of_transformers()),
                _ => target.naming = Naming::Universal,
            }
        }
        let bound = self.bind(&target.naming, session)?;
        if target.format.is_of_transformers() && bound.spec.is_none() {
            self.is_of_its_config()?;
        }
        if bound.sure == Some(Sure::Described) && target.naming == Naming::Universal {
            target.naming = Naming::Stored;
        }
        self.planned(bound, target)
    }

    fn planned<'a>(&self, bound: Bound<'a>, target: Target) -> Result<Plan<'a>, Stop> {
        planned_with(bound, target, self.merge.as_ref())
    }

    /// Whether it is a critic or a reward model: those alone have a view of DeepSpeed-Chat's own.
    fn has_value_head(&self) -> bool {
        let fits = self.recognise(&Naming::Universal).fits;
        !fits.is_empty() && fits.iter().all(|fit| fit.program.views.contains_key(CHAT_VIEW))
    }

    /// Whether no model fits and what the checkpoint says of itself does.
    fn describes_all(&self) -> bool {
        self.recognise(&Naming::Universal).fits.is_empty()
            && self.checkpoint.by_itself(&Naming::Universal).is_some_and(|bound| bound.is_ok())
    }

    /// Whether a view is that of Hugging Face's files, or one built on it.
    fn is_of_transformers(&self, name: &str) -> bool {
        let views = self.checkpoint.programs().iter().filter_map(|program| program.views.get(name));
        name == HUGGING_FACE_VIEW
            || views.into_iter().any(|view| view.ancestors.iter().any(|a| a == HUGGING_FACE_VIEW))
    }

    /// Whether the stored names are those of a Hugging Face folder.
    fn stores_names_of_transformers(&self) -> bool {
        let manifest = self.inventory().universal.as_ref();
        let kept = |view: &str| view == "stored" || self.is_of_transformers(view);
        self.inventory().is_of_hugging_face() && manifest.is_none_or(|made| kept(&made.view))
    }

    /// Whether no spec claims the names, and none was named.
    fn is_unknown(&self) -> bool {
        let asked = self.checkpoint.said().view.is_some() || self.checkpoint.said().named;
        let found = self.recognise(&Naming::Universal);
        !asked && found.fits.is_empty() && found.near.is_empty()
    }

    /// Fails where transformers would look for a known model's names, by its config, and find others.
    fn is_of_its_config(&self) -> Result<(), Stop> {
        let is_folder = self.stores_names_of_transformers();
        let config = self.inventory().documents.get("config");
        // Quantised weights come in several tensors each, which the specs do not know.
        if is_folder && config.is_some_and(|config| config.contains_key("quantization_config")) {
            return Ok(());
        }
        match foreign(self.checkpoint.programs(), self.inventory()) {
            Some(foreign) => Err(foreign::refused(&foreign, self.config(), is_folder)),
            None => Ok(()),
        }
    }
}

/// Plans what is bound.
pub(crate) fn planned(bound: Bound<'_>, target: Target) -> Result<Plan<'_>, Stop> {
    planned_with(bound, target, None)
}

fn planned_with<'a>(
    bound: Bound<'a>,
    target: Target,
    merge: Option<&Merge>,
) -> Result<Plan<'a>, Stop> {
    let program = bound.spec.map(|(program, _)| program);
    Plan::merging(bound, target, merge).map_err(|wrong| {
        let sources = program.map_or_else(Vec::new, |program| program.sources.clone());
        Failure::in_specs(wrong, sources).into()
    })
}

/// Names that transformers does not know, of a model whose names it knows.
fn not_of_transformers() -> Stop {
    refuse(
        "a Hugging Face model has Hugging Face's names, and no others load",
        format!(
            "leave --view out, or name `{HUGGING_FACE_VIEW}` or a view that extends it; `--to universal --view VIEW` writes any view"
        ),
    )
}
