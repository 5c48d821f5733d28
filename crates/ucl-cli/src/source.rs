//! A checkpoint that was named: what lies there, and which model and view it is of.

use crate::args::{LoraArgs, SourceArgs};
use crate::derive::{Derived, derive, describes_itself};
use crate::failure::{Failure, Stop, of_problem, refuse};
use crate::foreign::{self, Config};
use crate::session::Session;
use crate::{held, ordered, show, spec};
use serde_json::{Map, Value, json};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;
use ucl_formats::huggingface::read_config;
use ucl_formats::inventory::Framework;
use ucl_formats::{Format, Inventory, Problem, Survey, survey};
use ucl_ir::{Diagnostic, Program};
use ucl_parser::suggest::nearest;
use ucl_plan::{
    Bound, Difference, HUGGING_FACE_VIEW, Merge, Naming, Plan, Recognition, Refusal, Said, States,
    Sure, Target, bind, foreign, recognise, with_universal_view,
};

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

    /// Tries every model and view; where nothing could be read, nothing fits.
    pub(crate) fn recognise(&self, naming: &Naming) -> Recognition<'_> {
        if self.inventory().tensors.is_empty() {
            return Recognition::default();
        }
        recognise(&self.programs, self.inventory(), &self.said, naming)
    }

    /// Finds the one model and view.
    pub(crate) fn bind(
        &self,
        naming: &Naming,
        session: &Session<'_, '_>,
    ) -> Result<Bound<'_>, Stop> {
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
                Err(ambiguous(&fits, &differences, session).into())
            }
            // A model that fits but for its sizes is the better advice, unless they are only unknown.
            Refusal::Wrong(wrong) => {
                let contradicts = wrong.iter().any(|one| one.code == "ucl::bind");
                let stored = *naming == Naming::Stored;
                match self.by_itself(naming).filter(|_| stored || !contradicts) {
                    Some(bound) => bound,
                    None => Err(self.with_sources(wrong, naming).into()),
                }
            }
        }
    }

    /// Reads it as a model from now on if it is one, and says whether; else leaves it as it is.
    pub(crate) fn read_as(&mut self, model: &str, session: &Session<'_, '_>) -> bool {
        let before = self.said.model.replace(model.to_owned());
        let of_model = |bound: Bound<'_>| bound.spec.is_some_and(|(p, _)| p.model.name == model);
        let fits = self.bind(&Naming::Universal, session).is_ok_and(of_model);
        if !fits {
            self.said.model = before;
        }
        fits
    }

    /// Binds by what the checkpoint says of itself, under its own names; `None` where it says nothing,
    /// other names are wanted, or the user named a spec or a view.
    fn by_itself(&self, naming: &Naming) -> Option<Result<Bound<'_>, Stop>> {
        if matches!(naming, Naming::View(_)) || self.said.named || self.said.view.is_some() {
            return None;
        }
        let info = describes_itself(self.inventory())?;
        let derived = self.derived.get_or_init(|| derive(self.inventory(), info));
        let derived = match derived {
            Ok(derived) => derived,
            Err(wrong) => return Some(Err(Failure::in_specs(wrong.clone(), Vec::new()).into())),
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
                Err(Failure::in_specs(wrong, derived.program.sources.clone()).into())
            }
            Err(Refusal::Ambiguous { fits, .. }) => Err(Failure::one(Diagnostic::new(
                "ucl::ambiguous",
                format!("what the checkpoint says of itself fits {} ways", fits.len()),
            ))
            .into()),
        })
    }

    /// Fails for a view that no model has, with the name that is meant if one is near.
    fn known_view(&self, naming: &Naming) -> Result<(), Stop> {
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
        Err(refuse(format!("no model has a view `{name}`"), help))
    }

    /// Binds and plans.
    ///
    /// A Hugging Face model has Hugging Face's names, or, where no spec knows the source's, those.
    pub(crate) fn plan(
        &self,
        mut target: Target,
        session: &Session<'_, '_>,
    ) -> Result<Plan<'_>, Stop> {
        if target.format == Format::HuggingFace {
            if self.inventory().is_adapter() && self.merge.is_none() {
                return Err(refuse(
                    "adapter_config.json says that these are the weights of an adapter, not of a model",
                    "give the folder of its model, and this one behind a flag: `--merge-lora=ADAPTER`; `--to universal` keeps its tensors as they are",
                ));
            }
            let own_view =
                matches!(&target.naming, Naming::View(name) if self.is_of_transformers(name));
            if !own_view && matches!(target.naming, Naming::View(_)) {
                self.known_view(&target.naming)?;
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
        if target.format == Format::HuggingFace && bound.spec.is_none() {
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

    /// Whether no model fits and what the checkpoint says of itself does.
    fn describes_all(&self) -> bool {
        self.recognise(&Naming::Universal).fits.is_empty()
            && self.by_itself(&Naming::Universal).is_some_and(|bound| bound.is_ok())
    }

    /// Whether a view is that of Hugging Face's files, or one built on it.
    fn is_of_transformers(&self, name: &str) -> bool {
        let views = self.programs.iter().filter_map(|program| program.views.get(name));
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
        let asked = self.said.view.is_some() || self.said.named;
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
        match foreign(&self.programs, self.inventory()) {
            Some(foreign) => Err(foreign::refused(&foreign, self.config, is_folder)),
            None => Ok(()),
        }
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

/// Several views fit: where they differ, and the lines to type.
fn ambiguous(
    fits: &[(String, String)],
    differences: &[Difference],
    session: &Session<'_, '_>,
) -> Failure {
    let one_model = fits.iter().all(|fit| fit.0 == fits[0].0);
    let what = |(model, view): &(String, String)| match one_model {
        true => view.clone(),
        false => format!("{view} of {model}"),
    };
    let views: Vec<String> = fits.iter().map(what).collect();
    let of = if one_model { format!(" of `{}`", fits[0].0) } else { String::new() };
    let message = format!(
        "the files fit {} views{of}, which order the same bytes differently: {}",
        fits.len(),
        views.join(", ")
    );
    let mut help: Vec<String> = readings(differences, &views);
    help.push("no file here records which it is; who wrote it may know. Say it:".to_owned());
    help.extend(fits.iter().map(|(model, view)| {
        let mut more = vec!["--from-view", view];
        if !one_model {
            more.extend(["--spec", model]);
        }
        format!("  {}", session.typed_with(&more))
    }));
    Failure::one(Diagnostic::new("ucl::ambiguous", message).help(help.join("\n")))
}

/// How many differences are told.
const TOLD: usize = 4;

/// A line for each tensor that views read differently.
pub(crate) fn readings(differences: &[Difference], views: &[String]) -> Vec<String> {
    let line = |difference: &Difference| {
        let readings = difference.readings.iter().zip(views);
        let readings = readings.map(|(shape, view)| format!("`{shape}` in {view}"));
        let name = show::name(&difference.name);
        format!("\"{name}\" is {}", readings.collect::<Vec<_>>().join(" and "))
    };
    let mut lines: Vec<String> = differences.iter().take(TOLD).map(line).collect();
    if differences.len() > TOLD {
        lines.push(format!("and {} more", differences.len() - TOLD));
    }
    lines
}

/// `config.json` of a folder that the user named.
pub(crate) fn config(folder: &Path) -> Result<Map<String, Value>, Stop> {
    read_config(&folder.join("config.json")).map_err(|problem| {
        of_problem(&problem.help("--config names a folder with the model's config.json")).into()
    })
}
