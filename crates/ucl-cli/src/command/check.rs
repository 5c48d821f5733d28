//! `ucl check`: every mistake of every spec.

use crate::args::CheckArgs;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::show::{self, Table};
use serde_json::{Value, json};
use ucl_ir::Program;
use ucl_load::Failure;
use ucl_load::specs;

pub(super) fn run(args: &CheckArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let library = specs::library(&args.specs)?;
    let mistakes = library.diagnostics();
    if !mistakes.is_empty() {
        let failure = Failure::in_specs(mistakes, library.sources().to_vec());
        session.complain(&failure)?;
        let count = failure.diagnostics.len() as u64;
        session.remark(&format!("\n{} found", show::count(count, "mistake")))?;
        session.answer(json!({ "correct": false, "errors": show::failure_json(&failure) }))?;
        return Ok(Answer::No);
    }
    let names: Vec<String> = args.specs.iter().map(|file| specs::shown(file)).collect();
    let own = |program: &Program| program.sources.first().is_some_and(|s| names.contains(&s.name));
    let programs: Vec<Program> = specs::all(&library)?.into_iter().filter(own).collect();
    let mut table = Table::default();
    for program in &programs {
        let views = super::specs::usable(program).count();
        table.row([
            program.sources.first().map_or_else(String::new, |source| show::name(&source.name)),
            program.model.name.clone(),
            show::count(program.model.params.len() as u64, "parameter"),
            show::count(views as u64, "view"),
            show::count(program.layouts.len() as u64, "layout"),
            "correct".to_owned(),
        ]);
    }
    session.say(&table.lines(&[2, 3, 4]).join("\n"))?;
    let models: Vec<Value> = programs.iter().map(super::specs::json).collect();
    session.answer(json!({ "correct": true, "models": models }))?;
    Ok(Answer::Yes)
}
