//! Renumbers the sources that spans point into.

use ucl_ir::{Diagnostic, Program, Span};

/// Sends every span of a program through `to`.
pub(crate) fn map(program: &mut Program, to: impl Fn(&mut Span)) {
    to(&mut program.model.span);
    program.model.dims.iter_mut().for_each(|dim| to(&mut dim.span));
    program.model.sets.iter_mut().for_each(|set| to(&mut set.span));
    program.model.params.iter_mut().for_each(|param| to(&mut param.span));
    program.model.bindings.iter_mut().for_each(|binding| to(&mut binding.span));
    for view in program.views.values_mut() {
        to(&mut view.span);
        view.rules.iter_mut().for_each(|rule| to(&mut rule.span));
        view.ignores.iter_mut().for_each(|ignore| to(&mut ignore.span));
        view.values.iter_mut().for_each(|value| to(&mut value.span));
        view.bindings.iter_mut().for_each(|binding| to(&mut binding.span));
    }
    for layout in program.layouts.values_mut() {
        to(&mut layout.span);
        layout.shards.iter_mut().for_each(|shard| to(&mut shard.span));
        layout.pads.iter_mut().for_each(|pad| to(&mut pad.span));
        layout.merges.iter_mut().for_each(|merge| to(&mut merge.span));
        layout.keeps.iter_mut().for_each(|keep| to(&mut keep.span));
        layout.requires.iter_mut().for_each(|(_, span)| to(span));
    }
    for test in &mut program.tests {
        to(&mut test.span);
        test.expects.iter_mut().for_each(|expect| to(&mut expect.span));
    }
}

/// Sends every span of a diagnostic through `to`.
pub(crate) fn map_diagnostic(diagnostic: &mut Diagnostic, to: impl Fn(&mut Span)) {
    diagnostic.labels.iter_mut().for_each(|label| to(&mut label.span));
}
