//! Colours, on a terminal only.

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Whether escape codes may be written.
    pub(crate) colour: bool,
}

impl Style {
    /// Errors.
    pub(crate) fn wrong(self, text: &str) -> String {
        self.code("31;1", text)
    }

    /// Advice.
    pub(crate) fn help(self, text: &str) -> String {
        self.code("36", text)
    }

    /// The word that a line is about.
    pub(crate) fn head(self, text: &str) -> String {
        self.code("1", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
