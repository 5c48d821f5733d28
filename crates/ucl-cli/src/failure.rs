//! Why a command stopped.

use std::io;
use ucl_exec::ExecError;
use ucl_ir::Diagnostic;
use ucl_load::Failure;

/// Everything that stops a command.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Mistakes, all that were found.
    Failed(Failure),
    /// Nothing can be printed any more.
    Unwritable(io::Error),
}

/// Something that was asked for and cannot be had.
pub(crate) fn refuse(message: impl Into<String>, help: impl Into<String>) -> Stop {
    Stop::Failed(Failure::refused(message, help))
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Stop {
        Stop::Failed(Failure::one(diagnostic))
    }
}

impl From<ExecError> for Stop {
    fn from(error: ExecError) -> Stop {
        let diagnostic = Diagnostic::new("ucl::run", error.to_string());
        let diagnostic = match error {
            ExecError::Check(ref checks) => {
                let tied = checks.iter().any(|check| check.label.starts_with("the tied copy"));
                let tied = tied.then_some("; if the head has values of its own, the model is not tied: is the config, which says `tie_word_embeddings`, another model's?");
                diagnostic.help(format!(
                    "the checkpoint contradicts itself, so nothing was written; `ucl explain CKPT NAME` shows where the values are stored{}",
                    tied.unwrap_or_default()
                ))
            }
            _ => diagnostic,
        };
        diagnostic.into()
    }
}
