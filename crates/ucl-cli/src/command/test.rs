//! `ucl test`: round trips, expected numbers, and lines that nothing pins.

use crate::args::TestArgs;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::show::{self, Table};
use rayon::prelude::*;
use serde_json::{Value, json};
use ucl_ir::{Diagnostic, Program};
use ucl_load::Failure;
use ucl_load::specs;
use ucl_plan::{Trial, Verdict, trials, unpinned};

pub(super) fn run(args: &TestArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let library = specs::library(&args.specs)?;
    let mistakes = library.diagnostics();
    if !mistakes.is_empty() {
        let failure = Failure::in_specs(mistakes, library.sources().to_vec());
        session.complain(&failure)?;
        session.answer(json!({ "passed": false, "errors": show::failure_json(&failure) }))?;
        return Ok(Answer::No);
    }
    let names: Vec<String> = args.specs.iter().map(|file| specs::shown(file)).collect();
    let own = |program: &Program| program.sources.first().is_some_and(|s| names.contains(&s.name));
    let mut totals = Totals::default();
    let mut models = Vec::new();
    for program in specs::all(&library)?.into_iter().filter(own) {
        models.push(model(&program, session, &mut totals)?);
    }
    session.say(&format!("\n{}", totals.line()))?;
    session.answer(json!({ "passed": totals.failed == 0, "models": models }))?;
    Ok(if totals.failed == 0 { Answer::Yes } else { Answer::No })
}

/// How many of each.
#[derive(Clone, Copy, Default)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
    unpinned: u64,
}

impl Totals {
    /// The last line.
    fn line(self) -> String {
        let Totals { passed, failed, skipped, unpinned } = self;
        let result = if failed == 0 { "ok" } else { "FAILED" };
        format!(
            "{result}: {passed} passed, {failed} failed, {skipped} skipped; {} not pinned",
            show::count(unpinned, "line")
        )
    }
}

/// Runs the tests of one model.
fn model(
    program: &Program,
    session: &mut Session<'_, '_>,
    totals: &mut Totals,
) -> Result<Value, Stop> {
    let trials = trials(program);
    let verdicts: Vec<Verdict> = trials.par_iter().map(Trial::run).collect();
    let open = unpinned(program);
    session.say(&session.style().head(&show::name(&program.model.name)))?;
    if trials.is_empty() {
        session.say("  it has no `test` block")?;
    }
    let mut table = Table::default();
    let mut wrong: Vec<Diagnostic> = Vec::new();
    for (trial, verdict) in trials.iter().zip(&verdicts) {
        let (word, what) = match verdict {
            Verdict::Passed(what) => {
                totals.passed += 1;
                ("ok", what.clone())
            }
            Verdict::Failed(found) => {
                totals.failed += 1;
                wrong.extend(
                    found.iter().filter(|one| !wrong.contains(one)).cloned().collect::<Vec<_>>(),
                );
                ("FAILED", String::new())
            }
            Verdict::Skipped(why) => {
                totals.skipped += 1;
                ("skipped", why.clone())
            }
        };
        table.row([format!("  {word}"), show::name(&trial.to_string()), show::name(&what)]);
    }
    totals.unpinned += open.len() as u64;
    session.say(&table.lines(&[]).join("\n"))?;
    let sources = &program.sources;
    if !wrong.is_empty() {
        session.complain(&Failure::in_specs(wrong.clone(), sources.clone()))?;
    }
    for one in &open {
        let place = one.labels.first().and_then(|label| program.place(label.span));
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        session.say(&format!("  not pinned  {place}{}", show::name(&one.message)))?;
    }
    let shown = |found: &[Diagnostic]| {
        show::failure_json(&Failure::in_specs(found.to_vec(), sources.clone()))
    };
    let tried = trials.iter().zip(&verdicts).map(|(trial, verdict)| {
        let (result, more) = match verdict {
            Verdict::Passed(what) => ("passed", json!(what)),
            Verdict::Failed(found) => ("failed", shown(found)),
            Verdict::Skipped(why) => ("skipped", json!(why)),
        };
        json!({ "trial": trial.to_string(), "result": result, "details": more })
    });
    Ok(json!({
        "model": program.model.name,
        "trials": tried.collect::<Vec<_>>(),
        "not_pinned": shown(&open),
    }))
}
