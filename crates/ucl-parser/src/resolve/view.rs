//! Views: late bound, refined by every model that inherits them.

use super::dims::{cycle, has_cycle, names_in};
use super::items;
use super::line::{Line, starts_with};
use super::report::{Replaced, Report};
use super::{Chain, expr_names, lower, model, rename};
use crate::ast::{self, DimValue, Part};
use indexmap::IndexMap;
use ucl_ir::{
    Binding, Class, Cond, Diagnostic, DimDef, FLOATS, Ignore, Model, Rule, Span, Sum, ValueRule,
    View,
};

/// A view while it is put together.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) lines: Vec<Line>,
    pub(super) ignores: Vec<Ignore>,
    pub(super) bases: Vec<String>,
    pub(super) composites: IndexMap<String, Sum>,
    values: Vec<ValueRule>,
    bindings: Vec<Binding>,
    classes: IndexMap<String, Class>,
    ancestors: Vec<String>,
    when: Option<Cond>,
}

/// The declarations of a view, the root's first.
type Layers<'a> = Vec<(&'a ast::View, bool)>;

/// All views of a model by name, those of its own file first.
pub(super) fn resolve(
    chain: &Chain<'_>,
    model: &Model,
    report: &mut Report,
) -> IndexMap<String, View> {
    let mut declared: IndexMap<&str, Layers<'_>> = IndexMap::new();
    for (file, own) in chain.own_first() {
        let mut here: IndexMap<&str, Span> = IndexMap::new();
        for view in &file.views {
            if let Some(first) = here.insert(&view.name.value, view.name.span) {
                if own {
                    report.twice("view", &view.name.value, first, view.name.span);
                }
                continue;
            }
            declared.entry(&view.name.value).or_default().insert(0, (view, own));
        }
    }
    let mut resolver =
        Resolver { model, declared, done: IndexMap::new(), open: Vec::new(), report };
    let names: Vec<&str> = resolver.declared.keys().copied().collect();
    for name in &names {
        resolver.state(name);
    }
    let Resolver { mut done, declared, .. } = resolver;
    let views = names.iter().filter_map(|name| {
        let layers = declared.get(name)?;
        Some(((*name).to_owned(), finish(name, done.swap_remove(*name)?, layers, model)))
    });
    views.collect()
}

fn finish(name: &str, state: State, layers: &Layers<'_>, model: &Model) -> View {
    // What comes before the layers, the layers, what comes after; in them as the lines were written,
    // those that replaced others last.
    let mut lines = state.lines;
    let blocks = model.blocks();
    lines.sort_by_key(|line| line.terms.first().and_then(|term| blocks.get(term)).copied());
    let spelled = |param: &ucl_ir::Param| {
        let set = model.set_of(param);
        lines.iter().any(|line| {
            let named = || {
                line.spellings.iter().all(|s| {
                    s.template.indices().any(|d| Some(d) == set.map(|set| set.dim.as_str()))
                })
            };
            line.terms.contains(&param.path) && (set.is_none() || named())
        })
    };
    let lacking = model.params.iter().filter(|p| !p.optional && !spelled(p));
    let lacking = lacking.map(|param| param.path.clone()).collect();
    // A rename may have left no name with an inherited base.
    let mut bases = state.bases;
    bases.retain(|base| lines.iter().any(|line| starts_with(line, base)));
    let rules = lines.into_iter().map(|line| Rule {
        spellings: line.spellings,
        shape: line.shape,
        declared: line.declared,
        terms: line.terms,
        span: line.span,
    });
    View {
        name: name.to_owned(),
        ancestors: state.ancestors,
        when: state.when,
        rules: rules.collect(),
        ignores: state.ignores,
        bases,
        composites: state.composites,
        values: state.values,
        bindings: state.bindings,
        classes: state.classes,
        layouts: Vec::new(),
        lacking,
        span: layers.last().map(|(view, _)| view.name.span).unwrap_or_default(),
    }
}

pub(super) struct Resolver<'a, 'r> {
    pub(super) model: &'a Model,
    declared: IndexMap<&'a str, Layers<'a>>,
    done: IndexMap<String, State>,
    /// The views being resolved: one that comes up again extends itself.
    open: Vec<&'a str>,
    pub(super) report: &'r mut Report,
}

