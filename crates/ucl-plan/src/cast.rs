//! Which weights can be cast: those whose values are what is stored.

use crate::bind::{Bound, is_weight};
use crate::target::Target;
use ucl_ir::Diagnostic;

/// Whether the weights can be given the type that is asked for.
///
/// # Errors
/// Weights of one byte: a cast would take their values without the scales that belong to them. Names
/// the first.
pub(crate) fn castable(bound: &Bound<'_>, target: &Target) -> Result<(), Vec<Diagnostic>> {
    if target.dtype.is_none() {
        return Ok(());
    }
    let mut small = bound.inventory.tensors.iter().filter(|stored| {
        is_weight(&stored.state) && stored.dtype.is_float() && stored.dtype.size_bytes() == 1
    });
    let Some(first) = small.next() else { return Ok(()) };
    let more = match small.count() {
        0 => String::new(),
        count => format!(" (the first of {} such tensors)", count + 1),
    };
    let message = format!(
        "{:?} is {}{more}: such values have scales beside them, and a cast takes no account of these",
        first.name, first.dtype
    );
    let help = "dequantise it first; without --dtype values and scales are kept as they are stored";
    Err(vec![Diagnostic::new("ucl::cast", message).help(help)])
}
