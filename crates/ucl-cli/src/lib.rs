//! Floor 4: the `ucl` command, the only part that prints, exits or reads the environment.
//!
//! | module | what |
//! | --- | --- |
//! | `args` | what was typed |
//! | `source`, `target`, `spec` | what it means: checkpoints, targets, specs |
//! | `derive` | specs from checkpoints that describe themselves |
//! | `command` | one file per command |
//! | `show` | how things look: sizes, names, tables, mistakes with their lines |
//! | `progress` | how far a run is |
//! | `failure` | why a command stopped |
//!
//! Everything is printed through the two streams of a [`Terminal`], so a test calls [`run`] and reads
//! what a person would have read.

#![forbid(unsafe_code)]

mod args;
mod beside;
mod checked;
mod command;
mod failure;
mod foreign;
mod overview;
mod progress;
mod session;
mod show;
mod source;
mod target;
mod terminal;

pub use terminal::Terminal;

use args::Typed;
use clap::{ColorChoice, CommandFactory, FromArgMatches};
use failure::Stop;
use session::{Answer, Session};
use std::ffi::OsString;
use std::io::Write;

/// Runs the command without a terminal: no colours, no bars. Gives the exit code.
///
/// The first argument is the program's own name.
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> i32 {
    run_on(argv, &mut Terminal::plain(out, err))
}

/// Runs the command. Gives the exit code: 0 done, 1 the answer is no, 2 it could not be done.
pub fn run_on(argv: impl IntoIterator<Item = OsString>, terminal: &mut Terminal<'_>) -> i32 {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let typed = match parse(&argv, terminal) {
        Ok(typed) => typed,
        Err(error) => return usage(&error, terminal),
    };
    let mut session = Session::new(terminal, argv, typed.json);
    let result = command::run(&typed.command, &mut session);
    let code = match result {
        Ok(Answer::Yes) => 0,
        Ok(Answer::No) => 1,
        Ok(Answer::Unable) => 2,
        Err(Stop::Failed(failure)) => match session.failed(&failure) {
            Ok(()) => 2,
            Err(error) => unwritable(&error),
        },
        Err(Stop::Unwritable(error)) => unwritable(&error),
    };
    match session.flush() {
        Ok(()) => code,
        Err(error) => code.max(unwritable(&error)),
    }
}

fn parse(argv: &[OsString], terminal: &Terminal<'_>) -> Result<Typed, clap::Error> {
    let color = if terminal.out_colour { ColorChoice::Always } else { ColorChoice::Never };
    let mut command = Typed::command().color(color);
    if !terminal.bar {
        command = command.term_width(terminal.width);
    }
    let matches = command.try_get_matches_from_mut(argv)?;
    Typed::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Prints help to stdout, and what is wrong with the arguments to stderr.
fn usage(error: &clap::Error, terminal: &mut Terminal<'_>) -> i32 {
    let text = error.render();
    let to_err = error.use_stderr();
    let colour = if to_err { terminal.err_colour } else { terminal.out_colour };
    let text = if colour { text.ansi().to_string() } else { text.to_string() };
    let stream = if to_err { &mut *terminal.err } else { &mut *terminal.out };
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Ok(()) if to_err => 2,
        Ok(()) => 0,
        Err(error) => unwritable(&error),
    }
}

/// A reader that has seen enough (`ucl plan … | head`) is no failure.
fn unwritable(error: &std::io::Error) -> i32 {
    if error.kind() == std::io::ErrorKind::BrokenPipe { 0 } else { 2 }
}
