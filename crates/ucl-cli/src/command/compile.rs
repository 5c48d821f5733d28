//! `ucl compile`: a spec with everything it inherits.

use crate::args::CompileArgs;
use crate::failure::{Stop, refuse};
use crate::session::{Answer, Session};
use crate::show;
use serde_json::json;
use std::path::{Path, PathBuf};
use ucl_ir::Program;
use ucl_load::specs;

pub(super) fn run(args: &CompileArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let mut programs = programs(&args.spec)?;
    if let Some(view) = &args.view {
        programs.iter_mut().try_for_each(|program| keep(program, view))?;
    }
    let texts: Vec<String> = programs.iter().map(|program| specs::flat(program, true)).collect();
    session.say(&texts.join("\n"))?;
    session.answer(json!({ "programs": programs }))?;
    Ok(Answer::Yes)
}

/// A file's programs, or the built-in one of that name.
pub(super) fn programs(spec: &str) -> Result<Vec<Program>, Stop> {
    if Path::new(spec).is_file() || spec.ends_with(".ucl") {
        return Ok(specs::of_files(&[PathBuf::from(spec)])?);
    }
    let library = ucl_specs::library();
    Ok(vec![specs::compile(&library, spec)?])
}

/// Leaves one view, and the layouts that serve it.
fn keep(program: &mut Program, view: &str) -> Result<(), Stop> {
    if !program.views.contains_key(view) {
        let known = show::list(program.views.keys().map(String::as_str), 20);
        return Err(refuse(
            format!("`{}` has no view `{}`", program.model.name, show::name(view)),
            format!("its views: {known}"),
        ));
    }
    program.views.retain(|name, _| name == view);
    let layouts: Vec<String> = program.views.values().flat_map(|v| v.layouts.clone()).collect();
    program.layouts.retain(|name, _| layouts.contains(name));
    program.tests.clear();
    Ok(())
}
