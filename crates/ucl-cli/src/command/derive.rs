//! `ucl derive`: the spec of a checkpoint that describes itself.

use crate::args::DeriveArgs;
use crate::failure::{Stop, refuse};
use crate::session::{Answer, Session};
use serde_json::json;
use ucl_formats::survey;
use ucl_load::Failure;
use ucl_load::derive;

pub(super) fn run(args: &DeriveArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let mut survey = survey(&args.checkpoint);
    if !survey.problems.is_empty() {
        return Err(Failure::from(survey.problems.as_slice()).into());
    }
    let Some(info) = derive::describes_itself(&survey.inventory) else {
        return Err(refuse(
            format!(
                "{} does not describe itself: it has no `universal_checkpoint_info`",
                args.checkpoint.display()
            ),
            "DeepSpeed's AutoTP and Megatron-DeepSpeed write one; `ucl inspect` shows which spec fits other checkpoints",
        ));
    };
    let info = info.clone();
    let laid = derive::lay(&mut survey.inventory);
    let mut derived = derive::derive(&survey.inventory, &info)
        .map_err(|wrong| Failure::in_specs(wrong, Vec::new()))?;
    derived.notes.extend(laid);
    session.say(&derived.text)?;
    for note in &derived.notes {
        session.remark(&format!("note: {}", crate::show::name(note)))?;
    }
    session.answer(json!({ "spec": derived.text, "notes": derived.notes }))?;
    Ok(Answer::Yes)
}
