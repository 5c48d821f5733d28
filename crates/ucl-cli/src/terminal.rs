//! Where text goes and what may be done there.

use std::io::{IsTerminal, Write};

/// The two streams of the command.
pub struct Terminal<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// What went wrong, and how far a run is.
    pub err: &'a mut dyn Write,
    /// Whether results may have colours.
    pub out_colour: bool,
    /// Whether errors may have colours.
    pub err_colour: bool,
    /// Whether the process's own stderr is a terminal on which a bar can be drawn.
    pub bar: bool,
    /// Columns for the lines of specs; help is as wide as the terminal.
    pub width: usize,
}

/// Columns of what is shown.
const WIDTH: usize = 100;

impl<'a> Terminal<'a> {
    /// Two streams that are no terminals.
    pub fn plain(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Terminal<'a> {
        Terminal { out, err, out_colour: false, err_colour: false, bar: false, width: WIDTH }
    }

    /// The process's own streams. Colours only on a terminal, and not with `NO_COLOR`.
    pub fn of_process(out: &'a mut std::io::Stdout, err: &'a mut std::io::Stderr) -> Terminal<'a> {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = !set("NO_COLOR") && !dumb;
        let (out_terminal, err_terminal) = (out.is_terminal(), err.is_terminal());
        Terminal {
            out_colour: colours && out_terminal,
            err_colour: colours && err_terminal,
            bar: err_terminal && !dumb,
            width: WIDTH,
            out,
            err,
        }
    }
}
