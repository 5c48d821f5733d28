//! `ucl plan`: what `convert` would do.

use crate::args::PlanArgs;
use crate::beside::Beside;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::show::{self, Facts, Table};
use crate::source::Opened;
use crate::target;
use indexmap::IndexMap;
use serde_json::json;
use ucl_plan::{Merged, MoveRole, Plan, Report, StateTotals, Work};

pub(super) fn run(args: &PlanArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let opened = Opened::new(&args.checkpoint, &args.source)?.merging(&args.lora)?;
    let target = target::target(&args.target, opened.inventory())?;
    opened.sound(target.states)?;
    let plan = opened.plan(target, session)?;
    let beside = Beside::of(&plan, args.source.config.as_deref())?;
    let mut report = plan.report();
    beside.report(&mut report);
    let files: Vec<_> =
        plan.files().iter().map(|file| json!({"path": file.path, "bytes": file.len})).collect();
    let mut document = json!({
        "source": opened.json(Some(&plan.bound)), "report": report, "files": files,
        "beside": beside.names(),
    });
    session.say(&opened.recognised(&plan.bound))?;
    session.say(&text(&plan, &report, session))?;
    if args.full {
        if session.wants_json() {
            document["moves"] = moves(&plan, &mut |_| Ok(()), true)?.into();
        } else {
            moves(&plan, &mut |line| session.say(&line), false)?;
        }
    }
    session.answer(document)?;
    Ok(Answer::Yes)
}

fn text(plan: &Plan<'_>, report: &Report, session: &Session<'_, '_>) -> String {
    let mut facts = Facts::default();
    facts.add("dims", show::dims(&report.dims));
    facts.add_all("writes", &states(&report.states));
    let totals = &report.totals;
    facts.add(
        "",
        format!(
            "{} in {}; {} are moved, {} compared",
            show::bytes(totals.bytes_written),
            show::count(plan.files().len() as u64, "file"),
            show::boxes(totals.moves),
            show::number(totals.compared),
        ),
    );
    facts.add(
        "reads",
        format!(
            "{} of {} on disk; {} of headers were read for this plan",
            show::bytes(totals.bytes_read),
            show::bytes(report.disk_bytes),
            show::bytes(report.header_bytes),
        ),
    );
    rules(plan, &mut facts);
    let sentences =
        |lines: &[String]| lines.iter().map(|line| show::name(line)).collect::<Vec<_>>();
    facts.add_all("merged", &merged(&report.merged));
    facts.add_all("proven", &sentences(&report.proofs));
    facts.add_all("checked", &sentences(&report.checks));
    match report.lossy.as_slice() {
        [] => facts.add("lossy", "nothing"),
        lossy => facts.add_all("lossy", &sentences(lossy)),
    }
    facts.add_all("notes", &sentences(&report.notes));
    facts.show(session.style())
}

/// States of a target: tensors, types, bytes.
pub(super) fn states(states: &IndexMap<String, StateTotals>) -> Vec<String> {
    let mut table = Table::default();
    for (state, totals) in states {
        table.row([
            show::name(state),
            show::count(totals.tensors, "tensor"),
            totals.dtypes.join(" "),
            show::bytes(totals.bytes),
        ]);
    }
    table.lines(&[1, 3])
}

/// Low-rank pairs that are added to weights: those of one rank and scale together.
pub(super) fn merged(merged: &[Merged]) -> Vec<String> {
    const LISTED: usize = 4;
    let mut alike: IndexMap<(u64, u32, &str), Vec<&str>> = IndexMap::new();
    for one in merged {
        let key = (one.rank, one.scale.to_bits(), one.because.as_str());
        alike.entry(key).or_default().push(&one.weight);
    }
    let line = |((rank, scale, because), weights): ((u64, u32, &str), Vec<&str>)| {
        let names: Vec<&str> = weights.iter().take(LISTED).copied().collect();
        let more = match weights.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "{} with {} times a pair of rank {rank} ({because}): {}{more}",
            show::count(weights.len() as u64, "weight"),
            f32::from_bits(scale),
            show::name(&names.join(", ")),
        )
    };
    alike.into_iter().map(line).collect()
}

/// The equations of the source's view that the checkpoint uses.
fn rules(plan: &Plan<'_>, facts: &mut Facts) {
    let Some((program, view)) = plan.bound.spec else { return };
    let here = |term: &String| plan.bound.params.iter().any(|param| param.path == *term);
    let used = view.rules.iter().filter(|rule| rule.terms.iter().all(here));
    let mut table = Table::default();
    let mut last = None;
    for rule in used {
        // A weight and its bias may be one line.
        if last.replace(rule.span) == Some(rule.span) {
            continue;
        }
        let source = program.sources.get(rule.span.source as usize);
        let line = source.and_then(|source| {
            let before = source.text.get(..rule.span.start as usize)?;
            let text = source.text.get(rule.span.start as usize..rule.span.end as usize)?;
            let words: Vec<&str> = text.split_whitespace().collect();
            let place = format!("{}:{}", source.name, before.matches('\n').count() + 1);
            Some((words.join(" "), place))
        });
        let (text, place) = line.unwrap_or_else(|| (rule.terms.join(" | "), String::new()));
        table.row([show::name(&text), show::name(&place)]);
    }
    facts.add_all("rules", &table.lines(&[]));
}

/// Every move, one line each; as data they are returned.
fn moves(
    plan: &Plan<'_>,
    say: &mut dyn FnMut(String) -> Result<(), Stop>,
    as_data: bool,
) -> Result<Vec<serde_json::Value>, Stop> {
    let mut data = Vec::new();
    for (number, tensor) in plan.tensors().iter().enumerate() {
        let head = format!(
            "{} ({}, {}) {}",
            show::name(&tensor.name),
            tensor.state,
            tensor.dtype,
            show::shape(&tensor.shape)
        );
        say(head)?;
        for step in plan.window(number, 0..tensor.len()) {
            let loops: Vec<String> = step
                .loops
                .iter()
                .map(|one| format!("{} × (+{} B → +{})", one.count, one.from, one.to))
                .collect();
            let file = plan
                .sources()
                .get(step.source)
                .map_or_else(String::new, |path| path.display().to_string());
            say(format!(
                "  {:8} {}@{} {} → {}  {}",
                role(step.role),
                show::name(&file),
                step.from,
                step.dtype,
                step.to,
                loops.join(" "),
            ))?;
            if as_data {
                data.push(json!({
                    "tensor": tensor.name, "state": tensor.state, "role": role(step.role), "file": file,
                    "dtype": step.dtype.name(), "from_byte": step.from, "to_element": step.to,
                    "loops": step.loops.iter().map(|one| json!({
                        "count": one.count, "from_bytes": one.from, "to_elements": one.to,
                    })).collect::<Vec<_>>(),
                    "scale": step.scale, "shift": step.shift,
                }));
            }
        }
    }
    Ok(data)
}

fn role(role: MoveRole) -> &'static str {
    match role {
        MoveRole::Write => "copy",
        MoveRole::Equal(_) => "compare",
        MoveRole::Rounded(_) => "round",
        MoveRole::Average(..) => "average",
        MoveRole::Sum => "sum",
        MoveRole::Product(_) => "add",
        MoveRole::Synth(_) => "make",
    }
}
