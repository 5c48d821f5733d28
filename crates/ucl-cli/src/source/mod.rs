//! A checkpoint that was named: what lies there, and which model and view it is of.

mod ambiguous;
mod bind;
mod held;
mod ordered;
mod plan;
mod told;

pub(crate) use ambiguous::readings;
pub(crate) use plan::planned;
pub(crate) use told::certainty;

use crate::args::{LoraArgs, SourceArgs};
use crate::derive::{Derived, lay};
use crate::failure::{Failure, Stop, of_problem, refuse};
use crate::foreign::Config;
use crate::{show, spec};
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::path::Path;
use ucl_formats::huggingface::read_config;
use ucl_formats::{Inventory, Problem, Survey, survey};
use ucl_ir::{Diagnostic, Program};
use ucl_plan::{Merge, Naming, Refusal, Said, States, bind, with_universal_view};

/// A checkpoint that was read, and the specs to try on it.
pub(crate) struct Opened {
    survey: Survey,
    programs: Vec<Program>,
    said: Said,
    /// Whose config counts.
    config: Config,
    /// Whether low-rank pairs are added to their weights.
    merge: Option<Merge>,
    /// What it says of itself, once that was asked for.
    derived: OnceCell<Result<Derived, Vec<Diagnostic>>>,
}

impl Opened {
    /// Reads the headers of a checkpoint. What is wrong with it stays in it.
    ///
    /// Fails for specs and configs that cannot be read, and where there is no checkpoint at all.
    pub(crate) fn new(path: &Path, args: &SourceArgs) -> Result<Opened, Stop> {
        Opened::of(survey(path), args)
    }

    /// One of two checkpoints that the same flags were typed for: a universal folder says itself
    /// what it is, and `--from-view` counts where the files leave the view open.
    pub(crate) fn one_of_two(path: &Path, args: &SourceArgs) -> Result<Opened, Stop> {
        let survey = survey(path);
        let mut args = args.clone();
        let view = args.from_view.take();
        if survey.inventory.universal.is_some() {
            args.spec.clear();
        }
        let mut opened = Opened::of(survey, &args)?;
        let naming = Naming::Universal;
        let bound = bind(&opened.programs, opened.inventory(), &opened.said, &naming);
        if matches!(bound, Err(Refusal::Ambiguous { .. })) {
            drop(bound);
            opened.said.view = view;
        }
        Ok(opened)
    }

    fn of(mut survey: Survey, args: &SourceArgs) -> Result<Opened, Stop> {
        let laid = lay(&mut survey.inventory);
        survey.inventory.notes.extend(laid);
        let mut whose = Config::Own;
        if let Some(folder) = &args.config {
            let config = config(folder)?;
            let own = survey.inventory.documents.insert("config".to_owned(), config);
            whose = Config::Given { own: own.is_some() };
        }
        let programs = if args.spec.is_empty() {
            spec::for_inventory(&survey.inventory)?
        } else {
            spec::named(&args.spec)?
        };
        let model = match programs.as_slice() {
            [only] if !args.spec.is_empty() => Some(only.model.name.clone()),
            _ => None,
        };
        let programs = with_universal_view(programs, &survey.inventory);
        let view = args.from_view.clone();
        let set = args.set.iter().cloned().collect();
        let said = Said { view, model, named: !args.spec.is_empty(), set };
        held::take_off(&mut survey, &programs, &said);
        ordered::order(&mut survey, &programs, &said);
        let derived = OnceCell::new();
        let opened = Opened { survey, programs, said, config: whose, merge: None, derived };
        opened.agrees_with(args)?;
        Ok(opened)
    }

    /// Adds the adapter of a folder, if one is named, and wishes low-rank pairs to be merged, if so typed.
    ///
    /// Fails for a scale that is no number.
    pub(crate) fn merging(mut self, args: &LoraArgs) -> Result<Opened, Stop> {
        if args.merge_lora.is_none() {
            return Ok(self);
        }
        if let Some(alpha) = args.lora_alpha.filter(|alpha| !alpha.is_finite()) {
            return Err(refuse(format!("--lora-alpha {alpha} is no number"), "write it as `16`"));
        }
        if let Some(folder) = args.folder() {
            ucl_formats::lora::join(&mut self.survey, folder);
        }
        self.merge = Some(Merge { alpha: args.lora_alpha });
        Ok(self)
    }

    /// What its headers tell.
    pub(crate) fn inventory(&self) -> &Inventory {
        &self.survey.inventory
    }

    /// What is wrong with it.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.survey.problems
    }

    /// Fails with all of them if there are any, and with what keeps the optimizer's states from being
    /// read if these are wanted.
    pub(crate) fn sound(&self, states: States) -> Result<(), Stop> {
        let unread = if states == States::All { &self.inventory().unread[..] } else { &[] };
        match [self.problems(), unread].concat().as_slice() {
            [] => Ok(()),
            problems => Err(Failure::from(problems).into()),
        }
    }

    /// What was said about the mesh has to be what the files say.
    fn agrees_with(&self, args: &SourceArgs) -> Result<(), Stop> {
        let found = &self.inventory().mesh;
        let size = |mesh: &ucl_ir::Mesh, axis: &str| mesh.get(axis).copied().unwrap_or(1);
        let differs = |said: &ucl_ir::Mesh| {
            said.keys()
                .chain(found.keys())
                .any(|axis| said.contains_key(axis) && size(said, axis) != size(found, axis))
        };
        match &args.from_mesh {
            Some(said) if differs(said) => Err(refuse(
                format!("the files say {}, not {}", show::mesh(found), show::mesh(said)),
                "this version takes the mesh from the files; leave --from-mesh out",
            )),
            _ => Ok(()),
        }
    }
}

/// `config.json` of a folder that the user named.
pub(crate) fn config(folder: &Path) -> Result<Map<String, Value>, Stop> {
    read_config(&folder.join("config.json")).map_err(|problem| {
        of_problem(&problem.help("--config names a folder with the model's config.json")).into()
    })
}
