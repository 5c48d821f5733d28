//! `ucl inspect`: what a checkpoint is, in one screen, broken or not.

mod found;

use crate::args::InspectArgs;
use crate::failure::Stop;
use crate::overview::Overview;
use crate::session::{Answer, Session};
use crate::show::{self, Facts};
use crate::source::{Opened, planned, readings};
use found::Found;
use serde_json::json;
use ucl_formats::{Format, Inventory, Problem};
use ucl_ir::Mesh;
use ucl_load::Failure;
use ucl_plan::{Bound, Naming, Plan, Recognition, States, Target};

pub(super) fn run(args: &InspectArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let opened = Opened::new(&args.checkpoint, &args.source)?;
    let recognition = opened.recognise(&Naming::Universal);
    let found = Found::of(&recognition);
    let (plan, failure) = match bound(&opened, recognition, session).and_then(planned_whole) {
        Ok(plan) => (Some(plan), Failure::default()),
        Err(Stop::Failed(failure)) => (None, failure),
        Err(stop) => return Err(stop),
    };
    // What cannot be bound because files are missing is no second problem.
    let unbound = opened.problems().is_empty() && plan.is_none();
    let failure = if unbound { failure } else { Failure::default() };
    let whole = opened.problems().is_empty() && !unbound;

    let bound = plan.as_ref().map(|plan| &plan.bound);
    let overview = Overview::of(opened.inventory(), plan.as_ref());
    session.say(&headline(&opened, bound, &found.fits))?;
    session.say(&text(args, &opened, (plan.as_ref(), &found, &overview), session))?;
    if unbound {
        session.complain(&failure)?;
    }
    session.answer(json!({
        "source": opened.json(bound),
        "rivals": found.fits.get(1..).unwrap_or_default(),
        "recognition": found.json(),
        "dims": bound.map(Bound::dims),
        "overview": overview,
        "adapters": opened.inventory().adapters.pairs.len(),
        "optimizer": opened.inventory().optimizer,
        "problems": listed(opened.problems()),
        "unread": listed(&opened.inventory().unread),
        "errors": show::failure_json(&failure),
        "notes": opened.inventory().notes,
    }))?;
    Ok(if whole { Answer::Yes } else { Answer::Unable })
}

/// Problems as JSON.
fn listed(problems: &[Problem]) -> Vec<serde_json::Value> {
    let one = |problem: &Problem| {
        json!({
            "file": problem.file, "message": problem.message, "help": problem.help,
        })
    };
    problems.iter().map(one).collect()
}

/// The first that fits, though others do too; else whatever binding says.
fn bound<'a>(
    opened: &'a Opened,
    mut recognition: Recognition<'a>,
    session: &Session<'_, '_>,
) -> Result<Bound<'a>, Stop> {
    if recognition.fits.is_empty() {
        if opened.inventory().tensors.is_empty() {
            return Err(Failure::default().into());
        }
        return opened.bind(&Naming::Universal, session);
    }
    Ok(recognition.fits.remove(0).bound)
}

