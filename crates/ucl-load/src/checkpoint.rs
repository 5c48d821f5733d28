//! A checkpoint that was named: what lies there, and the specs to try on it.

use crate::derive::{Derived, lay};
use crate::failure::{Failure, of_problem};
use crate::{held, ordered, specs};
use serde_json::{Map, Value};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use ucl_formats::huggingface::read_config;
use ucl_formats::{Inventory, Problem, Survey, survey};
use ucl_ir::Program;
use ucl_plan::{Naming, Refusal, Said, States, bind, with_universal_view};

/// What is said of a checkpoint beside its path; nothing has to be.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Specs: files, or the name of a built-in model. Those that are built in are tried if none is named.
    pub specs: Vec<PathBuf>,
    /// The view that it was stored in.
    pub view: Option<String>,
    /// Sizes of dims.
    pub set: BTreeMap<String, u64>,
    /// A folder whose `config.json` takes the place of the checkpoint's own.
    pub config: Option<PathBuf>,
}

/// A checkpoint whose headers were read.
pub struct Checkpoint {
    pub(crate) survey: Survey,
    pub(crate) programs: Vec<Program>,
    pub(crate) said: Said,
    /// Whether the config that counts was given, and whether the checkpoint has one of its own.
    given: Option<bool>,
    /// What it says of itself, once that was asked for.
    pub(crate) derived: OnceCell<Result<Derived, Vec<ucl_ir::Diagnostic>>>,
}

impl Checkpoint {
    /// Reads the headers of a checkpoint. What is wrong with it stays in it: see [`Checkpoint::sound`].
    ///
    /// # Errors
    /// Specs and configs that cannot be read.
    pub fn open(path: &Path, source: &Source) -> Result<Checkpoint, Failure> {
        Checkpoint::of(survey(path), source)
    }

    /// One of two checkpoints that the same was said of: a universal folder says itself what it is, and
    /// a view counts where the files leave it open, or are of no other.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn one_of_two(path: &Path, source: &Source) -> Result<Checkpoint, Failure> {
        let survey = survey(path);
        let mut source = source.clone();
        let view = source.view.take();
        if survey.inventory.universal.is_some() {
            source.specs.clear();
        }
        let mut opened = Checkpoint::of(survey, &source)?;
        let naming = Naming::Universal;
        let bound = |opened: &Checkpoint| {
            let found = bind(&opened.programs, opened.inventory(), &opened.said, &naming);
            found.err()
        };
        let Some(refused) = bound(&opened).filter(|_| view.is_some()) else { return Ok(opened) };
        opened.said.view = view;
        if !matches!(refused, Refusal::Ambiguous { .. }) && bound(&opened).is_some() {
            opened.said.view = None;
        }
        Ok(opened)
    }

    fn of(mut survey: Survey, source: &Source) -> Result<Checkpoint, Failure> {
        let laid = lay(&mut survey.inventory);
        survey.inventory.notes.extend(laid);
        let mut given = None;
        if let Some(folder) = &source.config {
            let own = survey.inventory.documents.insert("config".to_owned(), config(folder)?);
            given = Some(own.is_some());
        }
        let named = !source.specs.is_empty();
        let programs = match named {
            false => specs::for_inventory(&survey.inventory)?,
            true => specs::named(&source.specs)?,
        };
        let model = match programs.as_slice() {
            [only] if named => Some(only.model.name.clone()),
            _ => None,
        };
        let programs = with_universal_view(programs, &survey.inventory);
        let said = Said { view: source.view.clone(), model, named, set: source.set.clone() };
        held::take_off(&mut survey, &programs, &said);
        ordered::order(&mut survey, &programs, &said);
        Ok(Checkpoint { survey, programs, said, given, derived: OnceCell::new() })
    }

    /// Adds the adapter of a folder.
    pub fn join_adapter(&mut self, folder: &Path) {
        ucl_formats::lora::join(&mut self.survey, folder);
    }

    /// What its headers tell.
    pub fn inventory(&self) -> &Inventory {
        &self.survey.inventory
    }

    /// What is wrong with it.
    pub fn problems(&self) -> &[Problem] {
        &self.survey.problems
    }

    /// The models that are tried on it.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// What was said of it.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// Whether a config was given that counts; if so, whether the checkpoint has one of its own.
    pub fn given_config(&self) -> Option<bool> {
        self.given
    }

    /// Whether it can be converted.
    ///
    /// # Errors
    /// All that is wrong with it, and what keeps the optimizer's states from being read if these are
    /// wanted.
    pub fn sound(&self, states: States) -> Result<(), Failure> {
        let unread = if states == States::All { &self.inventory().unread[..] } else { &[] };
        match [self.problems(), unread].concat().as_slice() {
            [] => Ok(()),
            problems => Err(problems.into()),
        }
    }
}

/// `config.json` of a folder that the user named.
///
/// # Errors
/// It cannot be read.
pub fn config(folder: &Path) -> Result<Map<String, Value>, Failure> {
    read_config(&folder.join("config.json")).map_err(|problem| {
        let help = "--config names a folder with the model's config.json";
        Failure::one(of_problem(&problem.help(help)))
    })
}
