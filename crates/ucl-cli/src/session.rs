//! One run of the command: what was typed, and how to answer.

use crate::failure::Stop;
use crate::show::{self, Style};
use crate::terminal::Terminal;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::io;
use ucl_load::Failure;

/// The version of what `--json` prints.
const JSON_VERSION: u64 = 1;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done; the answer is yes.
    Yes,
    /// The answer is no.
    No,
    /// It could not be done; what could be found was printed.
    Unable,
}

/// The terminal and what was typed there.
pub(crate) struct Session<'t, 'a> {
    terminal: &'t mut Terminal<'a>,
    argv: Vec<OsString>,
    json: bool,
}

impl<'t, 'a> Session<'t, 'a> {
    pub(crate) fn new(
        terminal: &'t mut Terminal<'a>,
        argv: Vec<OsString>,
        json: bool,
    ) -> Session<'t, 'a> {
        Session { terminal, argv, json }
    }

    /// Whether one JSON document is wanted instead of text.
    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Whether a bar can be drawn.
    pub(crate) fn can_draw(&self) -> bool {
        self.terminal.bar && !self.json
    }

    /// Colours of results.
    pub(crate) fn style(&self) -> Style {
        Style { colour: self.terminal.out_colour }
    }

    /// How the program was called.
    pub(crate) fn program(&self) -> String {
        let name = self.argv.first().map_or("ucl".into(), |name| name.to_string_lossy());
        show::shell_word(&name)
    }

    /// What was typed, ready to be typed again with more.
    pub(crate) fn typed_with(&self, more: &[&str]) -> String {
        let mut words: Vec<String> =
            self.argv.iter().map(|word| show::shell_word(&word.to_string_lossy())).collect();
        // After `--` a flag would be a file.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.splice(end..end, more.iter().map(|word| show::shell_word(word)));
        words.join(" ")
    }

    /// Prints results. Without `--json` only.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        let text = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
        self.terminal.out.write_all(text.as_bytes()).map_err(Stop::Unwritable)
    }

    /// Prints a line about the run to stderr. Without `--json` only.
    pub(crate) fn remark(&mut self, text: &str) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        writeln!(self.terminal.err, "{text}").map_err(Stop::Unwritable)
    }

    /// Prints the one JSON document. With `--json` only.
    pub(crate) fn answer(&mut self, document: Value) -> Result<(), Stop> {
        if !self.json {
            return Ok(());
        }
        let mut whole = Map::new();
        whole.insert("version".to_owned(), json!(JSON_VERSION));
        match document {
            Value::Object(fields) => whole.extend(fields),
            other => {
                whole.insert("result".to_owned(), other);
            }
        }
        let text = serde_json::to_string_pretty(&Value::Object(whole)).unwrap_or_default();
        writeln!(self.terminal.out, "{text}").map_err(Stop::Unwritable)
    }

    /// Shows mistakes on stderr and goes on. Without `--json` only.
    pub(crate) fn complain(&mut self, failure: &Failure) -> Result<(), Stop> {
        if self.json {
            return Ok(());
        }
        let style = Style { colour: self.terminal.err_colour };
        let text = show::failure(failure, style, self.terminal.width);
        // In a pipe the two streams would meet in the middle of a line.
        self.terminal.out.flush().map_err(Stop::Unwritable)?;
        self.terminal.err.write_all(text.as_bytes()).map_err(Stop::Unwritable)
    }

    /// Says why the command stopped.
    pub(crate) fn failed(&mut self, failure: &Failure) -> io::Result<()> {
        let shown = if self.json {
            self.answer(json!({ "errors": show::failure_json(failure) }))
        } else {
            self.complain(failure)
        };
        match shown {
            Err(Stop::Unwritable(error)) => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.terminal.out.flush().and_then(|()| self.terminal.err.flush())
    }
}
