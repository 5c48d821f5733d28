//! Why a checkpoint cannot be loaded: mistakes, with the texts that they point into.

use std::fmt;
use ucl_formats::Problem;
use ucl_ir::{Diagnostic, Source};

/// Mistakes and the texts that their places are in.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// All of them.
    pub diagnostics: Vec<Diagnostic>,
    /// What their spans index.
    pub sources: Vec<Source>,
}

impl Failure {
    /// Mistakes in specs.
    pub fn in_specs(diagnostics: Vec<Diagnostic>, sources: Vec<Source>) -> Failure {
        Failure { diagnostics, sources }
    }

    /// One mistake without a place.
    pub fn one(diagnostic: Diagnostic) -> Failure {
        Failure { diagnostics: vec![diagnostic], sources: Vec::new() }
    }

    /// Something that was asked for and cannot be had.
    pub fn refused(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::one(Diagnostic::new("ucl::usage", message).help(help))
    }
}

/// A problem with a checkpoint, as one of the mistakes.
pub fn of_problem(problem: &Problem) -> Diagnostic {
    let diagnostic = Diagnostic::new("ucl::checkpoint", problem.to_string());
    problem.help.iter().fold(diagnostic, |diagnostic, help| diagnostic.help(help))
}

impl From<&[Problem]> for Failure {
    fn from(problems: &[Problem]) -> Failure {
        Failure { diagnostics: problems.iter().map(of_problem).collect(), sources: Vec::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, diagnostic) in self.diagnostics.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            write!(out, "{}", diagnostic.message)?;
            if let Some(help) = &diagnostic.help {
                write!(out, "\n  help: {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
