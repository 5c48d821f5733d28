//! The text of a spec.

use crate::ast::File;
use crate::build;
use crate::grammar::{Rule, read};
use crate::recover::draft::Draft;
use crate::recover::{mend_brackets, mend_characters, mend_header, mend_quotes, mend_statements};
use crate::tokens::words;
use ucl_ir::Diagnostic;

/// Reads a spec: its tree, and every mistake in its text, in the order of the text.
///
/// `source` is put into every span. The tree is as complete as the mistakes let it be; without any
/// it is the whole spec.
pub fn parse(source: u32, text: &str) -> (File, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let mut draft = Draft::new(source, text);
    let mut file = build::empty(draft.span(0, 0));
    if mend(&mut draft, &mut found) {
        let tokens = words(draft.text());
        if let Some(pair) = read(Rule::file, draft.text()).ok().and_then(|mut pairs| pairs.next()) {
            file = build::file(&draft, &tokens, pair, &mut found);
        }
        // A model that could not be read was reported already.
        if file.model.is_none() && !words(text).iter().any(|word| word.is(text, "model")) {
            found.push(build::no_model(&file, draft.span(0, 0)));
        }
    }
    found.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span.start));
    (file, found)
}

/// Reports what is wrong with a text and mends it; false if it cannot be read on.
fn mend(draft: &mut Draft, found: &mut Vec<Diagnostic>) -> bool {
    if !mend_header(draft, found) {
        return false;
    }
    mend_characters(draft, found);
    if !(mend_quotes(draft, found) && mend_brackets(draft, found)) {
        return false;
    }
    mend_statements(draft, found);
    true
}
