//! `ucl fmt`: specs as they should look.

use crate::args::FmtArgs;
use crate::failure::Stop;
use crate::session::{Answer, Session};
use serde_json::{Value, json};
use ucl_formats::Problem;
use ucl_ir::Source;
use ucl_load::specs;
use ucl_load::{Failure, of_problem};

pub(super) fn run(args: &FmtArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let mut wrong = Failure::default();
    let mut formatted = Vec::new();
    for file in &args.specs {
        let text = specs::read(file)?;
        match ucl_parser::format(&text) {
            Ok(pretty) => formatted.push((file, pretty != text, pretty)),
            Err(mut mistakes) => {
                let number = u32::try_from(wrong.sources.len()).unwrap_or(u32::MAX);
                wrong.sources.push(Source { name: specs::shown(file), text });
                mistakes
                    .iter_mut()
                    .flat_map(|mistake| &mut mistake.labels)
                    .for_each(|label| label.span.source = number);
                wrong.diagnostics.extend(mistakes);
            }
        }
    }
    if !wrong.diagnostics.is_empty() {
        return Err(wrong.into());
    }
    let mut changed = 0;
    for (file, differs, pretty) in &formatted {
        if !differs {
            continue;
        }
        changed += 1;
        if args.check {
            session.say(&format!("{} is not formatted", specs::shown(file)))?;
        } else {
            std::fs::write(file, pretty).map_err(|error| -> Stop {
                of_problem(&Problem::new(*file, format!("it can't be written: {error}."))).into()
            })?;
            session.say(&format!("{} is formatted", specs::shown(file)))?;
        }
    }
    let files: Vec<Value> = formatted
        .iter()
        .map(|(file, differs, _)| json!({ "file": file, "was_formatted": !differs }))
        .collect();
    session.answer(json!({ "files": files }))?;
    Ok(if args.check && changed > 0 { Answer::No } else { Answer::Yes })
}
