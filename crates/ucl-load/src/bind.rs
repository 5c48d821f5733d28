//! Which model and view a checkpoint is of.

use crate::checkpoint::Checkpoint;
use crate::derive::{derive, describes_itself, is_laid, remembered};
use crate::failure::Failure;
use std::collections::BTreeSet;
use ucl_formats::inventory::Framework;
use ucl_ir::Diagnostic;
use ucl_parser::suggest::nearest;
use ucl_plan::{Bound, Difference, Naming, Recognition, Refusal, Said, Sure, bind, recognise};

/// Why no model is bound.
#[derive(Debug, thiserror::Error)]
pub enum Unbound {
    /// Several views fit and order the same bytes differently: somebody has to choose one.
    #[error("the files fit {} views, which order the same bytes differently", fits.len())]
    Ambiguous {
        /// The models and views.
        fits: Vec<(String, String)>,
        /// Where they differ.
        differences: Vec<Difference>,
    },
    /// None fits, or what was said of it is wrong.
    #[error(transparent)]
    Wrong(#[from] Failure),
}

impl Checkpoint {
    /// Tries every model and view; where nothing could be read, nothing fits.
    pub fn recognise(&self, naming: &Naming) -> Recognition<'_> {
        if self.inventory().tensors.is_empty() {
            return Recognition::default();
        }
        recognise(&self.programs, self.inventory(), &self.said, naming)
    }

    /// Finds the one model and view.
    ///
    /// # Errors
    /// See [`Unbound`].
    pub fn bind(&self, naming: &Naming) -> Result<Bound<'_>, Unbound> {
        self.known_view(naming)?;
        let bound = bind(&self.programs, self.inventory(), &self.said, naming);
        let is_cut = |bound: &Bound<'_>| {
            bound.spec.is_some() || bound.inventory.framework != Framework::MegatronDeepSpeed
        };
        let refusal = match bound {
            Ok(bound) if is_cut(&bound) => return Ok(bound),
            // Without a spec vocabulary padding stays.
            Ok(bound) => return self.by_itself(naming).and_then(Result::ok).map_or(Ok(bound), Ok),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Ambiguous { fits, differences } => {
                Err(Unbound::Ambiguous { fits, differences })
            }
            // A model that fits but for its sizes is the better advice, unless they are only unknown.
            Refusal::Wrong(wrong) => {
                let contradicts = wrong.iter().any(|one| one.code == "ucl::bind");
                let stored = *naming == Naming::Stored;
                // What was put together by the checkpoint's own word is no model's cut.
                let own = stored || !contradicts || is_laid(self.inventory());
                match self.by_itself(naming).filter(|_| own) {
                    Some(bound) => bound.map_err(Unbound::from),
                    None => Err(self.with_sources(wrong, naming).into()),
                }
            }
        }
    }

    /// Reads it as a model from now on if it is one, and says whether; else leaves it as it is.
    pub fn read_as(&mut self, model: &str) -> bool {
        let before = self.said.model.replace(model.to_owned());
        let of_model = |bound: Bound<'_>| bound.spec.is_some_and(|(p, _)| p.model.name == model);
        let fits = self.bind(&Naming::Universal).is_ok_and(of_model);
        if !fits {
            self.said.model = before;
        }
        fits
    }

    /// Binds by what the checkpoint says of itself, under its own names; `None` where it says nothing,
    /// other names are wanted, or the user named a spec or a view.
    pub fn by_itself(&self, naming: &Naming) -> Option<Result<Bound<'_>, Failure>> {
        if matches!(naming, Naming::View(_)) || self.said.named || self.said.view.is_some() {
            return None;
        }
        let universal = self.inventory().universal.as_ref();
        let derived = match universal.and_then(|made| made.source.cuts.as_deref()) {
            Some(text) => self.derived.get_or_init(|| remembered(text)),
            None => {
                let info = describes_itself(self.inventory())?;
                self.derived.get_or_init(|| derive(self.inventory(), info))
            }
        };
        let derived = match derived {
            Ok(derived) => derived,
            Err(wrong) => return Some(Err(Failure::in_specs(wrong.clone(), Vec::new()))),
        };
        let set = self.said.set.clone();
        let said = Said { named: true, set, ..Said::default() };
        let programs = std::slice::from_ref(&derived.program);
        Some(match bind(programs, self.inventory(), &said, &Naming::Stored) {
            Ok(mut bound) => {
                bound.sure = Some(Sure::Described);
                bound.notes.extend(derived.notes.iter().cloned());
                Ok(bound)
            }
            Err(Refusal::Wrong(wrong)) => {
                Err(Failure::in_specs(wrong, derived.program.sources.clone()))
            }
            Err(Refusal::Ambiguous { fits, .. }) => Err(Failure::one(Diagnostic::new(
                "ucl::ambiguous",
                format!("what the checkpoint says of itself fits {} ways", fits.len()),
            ))),
        })
    }

    /// Whether some model has a view.
    ///
    /// # Errors
    /// None has; says the name that is meant if one is near.
    pub fn known_view(&self, naming: &Naming) -> Result<(), Failure> {
        let asked = match naming {
            Naming::View(name) => Some(name),
            Naming::Universal | Naming::Stored => None,
        };
        // One that does not spell its model is not offered, and is told apart from one that nobody has.
        let views = self.programs.iter().flat_map(|program| program.views.values());
        // Without any line it is a name that others extend.
        let views = views.filter(|view| !view.rules.is_empty());
        let own = ["universal", "stored"];
        let offered: BTreeSet<&str> = views
            .clone()
            .filter(|view| view.lacking.is_empty())
            .map(|view| view.name.as_str())
            .chain(own)
            .collect();
        let views: BTreeSet<&str> = views.map(|view| view.name.as_str()).chain(own).collect();
        let unknown = |name: &&String| !views.contains(name.as_str());
        let Some(name) = asked.into_iter().chain(&self.said.view).find(unknown) else {
            return Ok(());
        };
        let help = match nearest(name, offered.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are: {}", offered.into_iter().collect::<Vec<_>>().join(", ")),
        };
        Err(Failure::refused(format!("no model has a view `{name}`"), help))
    }

    /// Mistakes with the texts that they point into: those of the model that they were found with.
    fn with_sources(&self, wrong: Vec<Diagnostic>, naming: &Naming) -> Failure {
        if wrong.iter().all(|diagnostic| diagnostic.labels.is_empty()) {
            return Failure::in_specs(wrong, Vec::new());
        }
        let Recognition { near, aside_near, .. } = self.recognise(naming);
        let found_with = |near: &&(String, String, Vec<Diagnostic>)| wrong.ends_with(&near.2);
        let model = near.iter().chain(&aside_near).find(found_with).map(|(model, _, _)| model);
        let program = match self.programs.as_slice() {
            [only] => Some(only),
            all => all.iter().find(|program| Some(&program.model.name) == model),
        };
        Failure::in_specs(wrong, program.map_or_else(Vec::new, |program| program.sources.clone()))
    }
}
