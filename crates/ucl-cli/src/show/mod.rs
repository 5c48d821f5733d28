//! How things look.

mod mistake;
mod number;
mod style;
mod table;
mod text;

pub(crate) use mistake::{failure, failure_json};
pub(crate) use number::{boxes, bytes, count, number, plural, rate, seconds};
pub(crate) use style::Style;
pub(crate) use table::{Facts, Table};
pub(crate) use text::{clean, dims, list, mesh, name, nearest, shape, shell_word};