impl<'a> Resolver<'a, '_> {
    fn state(&mut self, name: &'a str) -> State {
        if let Some(state) = self.done.get(name) {
            return state.clone();
        }
        let layers = self.declared.get(name).cloned().unwrap_or_default();
        self.open.push(name);
        let mut state = self.parent(name, &layers);
        self.open.pop();
        for (view, own) in layers {
            self.layer(view, own, &mut state);
        }
        self.done.insert(name.to_owned(), state.clone());
        state
    }

    /// What the view extends, by the first declaration that says it.
    fn parent(&mut self, name: &'a str, layers: &Layers<'a>) -> State {
        let bare = || State { composites: self.model.composites(), ..State::default() };
        let mut said = layers.iter().filter_map(|(view, own)| Some((view.extends.as_ref()?, *own)));
        let Some((base, own)) = said.next() else { return bare() };
        for (other, own) in said {
            if other.value != base.value && own {
                self.report.say(
                    Diagnostic::new(
                        "ucl::extends",
                        format!("the inherited view `{name}` extends `{}` already", base.value),
                    )
                    .at(other.span, "another one here")
                    .at(base.span, "inherited from here")
                    .help("a new view needs a name of its own"),
                );
            }
        }
        if self.open.contains(&base.value.as_str()) {
            self.report.say(
                Diagnostic::new("ucl::cycle", format!("the view `{}` extends itself", base.value))
                    .at(base.span, format!("by way of `{name}`"))
                    .help("take one `extends` out"),
            );
            return bare();
        }
        let Some((known, _)) = self.declared.get_key_value(base.value.as_str()) else {
            if own {
                let known: Vec<&str> =
                    self.declared.keys().copied().filter(|other| *other != name).collect();
                let owner = format!("the model `{}`", self.model.name);
                self.report.unknown(&owner, "view", base, known);
            }
            return bare();
        };
        let known = *known;
        let mut state = self.state(known);
        state.ancestors.insert(0, known.to_owned());
        state
    }

    /// One declaration of a view on top of what it inherits.
    fn layer(&mut self, view: &'a ast::View, own: bool, state: &mut State) {
        let items = items::collect(view, own, self.report);
        if let Some(when) = &view.when {
            state.when = Some(lower::cond(when));
        }
        self.dims(&items.dims, own, state);
        for rename in &items.renames {
            if own {
                self.known_dims(rename.to.parts.iter().filter_map(index_of), &view.name.value);
            }
            rename::apply(rename, state, self.model, own, self.report);
        }
        let lines: Vec<Line> = items
            .equations
            .iter()
            .flat_map(|equation| self.lines(equation, view, own, state))
            .collect();
        let replaced = &mut self.report.replaced;
        state.lines.retain(|old| {
            let meets = |new: &&Line| new.terms.iter().any(|term| old.terms.contains(term));
            let new = lines.iter().find(meets);
            replaced.extend(new.map(|new| Replaced {
                view: view.name.value.clone(),
                terms: old.terms.clone(),
                old: old.span,
                new: new.span,
            }));
            new.is_none()
        });
        state.lines.extend(lines);
        for name in &items.ignores {
            if own {
                self.known_dims(name.parts.iter().copied().filter_map(index_of), &view.name.value);
            }
            let template = lower::template(name.parts.iter().map(|part| &part.value), "");
            if !state.ignores.iter().any(|known| known.template == template) {
                state.ignores.push(Ignore { template, span: name.span });
            }
        }
        for base in items.bases {
            self.base(base, own, state);
        }
        self.values(&items.values, view, own, state);
        model::bindings(items.froms, own, &mut state.bindings, self.report);
        self.classes(&items.classes, own, state);
    }

    /// Classes; those of a view take the place of all that it inherits.
    fn classes(&mut self, classes: &[&'a ast::Class], own: bool, state: &mut State) {
        let mut here: IndexMap<&str, Span> = IndexMap::new();
        if !classes.is_empty() {
            state.classes.clear();
        }
        for class in classes {
            let floats = FLOATS.into_iter();
            if let Some(dtype) =
                class.dtype.as_ref().filter(|dtype| own && !FLOATS.contains(&dtype.value.as_str()))
            {
                self.report.unknown("a class", "type of weights", dtype, floats);
            }
            for name in &class.types {
                let first = here.insert(&name.value, name.span);
                if let (Some(first), true) = (first, own) {
                    self.report.twice("class for", &name.value, first, name.span);
                }
                let class = Class {
                    name: class.name.value.clone(),
                    dtype: class.dtype.as_ref().map(|dtype| dtype.value.clone()),
                    span: name.span,
                };
                state.classes.insert(name.value.clone(), class);
            }
        }
    }

    /// Composites that the view adds or changes.
    fn dims(&mut self, decls: &[&'a ast::DimDecl], own: bool, state: &mut State) {
        let mut here: IndexMap<&str, Span> = IndexMap::new();
        for decl in decls {
            let name = &decl.name;
            if let (Some(first), true) = (here.insert(&name.value, name.span), own) {
                self.report.twice("dim", &name.value, first, name.span);
            }
            let Some(DimValue::Sum(sum)) = &decl.def else {
                if own {
                    self.report.say(
                        Diagnostic::new(
                            "ucl::dims",
                            format!("`{}` is no product and no sum", name.value),
                        )
                        .at(name.span, "a view only names what is made of dims")
                        .help("atoms and sizes belong into the `dims` of the model"),
                    );
                }
                continue;
            };
            let atom = self.model.dims.iter().find(|dim| dim.name == name.value);
            if let (Some(dim), true) = (atom, own)
                && matches!(dim.def, DimDef::Atom(_))
            {
                self.report.say(
                    Diagnostic::new(
                        "ucl::dims",
                        format!("`{}` is an atom of the model", name.value),
                    )
                    .at(name.span, "a view cannot take it apart")
                    .at(dim.span, "declared here")
                    .help(format!(
                        "write `{} = …` in the model, or use another name here",
                        name.value
                    )),
                );
                continue;
            }
            state.composites.insert(name.value.clone(), lower::sum(sum));
        }
        for decl in decls {
            let Some(DimValue::Sum(sum)) = &decl.def else { continue };
            if own {
                self.known_factors(&names_in(sum), state);
            }
            if has_cycle(&state.composites, &decl.name.value) {
                self.report.say(cycle(&decl.name.value, decl.name.span));
                state.composites.shift_remove(&decl.name.value);
            }
        }
    }

    fn base(&mut self, base: &ast::Spanned<String>, own: bool, state: &mut State) {
        if own && !state.lines.iter().any(|line| starts_with(line, &base.value)) {
            self.report.say(
                Diagnostic::new(
                    "ucl::base",
                    format!("no name of this view starts with \"{}\"", base.value),
                )
                .at(base.span, "leaves out nothing")
                .help("`base` is the prefix, with its dot, that whole files may lack"),
            );
        }
        if !state.bases.contains(&base.value) {
            state.bases.push(base.value.clone());
        }
    }

    fn values(
        &mut self,
        values: &[&'a ast::Value],
        view: &ast::View,
        own: bool,
        state: &mut State,
    ) {
        let mut here: Vec<(ucl_ir::ValueOp, &ast::Name)> = Vec::new();
        for value in values {
            for name in &value.params {
                let twice = here.iter().find(|(op, n)| *op == value.op && n.value == name.value);
                if let (Some((_, first)), true) = (twice, own) {
                    self.report.twice("step on", &name.value, first.span, name.span);
                }
                here.push((value.op, name));
                let known = self.model.param(&name.value).is_some();
                if own && !known {
                    let paths = self.model.params.iter().map(|param| param.path.as_str());
                    let owner = format!("the model `{}`", self.model.name);
                    self.report.unknown(&owner, "parameter", name, paths);
                }
                let same = |rule: &ValueRule| rule.op == value.op && rule.param == name.value;
                state.values.retain(|rule| !same(rule));
                if known {
                    state.values.push(ValueRule {
                        op: value.op,
                        param: name.value.clone(),
                        by: lower::expr(&value.by),
                        span: name.span,
                    });
                }
            }
            if own {
                let mut known = expr_names::of_model(self.model);
                known.extend(state.bindings.iter().map(|binding| binding.name.clone()));
                let owner = format!("the view `{}`", view.name.value);
                expr_names::check(&value.by, &known, &owner, self.report);
            }
        }
    }

    pub(super) fn known_factors(&mut self, names: &[(&str, Span)], state: &State) {
        for (name, span) in names {
            let in_model = self.model.dims.iter().any(|dim| dim.name == *name);
            if !in_model && !state.composites.contains_key(*name) {
                let dims = self.model.dims.iter().map(|dim| dim.name.as_str());
                let more = state.composites.keys().map(String::as_str);
                let more = more.filter(|c| !self.model.dims.iter().any(|dim| dim.name == *c));
                let owner = format!("the model `{}`", self.model.name);
                self.report.unknown_at(&owner, "dim", name, *span, dims.chain(more));
            }
        }
    }

    /// Indices in names are atoms of the model.
    pub(super) fn known_dims<'n>(
        &mut self,
        names: impl Iterator<Item = (&'n str, Span)>,
        view: &str,
    ) {
        for (name, span) in names {
            match self.model.dims.iter().find(|dim| dim.name == name).map(|dim| &dim.def) {
                Some(DimDef::Atom(_)) => {}
                Some(DimDef::Composite(_)) => self.report.say(
                    Diagnostic::new(
                        "ucl::template",
                        format!("`{{{name}}}` in a name of `{view}` is a composite, but names count atoms"),
                    )
                    .at(span, "made of other dims")
                    .help("put the dim into the shape, or declare it as an atom of the model"),
                ),
                None => {
                    let dims = self.model.dims.iter().map(|dim| dim.name.as_str());
                    let owner = format!("the model `{}`", self.model.name);
                    self.report.unknown_at(&owner, "dim", name, span, dims);
                }
            }
        }
    }
}

pub(super) fn index_of(part: &ast::Spanned<Part>) -> Option<(&str, Span)> {
    match &part.value {
        Part::Index(dim, _) | Part::Count(dim, _) => Some((dim, part.span)),
        Part::Text(_) | Part::WeightBias | Part::Any => None,
    }
}
