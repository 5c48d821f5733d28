//! One file per command: takes what was typed, says what was found.

mod check;
mod compile;
mod convert;
mod derive;
mod diff;
mod explain;
mod fmt;
mod inspect;
mod plan;
mod specs;
mod synth;
mod test;
mod verify;

use crate::args::Command;
use crate::failure::Stop;
use crate::session::{Answer, Session};

/// Runs a command.
pub(crate) fn run(command: &Command, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    match command {
        Command::Inspect(args) => inspect::run(args, session),
        Command::Convert(args) => convert::run(args, session),
        Command::Plan(args) => plan::run(args, session),
        Command::Explain(args) => explain::run(args, session),
        Command::Derive(args) => derive::run(args, session),
        Command::Diff(args) => diff::run(args, session),
        Command::Verify(args) => verify::run(args, session),
        Command::Check(args) => check::run(args, session),
        Command::Fmt(args) => fmt::run(args, session),
        Command::Compile(args) => compile::run(args, session),
        Command::Specs(args) => specs::run(args, session),
        Command::Test(args) => test::run(args, session),
        Command::Synth(args) => synth::run(args, session),
    }
}
