//! What is wrong, said once for every way of showing it.

use crate::Span;

/// One mistake: what it is, where, and what to do.
///
/// Plain data; the command renders it with the sources of the specs. All mistakes of a run are
/// collected and shown together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// A stable name for this kind of mistake, `ucl::balance`.
    pub code: &'static str,
    /// What is wrong, with the names, the sizes and what was expected.
    pub message: String,
    /// The places in specs that show it, the main one first; may be empty.
    pub labels: Vec<Label>,
    /// What to do, or what was meant.
    pub help: Option<String>,
}

/// A place in a spec and what is to be seen there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is to be seen, a few words.
    pub text: String,
}

impl Diagnostic {
    /// A mistake without a place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), labels: Vec::new(), help: None }
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help = Some(text.into());
        self
    }
}
