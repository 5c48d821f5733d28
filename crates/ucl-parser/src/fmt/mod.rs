//! The canonical layout of a spec.
//!
//! - Two blanks for each block; one statement in a line. A block that was written in one line stays
//!   in one line. Blank lines between statements stay, at most one.
//! - The equations of a view share one column for `:` and one for `=`, the parameters of a model one
//!   for `:` and one for `tied` and `bias`, across nested blocks. A blank line starts new columns.
//!   An equation with several names that do not fit sticks out.
//! - Lines that follow each other in a `from`, of `rename` or of `expect` are aligned likewise.
//! - Comments stay where they are; those behind the statements of a block stand in one column.
//! - A line break behind `,` or in front of `or`, `|`, `and`, `if`, `else` stays.

mod columns;
mod lines;
mod spacing;

use crate::grammar::{Rule, read};
use crate::tokens::scan;
use ucl_ir::Diagnostic;

/// The text in canonical layout. It reads as the same tree, and formatting it changes nothing.
///
/// # Errors
///
/// All mistakes of a text that is no spec: it is not touched.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let (_, found) = crate::parse(0, text);
    if !found.is_empty() {
        return Err(found);
    }
    let Some(file) = read(Rule::file, text).ok().and_then(|mut pairs| pairs.next()) else {
        return Err(vec![Diagnostic::new("ucl::unexpected", "this text cannot be read")]);
    };
    let mut lines = lines::lines(text, &scan(text), file);
    columns::align(&mut lines);
    Ok(columns::text(&lines))
}
