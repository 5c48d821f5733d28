//! A checkpoint that was named on the command line, and how its readings are told.

mod ambiguous;
mod plan;
mod told;

pub(crate) use ambiguous::readings;
pub(crate) use plan::planned;
pub(crate) use told::certainty;

use crate::args::{LoraArgs, SourceArgs};
use crate::failure::{Stop, refuse};
use crate::foreign::Config;
use crate::session::Session;
use crate::show;
use ambiguous::ambiguous;
use std::path::Path;
use ucl_formats::{Inventory, Problem};
use ucl_load::{Checkpoint, Source, Unbound};
use ucl_plan::{Bound, Merge, Naming, Recognition, States};

/// A checkpoint that was read, and the specs to try on it.
pub(crate) struct Opened {
    checkpoint: Checkpoint,
    /// Whether low-rank pairs are added to their weights.
    merge: Option<Merge>,
}

impl Opened {
    /// Reads the headers of a checkpoint. What is wrong with it stays in it.
    ///
    /// Fails for specs and configs that cannot be read, and where there is no checkpoint at all.
    pub(crate) fn new(path: &Path, args: &SourceArgs) -> Result<Opened, Stop> {
        Opened::of(Checkpoint::open(path, &source(args))?, args)
    }

    /// One of two checkpoints that the same flags were typed for.
    pub(crate) fn one_of_two(path: &Path, args: &SourceArgs) -> Result<Opened, Stop> {
        Opened::of(Checkpoint::one_of_two(path, &source(args))?, args)
    }

    fn of(checkpoint: Checkpoint, args: &SourceArgs) -> Result<Opened, Stop> {
        let opened = Opened { checkpoint, merge: None };
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
            self.checkpoint.join_adapter(folder);
        }
        self.merge = Some(Merge { alpha: args.lora_alpha });
        Ok(self)
    }

    /// What its headers tell.
    pub(crate) fn inventory(&self) -> &Inventory {
        self.checkpoint.inventory()
    }

    /// What is wrong with it.
    pub(crate) fn problems(&self) -> &[Problem] {
        self.checkpoint.problems()
    }

    /// Fails with all that keeps these states from being converted.
    pub(crate) fn sound(&self, states: States) -> Result<(), Stop> {
        Ok(self.checkpoint.sound(states)?)
    }

    /// Tries every model and view; where nothing could be read, nothing fits.
    pub(crate) fn recognise(&self, naming: &Naming) -> Recognition<'_> {
        self.checkpoint.recognise(naming)
    }

    /// Finds the one model and view.
    pub(crate) fn bind(
        &self,
        naming: &Naming,
        session: &Session<'_, '_>,
    ) -> Result<Bound<'_>, Stop> {
        self.checkpoint.bind(naming).map_err(|unbound| stop(unbound, session))
    }

    /// Reads it as a model from now on if it is one, and says whether; else leaves it as it is.
    pub(crate) fn read_as(&mut self, model: &str) -> bool {
        self.checkpoint.read_as(model)
    }

    /// Whose config counts.
    fn config(&self) -> Config {
        self.checkpoint.given_config().map_or(Config::Own, |own| Config::Given { own })
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

/// What the flags say of a checkpoint.
fn source(args: &SourceArgs) -> Source {
    Source {
        specs: args.spec.clone(),
        view: args.from_view.clone(),
        set: args.set.iter().cloned().collect(),
        config: args.config.clone(),
    }
}

/// Why nothing is bound, with the lines to type where somebody has to choose.
fn stop(unbound: Unbound, session: &Session<'_, '_>) -> Stop {
    match unbound {
        Unbound::Ambiguous { fits, differences } => ambiguous(&fits, &differences, session).into(),
        Unbound::Wrong(failure) => failure.into(),
    }
}