fn planned_whole(bound: Bound<'_>) -> Result<Plan<'_>, Stop> {
    let target = |naming| Target {
        stages: Vec::new(),
        mesh: Mesh::new(),
        format: Format::Universal,
        naming,
        dtype: None,
        states: States::All,
        max_file_bytes: u64::MAX,
    };
    let naming = if bound.missing.is_empty() { Naming::Universal } else { Naming::Stored };
    planned(bound, target(naming))
}

fn headline(opened: &Opened, bound: Option<&Bound<'_>>, fits: &[String]) -> String {
    let line = opened.headline(bound);
    match fits.get(1..) {
        Some(rivals) if !rivals.is_empty() => format!("{line} or {}", rivals.join(" or ")),
        _ => line,
    }
}

fn text(
    args: &InspectArgs,
    opened: &Opened,
    (plan, found, overview): (Option<&Plan<'_>>, &Found, &Overview),
    session: &Session<'_, '_>,
) -> String {
    let inventory = opened.inventory();
    let mut facts = Facts::default();
    let path =
        if inventory.root.as_os_str().is_empty() { &args.checkpoint } else { &inventory.root };
    let step = inventory.step.map_or_else(String::new, |step| format!(", step {step}"));
    facts.add("path", show::name(&path.display().to_string()) + &step);
    facts.add("framework", framework(inventory));
    if let Some(files) = overview.files_line() {
        facts.add("files", files);
    }
    if !inventory.mesh.is_empty() {
        facts.add("mesh", ranks(opened));
    }
    if let Some(plan) = plan {
        facts.add_all("model", &model(plan, found));
        facts.add("dims", show::dims(&plan.bound.dims()));
    }
    facts.add("parameters", overview.parameters_line());
    facts.add_all("states", &overview.state_lines());
    adapters(inventory, &mut facts);
    optimizer(inventory, &mut facts);
    if let Some(plan) = plan {
        let report = plan.report();
        facts.add_all(
            "lossy",
            &report.lossy.iter().map(|line| show::name(line)).collect::<Vec<_>>(),
        );
        facts.add_all(
            "checks",
            &report.checks.iter().map(|line| show::name(line)).collect::<Vec<_>>(),
        );
    }
    facts
        .add_all("notes", &inventory.notes.iter().map(|note| show::name(note)).collect::<Vec<_>>());
    let lines = |problems: &[Problem]| {
        let lines = problems.iter().flat_map(|problem| {
            let help = problem.help.iter().map(|help| format!("  help: {}", show::name(help)));
            std::iter::once(show::name(&problem.to_string())).chain(help)
        });
        lines.collect::<Vec<_>>()
    };
    facts.add_all("unread", &lines(&inventory.unread));
    match opened.problems() {
        [] => facts.add("problems", if plan.is_some() { "none" } else { "see below" }),
        problems => facts.add_all("problems", &lines(problems)),
    }
    facts.add_all("next", &next(args, opened, (plan, &found.fits), session));
    facts.show(session.style())
}

fn framework(inventory: &Inventory) -> String {
    let name = match inventory.framework {
        ucl_formats::inventory::Framework::Files => "plain files of named tensors",
        ucl_formats::inventory::Framework::DeepSpeed => "DeepSpeed",
        ucl_formats::inventory::Framework::MegatronDeepSpeed => "Megatron-DeepSpeed",
        ucl_formats::inventory::Framework::Megatron => "Megatron-LM",
        ucl_formats::inventory::Framework::MegatronDist
        | ucl_formats::inventory::Framework::MegatronFsdp => "Megatron-core",
        ucl_formats::inventory::Framework::TorchDistributed => "torch.distributed",
        ucl_formats::inventory::Framework::Universal => "universal",
        ucl_formats::inventory::Framework::HuggingFace => "Hugging Face",
    };
    match &inventory.version {
        Some(version) => format!("{name}, version {}", show::name(version)),
        None => format!("{name}, version not recorded"),
    }
}

/// The mesh, and whether all of its ranks are here.
fn ranks(opened: &Opened) -> String {
    let mesh = &opened.inventory().mesh;
    // Virtual stages and the tensor ranks of experts lie on ranks that are counted.
    let of_ranks = mesh.iter().filter(|(axis, _)| !matches!(axis.as_str(), "vpp" | "etp"));
    let ranks = of_ranks.fold(1, |product: u64, (_, size)| product.saturating_mul(*size));
    let found = if opened.problems().is_empty() { "all found" } else { "not all could be read" };
    format!("{}: {}, {found}", show::mesh(mesh), show::count(ranks, "rank"))
}

/// Model, view, layout, how sure, rivals.
fn model(plan: &Plan<'_>, found: &Found) -> Vec<String> {
    let bound = &plan.bound;
    let Some((program, view)) = bound.spec else {
        return match bound.notes.as_slice() {
            [] => vec!["no spec is needed: the names are the source's own".to_owned()],
            notes => notes.iter().map(|note| show::name(note)).collect(),
        };
    };
    let layout =
        bound.layout.as_ref().map_or_else(String::new, |layout| format!(", layout {layout}"));
    let tied = if bound.tied { ", tied embeddings" } else { "" };
    let sure = found.certainty().map(|(how, why)| format!(" · {how}: {why}")).unwrap_or_default();
    let mut lines = vec![format!("{}, view {}{layout}{tied}{sure}", program.model.name, view.name)];
    if let [_, rivals @ ..] = &found.fits[..]
        && !rivals.is_empty()
    {
        lines.push(format!(
            "{} would fit too, in another order of the same bytes: the files do not record which it is",
            rivals.join(", ")
        ));
        lines.extend(readings(&found.differences, &found.fits));
    }
    lines.extend(found.lost_lines(&program.model.name));
    lines
}

/// Low-rank pairs beside the weights.
fn adapters(inventory: &Inventory, facts: &mut Facts) {
    let pairs = &inventory.adapters.pairs;
    let Some(first) = pairs.first() else { return };
    let count = show::count(pairs.len() as u64, "low-rank pair");
    let line = format!(
        "{count}, named as {} names them; they are kept apart, or added to their weights by --merge-lora",
        first.convention.name()
    );
    facts.add_all("adapters", &[line]);
    let obstacles = inventory.adapters.obstacles.iter();
    facts.add_all(
        "",
        &obstacles.map(|why| format!("not to be merged: {}", show::name(why))).collect::<Vec<_>>(),
    );
}

/// Groups, hyper-parameters, steps.
fn optimizer(inventory: &Inventory, facts: &mut Facts) {
    const SHOWN: [&str; 5] = ["lr", "betas", "eps", "weight_decay", "momentum"];
    let Some(optimizer) = &inventory.optimizer else { return };
    let name = optimizer.name.as_deref().unwrap_or("of unknown class");
    let groups = optimizer.groups.len() as u64;
    let mut lines = vec![format!("{}, {}", show::name(name), show::count(groups, "group"))];
    for (number, group) in optimizer.groups.iter().take(6).enumerate() {
        let hyper =
            SHOWN.iter().filter_map(|key| Some(format!("{key} {}", group.hyper.get(*key)?)));
        let step = group.step.iter().map(|step| format!("step {step}"));
        let params = show::count(group.params.len() as u64, "parameter");
        let parts: Vec<String> = std::iter::once(params).chain(step).chain(hyper).collect();
        lines.push(format!("{number}: {}", show::name(&parts.join(", "))));
    }
    if groups > 6 {
        lines.push(format!("and {} more", groups - 6));
    }
    facts.add_all("optimizer", &lines);
}

/// What to type next; nothing where something has to be mended first.
fn next(
    args: &InspectArgs,
    opened: &Opened,
    (plan, fits): (Option<&Plan<'_>>, &[String]),
    session: &Session<'_, '_>,
) -> Vec<String> {
    let Some(plan) = plan.filter(|_| opened.problems().is_empty()) else { return Vec::new() };
    let path = args.checkpoint.display().to_string();
    let path = path.trim_end_matches('/');
    if opened.inventory().universal.is_some() {
        return vec![format!("{} verify {}", session.program(), show::shell_word(path))];
    }
    let mut more: String =
        args.source.words().iter().map(|word| format!(" {}", show::shell_word(word))).collect();
    if !plan.bound.missing.is_empty() {
        more.push_str(" --view stored");
    }
    if !opened.inventory().unread.is_empty() {
        more.push_str(" --states weights");
    }
    let line = |view: Option<&String>| {
        let view = view.map_or_else(String::new, |view| format!(" --from-view {view}"));
        format!(
            "{} convert {} {}{more}{view}",
            session.program(),
            show::shell_word(path),
            show::shell_word(&format!("{path}-universal")),
        )
    };
    if fits.len() > 1 {
        fits.iter().map(|view| line(Some(view))).collect()
    } else {
        vec![line(None)]
    }
}
