//! `ucl convert`: survey, bind, plan, run, and say what was done.

use crate::args::ConvertArgs;
use crate::beside::Beside;
use crate::checked::Checked;
use crate::failure::Stop;
use crate::progress::{Count, watched};
use crate::session::{Answer, Session};
use crate::show::{self, Facts};
use crate::source::Opened;
use crate::target;
use serde::Serialize;
use serde_json::json;
use std::path::Path;
use ucl_exec::Outcome;
use ucl_formats::Format;
use ucl_formats::huggingface::STATES;
use ucl_formats::universal::MANIFEST;
use ucl_load::of_problem;
use ucl_load::specs;
use ucl_plan::{Plan, Report, Work};

pub(super) fn run(args: &ConvertArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let options = target::options(&args.run, args.overwrite);
    let apart = ucl_formats::apart(&args.checkpoint, &args.destination);
    apart.map_err(|problem| of_problem(&problem))?;
    if let Some(folder) = &args.source.config {
        let spared = ucl_formats::spared(folder, &args.destination);
        spared.map_err(|problem| of_problem(&problem))?;
    }
    if let Some(folder) = args.lora.folder() {
        let spared = ucl_formats::spared(folder, &args.destination);
        spared.map_err(|problem| of_problem(&problem))?;
    }
    let opened = Opened::new(&args.checkpoint, &args.source)?.merging(&args.lora)?;
    let target = target::target(&args.target, opened.inventory())?;
    opened.sound(target.states)?;
    let plan = opened.plan(target, session)?;
    let beside = Beside::of(&plan, args.source.config.as_deref())?;
    let mut report = plan.report();
    beside.report(&mut report);
    session.say(&opened.recognised(&plan.bound))?;

    let spec = plan.bound.spec.map(|(program, _)| specs::flat(program, false));
    let total = plan.files().iter().map(|file| file.len).sum();
    let outcome = watched(session, (Count::Written, total), |meter| {
        ucl_exec::run(&plan, &args.destination, &options, meter, &|outcome| {
            let mut files = beside.files()?;
            if let Some(states) = plan.optimizer_states(&outcome.digests) {
                files.push((STATES.to_owned(), json_text(&states)?));
            }
            if plan.target.format != Format::Universal {
                return Ok(files);
            }
            let names = files.iter().map(|(name, _)| name.clone()).collect();
            let manifest = plan.manifest(&outcome.digests, spec.clone(), names);
            files.push((MANIFEST.to_owned(), json_text(&manifest)?));
            Ok(files)
        })
    })??;

    let checked = Checked::of(&plan, &outcome);
    session.say(&text(&args.destination, &plan, &report, (&outcome, &checked), session))?;
    session.answer(json!({
        "source": opened.json(Some(&plan.bound)),
        "destination": args.destination,
        "report": report,
        "beside": beside.names(),
        "bytes_read": outcome.bytes_read,
        "bytes_written": outcome.bytes_written,
        "seconds": outcome.seconds,
        "checked": checked.agree,
        "differences": checked.differ_json(),
        "not_finite": checked.not_finite_json(),
    }))?;
    Ok(Answer::Yes)
}

fn json_text(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text.into_bytes())
}

/// What was written, read, checked, dropped.
fn text(
    destination: &Path,
    plan: &Plan<'_>,
    report: &Report,
    (outcome, checked): (&Outcome, &Checked),
    session: &Session<'_, '_>,
) -> String {
    let mut facts = Facts::default();
    let path = show::name(&destination.display().to_string());
    facts.add("wrote", path.clone());
    facts.add_all("", &super::plan::states(&report.states));
    let files = plan.files().len() as u64;
    facts.add(
        "",
        format!("{} in {}", show::bytes(outcome.bytes_written), show::count(files, "file")),
    );
    facts.add(
        "took",
        format!(
            "{}: read {}, wrote {} ({})",
            show::seconds(outcome.seconds),
            show::bytes(outcome.bytes_read),
            show::bytes(outcome.bytes_written),
            show::rate(outcome.bytes_written, outcome.seconds),
        ),
    );
    let sentences =
        |lines: &[String]| lines.iter().map(|line| show::name(line)).collect::<Vec<_>>();
    facts.add_all("checked", &checked.agree);
    facts.add_all("differs", &checked.differ_lines());
    facts.add_all("infinite", &checked.not_finite_lines());
    facts.add_all("merged", &super::plan::merged(&report.merged));
    facts.add_all("dropped", &sentences(&report.lossy));
    facts.add_all("notes", &sentences(&report.notes));
    let next = match plan.target.format {
        Format::Universal => Some("verify"),
        // It is for its engine alone.
        Format::FastGen => None,
        _ => Some("inspect"),
    };
    if let Some(next) = next {
        facts.add("next", format!("{} {next} {}", session.program(), show::shell_word(&path)));
    }
    facts.show(session.style())
}
