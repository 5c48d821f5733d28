//! The statements of a view, sorted by kind, with every `under` spelled out.

use super::report::Report;
use crate::ast::{self, Factor, Part, Spanned, ViewItem};
use ucl_ir::{Diagnostic, Span};

/// What a view says.
#[derive(Default)]
pub(super) struct Items<'a> {
    pub(super) equations: Vec<Equation<'a>>,
    pub(super) ignores: Vec<Name<'a>>,
    pub(super) renames: Vec<&'a ast::Rename>,
    pub(super) bases: Vec<&'a Spanned<String>>,
    pub(super) dims: Vec<&'a ast::DimDecl>,
    pub(super) values: Vec<&'a ast::Value>,
    pub(super) froms: Vec<&'a ast::From>,
    pub(super) classes: Vec<&'a ast::Class>,
}

/// A whole name, prefixes included.
#[derive(Clone)]
pub(super) struct Name<'a> {
    pub(super) parts: Vec<&'a Spanned<Part>>,
    pub(super) when_tied: bool,
    pub(super) span: Span,
}

/// An equation with whole names and shapes.
pub(super) struct Equation<'a> {
    pub(super) names: Vec<Name<'a>>,
    pub(super) shape: Vec<Factor>,
    pub(super) declared: Option<Vec<Factor>>,
    pub(super) terms: &'a [ast::Name],
    pub(super) span: Span,
}

/// What stands around an item.
#[derive(Clone)]
struct Around<'a> {
    prefixes: Vec<Vec<&'a Spanned<Part>>>,
    shape: Vec<Factor>,
}

pub(super) fn collect<'a>(view: &'a ast::View, own: bool, report: &mut Report) -> Items<'a> {
    let mut collector = Collector { items: Items::default(), own, report };
    let around = Around { prefixes: vec![Vec::new()], shape: Vec::new() };
    collector.all(view.items.as_deref().unwrap_or_default(), &around, false);
    collector.items
}

struct Collector<'a, 'r> {
    items: Items<'a>,
    own: bool,
    report: &'r mut Report,
}

impl<'a> Collector<'a, '_> {
    fn all(&mut self, items: &'a [ViewItem], around: &Around<'a>, inside: bool) {
        for item in items {
            match item {
                ViewItem::Equation(equation) => self.equation(equation, around),
                ViewItem::Under(under) => self.under(under, around),
                ViewItem::Ignore(template) => {
                    let mut names = names(around, template, false);
                    names.retain(|name| self.fits(name, true));
                    self.items.ignores.extend(names);
                }
                ViewItem::Rename(rename) => {
                    self.outside("rename", rename.span, inside);
                    self.items.renames.push(rename);
                }
                ViewItem::Base(base) => {
                    self.outside("base", base.span, inside);
                    self.items.bases.push(base);
                }
                ViewItem::Dims(dims) => self.items.dims.extend(dims),
                ViewItem::Value(value) => self.items.values.push(value),
                ViewItem::From(from) => self.items.froms.push(from),
                ViewItem::Class(class) => self.items.classes.push(class),
            }
        }
    }

    fn under(&mut self, under: &'a ast::Under, around: &Around<'a>) {
        let mut shape = around.shape.clone();
        shape.extend(under.shape.factors.iter().cloned());
        let prefixes = around.prefixes.iter().flat_map(|outer| {
            let longer = |inner: &'a ast::Template| {
                outer.iter().copied().chain(&inner.parts).collect::<Vec<_>>()
            };
            under.prefixes.iter().map(longer)
        });
        self.all(&under.items, &Around { prefixes: prefixes.collect(), shape }, true);
    }

    fn equation(&mut self, equation: &'a ast::Equation, around: &Around<'a>) {
        // The prefixes outside: the first spelling is then the one with all first prefixes.
        let names: Vec<Name<'a>> = around
            .prefixes
            .iter()
            .flat_map(|prefix| {
                let one = Around { prefixes: vec![prefix.clone()], shape: Vec::new() };
                equation
                    .spellings
                    .iter()
                    .flat_map(move |s| names(&one, &s.template, s.when_tied))
                    .collect::<Vec<_>>()
            })
            .filter(|name| self.fits(name, false))
            .collect();
        if names.is_empty() {
            return;
        }
        let both = names.iter().filter(|name| name.is_pair()).count();
        if both > 0 && both < names.len() && self.own {
            self.report.say(
                Diagnostic::new(
                    "ucl::template",
                    "`{weight,bias}` stands in some spellings of this line and not in others",
                )
                .at(equation.span, "all or none")
                .help("write `{weight,bias}` in every spelling, or two lines"),
            );
            return;
        }
        let whole = |shape: &ast::Shape| [around.shape.as_slice(), &shape.factors].concat();
        self.items.equations.push(Equation {
            names,
            shape: whole(&equation.shape),
            declared: equation.declared.as_ref().map(whole),
            terms: &equation.terms,
            span: equation.span,
        });
    }

    /// Whether names can be read back: no two numbers side by side, `*` and pairs where they belong.
    fn fits(&mut self, name: &Name<'_>, is_ignore: bool) -> bool {
        let wrong = |text: &str, help: &str, span: Span| {
            Diagnostic::new("ucl::template", text.to_owned()).at(span, "here").help(help.to_owned())
        };
        let hole = |part: &Part| matches!(part, Part::Index(..) | Part::Count(..) | Part::Any);
        let mut last: Option<&Spanned<Part>> = None;
        let mut found = None;
        for part in &name.parts {
            if last.is_some_and(|last| hole(&last.value)) && hole(&part.value) {
                found = Some(wrong(
                    "two numbers side by side in a name cannot be told apart",
                    "put text between them",
                    part.span,
                ));
            }
            match part.value {
                Part::Any if !is_ignore => {
                    found = Some(wrong(
                        "`*` stands in the name of an equation",
                        "`*` is for `ignore` alone; write the name out",
                        part.span,
                    ));
                }
                Part::WeightBias if is_ignore => {
                    found = Some(wrong(
                        "`{weight,bias}` stands in an `ignore`",
                        "write two lines, or `*`",
                        part.span,
                    ));
                }
                _ => {}
            }
            last = Some(*part);
        }
        if name.parts.iter().filter(|part| part.value == Part::WeightBias).count() > 1 {
            found =
                Some(wrong("`{weight,bias}` stands twice in one name", "write it once", name.span));
        }
        let fits = found.is_none();
        if self.own {
            found.into_iter().for_each(|diagnostic| self.report.say(diagnostic));
        }
        fits
    }

    fn outside(&mut self, what: &str, span: Span, inside: bool) {
        if inside && self.own {
            self.report.say(
                Diagnostic::new("ucl::under", format!("`{what}` stands inside `under`"))
                    .at(span, "speaks of whole names")
                    .help("move it out of the block and write the name from its start"),
            );
        }
    }
}

impl Name<'_> {
    pub(super) fn is_pair(&self) -> bool {
        self.parts.iter().any(|part| part.value == Part::WeightBias)
    }
}

fn names<'a>(around: &Around<'a>, template: &'a ast::Template, when_tied: bool) -> Vec<Name<'a>> {
    let all = around.prefixes.iter().map(|prefix| Name {
        parts: prefix.iter().copied().chain(&template.parts).collect(),
        when_tied,
        span: template.span,
    });
    all.collect()
}
