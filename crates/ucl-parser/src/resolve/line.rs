//! The lines of an equation: one, or one for the weights and one for the biases.

use super::dims::names_of;
use super::items::{self, Equation};
use super::lower;
use super::view::{Resolver, State, index_of};
use crate::ast;
use ucl_ir::{Atoms, Diagnostic, Factor, Segment, Shape, Span, Spelling};

/// An equation while renames may still meet it.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) spellings: Vec<Spelling>,
    pub(super) shape: Shape,
    pub(super) declared: Option<Shape>,
    pub(super) terms: Vec<String>,
    /// The dims that renames moved to the front of the shape.
    pub(super) moved: Vec<String>,
    pub(super) span: Span,
}

/// Whether a line has a name that starts with this text.
pub(super) fn starts_with(line: &Line, base: &str) -> bool {
    line.spellings.iter().any(|spelling| match spelling.template.segments.first() {
        Some(Segment::Text(text)) => text.starts_with(base),
        _ => false,
    })
}

impl Resolver<'_, '_> {
    /// The one or two lines of an equation, if the model has their parameters.
    pub(super) fn lines(
        &mut self,
        equation: &Equation<'_>,
        view: &ast::View,
        own: bool,
        state: &State,
    ) -> Vec<Line> {
        if own {
            self.known_factors(&names_of(&equation.shape), state);
            self.known_factors(&names_of(equation.declared.iter().flatten()), state);
            let indices = equation.names.iter().flat_map(|name| name.parts.iter().copied());
            self.known_dims(indices.filter_map(index_of), &view.name.value);
            let mut missing = false;
            for term in equation.terms {
                if self.model.param(&term.value).is_none() {
                    missing = true;
                    let known = self.model.params.iter().map(|param| param.path.as_str());
                    let owner = format!("the model `{}`", self.model.name);
                    self.report.unknown(&owner, "parameter", term, known);
                }
            }
            if missing {
                return Vec::new();
            }
        }
        let terms: Vec<String> = equation.terms.iter().map(|term| term.value.clone()).collect();
        let pair = equation.names.iter().any(items::Name::is_pair);
        let weight = Line {
            spellings: spellings(equation, "weight"),
            shape: lower::factors(&equation.shape),
            declared: equation.declared.as_deref().map(lower::factors),
            terms,
            moved: Vec::new(),
            span: equation.span,
        };
        let bias = pair.then(|| self.bias(equation, &weight, own, state)).flatten();
        let all = |line: &Line| line.terms.iter().all(|term| self.model.param(term).is_some());
        [Some(weight), bias].into_iter().flatten().filter(all).collect()
    }

    /// The line of the biases, whose shape lacks the stored dims that hold none of their dims.
    fn bias(
        &mut self,
        equation: &Equation<'_>,
        weight: &Line,
        own: bool,
        state: &State,
    ) -> Option<Line> {
        let terms: Vec<String> = weight.terms.iter().map(|term| format!("{term}.bias")).collect();
        let params: Vec<_> = terms.iter().filter_map(|term| self.model.param(term)).collect();
        if params.len() < terms.len() {
            if let (true, Some(there)) = (own, params.first()) {
                let without = terms.iter().find(|term| self.model.param(term).is_none())?;
                self.report.say(
                    Diagnostic::new(
                        "ucl::bias",
                        format!("`{}` is in the model and `{without}` is not, but both would be in one tensor", there.path),
                    )
                    .at(equation.span, "`{weight,bias}` fuses the biases too")
                    .help(format!(
                        "write `weight` for `{{weight,bias}}` and a line of its own for `{}`, or give the model `{without}`",
                        there.path
                    )),
                );
            }
            return None;
        }
        let model_composites = self.model.composites();
        let dims: Vec<String> = params
            .iter()
            .flat_map(|p| Atoms::new(&model_composites).flatten(p.each.iter().chain(&p.dims)))
            .collect();
        let atoms = Atoms::new(&state.composites);
        let holds = |factor: &&Factor| atoms.of(factor).iter().any(|atom| dims.contains(atom));
        let kept = |shape: &Shape| shape.iter().filter(holds).cloned().collect::<Shape>();
        Some(Line {
            spellings: spellings(equation, "bias"),
            shape: kept(&weight.shape),
            declared: weight.declared.as_ref().map(kept),
            terms,
            moved: Vec::new(),
            span: weight.span,
        })
    }
}

fn spellings(equation: &Equation<'_>, last: &str) -> Vec<Spelling> {
    let spellings = equation.names.iter().map(|name| Spelling {
        template: lower::template(name.parts.iter().map(|part| &part.value), last),
        when_tied: name.when_tied,
    });
    spellings.collect()
}
