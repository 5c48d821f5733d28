//! `ucl specs`: what is built in.

use crate::args::SpecsArgs;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use crate::show::{self, Facts};
use serde_json::{Value, json};
use ucl_ir::{Program, View};
use ucl_load::specs;

pub(super) fn run(_: &SpecsArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let programs = specs::all(&ucl_specs::library())?;
    for program in &programs {
        let mut facts = Facts::default();
        if let [nearest, ..] = program.model.ancestors.as_slice() {
            facts.add("extends", nearest);
        }
        if !program.model.types.is_empty() {
            facts.add("types", show::name(&program.model.types.join(", ")));
        }
        facts.add_all("views", &wrapped(usable(program).map(|view| view.name.as_str())));
        facts.add_all("layouts", &wrapped(program.layouts.keys().map(String::as_str)));
        let head = session.style().head(&program.model.name);
        session.say(&format!("{head}\n{}", facts.show(session.style())))?;
    }
    let models: Vec<Value> = programs.iter().map(json).collect();
    session.answer(json!({ "models": models }))?;
    Ok(Answer::Yes)
}

/// The views that spell the whole model.
pub(super) fn usable(program: &Program) -> impl Iterator<Item = &View> {
    program.views.values().filter(|view| view.lacking.is_empty())
}

/// A model as data.
pub(super) fn json(program: &Program) -> Value {
    json!({
        "model": program.model.name,
        "extends": program.model.ancestors,
        "types": program.model.types,
        "parameters": program.model.params.iter().map(|param| &param.path).collect::<Vec<_>>(),
        "views": usable(program).map(|view| &view.name).collect::<Vec<_>>(),
        "layouts": program.layouts.keys().collect::<Vec<_>>(),
    })
}

/// Names in lines of a screen's width.
fn wrapped<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() < 80 => {
                line.push_str(", ");
                line.push_str(name);
            }
            Some(line) => {
                line.push(',');
                lines.push(name.to_owned());
            }
            None => lines.push(name.to_owned()),
        }
    }
    lines
}
