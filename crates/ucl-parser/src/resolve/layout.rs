//! Layouts: late bound like views, and which of them serve a view.

use super::report::Report;
use super::{Chain, expr_names, lower};
use crate::ast::{self, LayoutRule};
use indexmap::IndexMap;
use ucl_ir::{Axis, Diagnostic, Keep, Layout, Merge, Model, Pad, Rest, Shard, Span, Uneven, View};

type Layers<'a> = Vec<(&'a ast::Layout, bool)>;

/// All layouts of a model by name, those of its own file first; views are told which serve them.
pub(super) fn resolve(
    chain: &Chain<'_>,
    model: &Model,
    views: &mut IndexMap<String, View>,
    report: &mut Report,
) -> IndexMap<String, Layout> {
    let mut declared: IndexMap<&str, Layers<'_>> = IndexMap::new();
    for (file, own) in chain.own_first() {
        let mut here: IndexMap<&str, Span> = IndexMap::new();
        for layout in &file.layouts {
            if let Some(first) = here.insert(&layout.name.value, layout.name.span) {
                if own {
                    report.twice("layout", &layout.name.value, first, layout.name.span);
                }
                continue;
            }
            declared.entry(&layout.name.value).or_default().insert(0, (layout, own));
        }
    }
    let mut resolver =
        Resolver { model, views, declared, done: IndexMap::new(), open: Vec::new(), report };
    let names: Vec<&str> = resolver.declared.keys().copied().collect();
    let layouts: IndexMap<String, Layout> =
        names.iter().map(|name| ((*name).to_owned(), resolver.layout(name))).collect();
    serve(views, &layouts);
    layouts
}

/// A view's own layouts, else those of the nearest view that it extends and that has some.
fn serve(views: &mut IndexMap<String, View>, layouts: &IndexMap<String, Layout>) {
    for view in views.values_mut() {
        let family = std::iter::once(&view.name).chain(&view.ancestors);
        let serving = family.map(|name| -> Vec<String> {
            let of = |layout: &&Layout| layout.views.contains(name);
            layouts.values().filter(of).map(|layout| layout.name.clone()).collect()
        });
        view.layouts = serving.into_iter().find(|list| !list.is_empty()).unwrap_or_default();
    }
}

struct Resolver<'a, 'r> {
    model: &'a Model,
    views: &'r IndexMap<String, View>,
    declared: IndexMap<&'a str, Layers<'a>>,
    done: IndexMap<String, Layout>,
    open: Vec<&'a str>,
    report: &'r mut Report,
}

impl<'a> Resolver<'a, '_> {
    fn layout(&mut self, name: &'a str) -> Layout {
        if let Some(layout) = self.done.get(name) {
            return layout.clone();
        }
        let layers = self.declared.get(name).cloned().unwrap_or_default();
        self.open.push(name);
        let mut layout = self.parent(name, &layers);
        self.open.pop();
        name.clone_into(&mut layout.name);
        layout.views.clear();
        for (layer, own) in &layers {
            if !layer.views.is_empty() {
                layout.views = layer.views.iter().map(|view| view.value.clone()).collect();
            }
            layout.span = layer.name.span;
            for rule in &layer.rules {
                self.rule(rule, *own, &mut layout);
            }
        }
        let own = layers.iter().filter(|(_, own)| *own).map(|(layer, _)| *layer);
        own.for_each(|layer| self.check(layer, &layout));
        self.done.insert(name.to_owned(), layout.clone());
        layout
    }

    fn parent(&mut self, name: &'a str, layers: &Layers<'a>) -> Layout {
        let bare = || Layout {
            name: name.to_owned(),
            views: Vec::new(),
            axes: Vec::new(),
            shards: Vec::new(),
            pads: Vec::new(),
            copy_tied: None,
            merges: Vec::new(),
            keeps: Vec::new(),
            requires: Vec::new(),
            span: Span::default(),
        };
        let mut said =
            layers.iter().filter_map(|(layer, own)| Some((layer.extends.as_ref()?, *own)));
        let Some((base, own)) = said.next() else { return bare() };
        for (other, own) in said {
            if other.value != base.value && own {
                self.report.say(
                    Diagnostic::new(
                        "ucl::extends",
                        format!("the inherited layout `{name}` extends `{}` already", base.value),
                    )
                    .at(other.span, "another one here")
                    .at(base.span, "inherited from here")
                    .help("a new layout needs a name of its own"),
                );
            }
        }
        if self.open.contains(&base.value.as_str()) {
            self.report.say(
                Diagnostic::new(
                    "ucl::cycle",
                    format!("the layout `{}` extends itself", base.value),
                )
                .at(base.span, format!("by way of `{name}`"))
                .help("take one `extends` out"),
            );
            return bare();
        }
        match self.declared.get_key_value(base.value.as_str()) {
            Some((known, _)) => {
                let known = *known;
                self.layout(known)
            }
            None => {
                if own {
                    let known: Vec<&str> =
                        self.declared.keys().copied().filter(|other| *other != name).collect();
                    let owner = format!("the model `{}`", self.model.name);
                    self.report.unknown(&owner, "layout", base, known);
                }
                bare()
            }
        }
    }

    fn rule(&mut self, rule: &LayoutRule, own: bool, layout: &mut Layout) {
        match rule {
            LayoutRule::Mesh(axes) => {
                for (name, same_as) in axes {
                    let same_as = same_as.as_ref().map(|name| name.value.clone());
                    let axis = Axis { name: name.value.clone(), same_as };
                    match layout.axes.iter_mut().find(|known| known.name == axis.name) {
                        Some(known) => *known = axis,
                        None => layout.axes.push(axis),
                    }
                }
            }
            LayoutRule::Shard(shard) => self.shard(shard, own, layout),
            LayoutRule::Pad { dim, to, with, .. } => {
                let pad = Pad {
                    dim: dim.value.clone(),
                    to: lower::expr(to),
                    with: *with,
                    span: dim.span,
                };
                match layout.pads.iter_mut().find(|known| known.dim == pad.dim) {
                    Some(known) => *known = pad,
                    None => layout.pads.push(pad),
                }
            }
            LayoutRule::CopyTied(cond) => layout.copy_tied = Some(lower::cond(cond)),
            LayoutRule::Merge { op, params, over, span } => {
                let paths = self.paths(params, own);
                layout.merges.iter_mut().filter(|m| m.over == over.value).for_each(|merge| {
                    merge.params.retain(|path| !paths.contains(path));
                });
                layout.merges.retain(|merge| !merge.params.is_empty());
                if !paths.is_empty() {
                    let (params, over) = (paths, over.value.clone());
                    layout.merges.push(Merge { op: *op, params, over, span: *span });
                }
            }
            LayoutRule::Keep { params, over, at, span } => {
                let params = self.paths(params, own);
                layout.keeps.iter_mut().filter(|keep| keep.over == over.value).for_each(|keep| {
                    keep.params.retain(|path| !params.contains(path));
                });
                layout.keeps.retain(|keep| !keep.params.is_empty());
                if !params.is_empty() {
                    let over = over.value.clone();
                    layout.keeps.push(Keep { params, over, at: *at, span: *span });
                }
            }
            LayoutRule::Require(cond, span) => {
                let cond = lower::cond(cond);
                if !layout.requires.iter().any(|(known, _)| *known == cond) {
                    layout.requires.push((cond, *span));
                }
            }
        }
    }

    /// A line replaces those for the same dim; with `of`, those for the same dim and parameters.
    fn shard(&mut self, rule: &ast::Shard, own: bool, layout: &mut Layout) {
        let of = self.paths(&rule.of, own);
        if of.is_empty() && !rule.of.is_empty() {
            return;
        }
        for dim in &rule.dims {
            let shard = Shard {
                dim: dim.value.clone(),
                over: rule.over.iter().map(|axis| axis.value.clone()).collect(),
                of: of.clone(),
                rest: rest(&rule.rest),
                global: rule.global,
                stage: rule.stage,
                span: dim.span,
            };
            let same = |known: &Shard| known.dim == shard.dim && known.of == shard.of;
            if let Some(known) = layout.shards.iter_mut().find(|known| same(known)) {
                if own && known.span.source == shard.span.source {
                    self.contradiction(known, &shard);
                }
                *known = shard;
                continue;
            }
            for known in layout.shards.iter_mut().filter(|known| known.dim == shard.dim) {
                let scoped = !known.of.is_empty();
                known.of.retain(|path| !shard.of.contains(path));
                if scoped && known.of.is_empty() {
                    known.dim.clear();
                }
            }
            layout.shards.retain(|known| !known.dim.is_empty());
            layout.shards.push(shard);
        }
    }

    /// Two lines for one dim in the same file: one of them would be without effect.
    fn contradiction(&mut self, first: &Shard, second: &Shard) {
        let declared: Vec<Span> = self
            .declared
            .values()
            .flatten()
            .filter(|(layer, own)| *own && contains(layer.span, second.span))
            .map(|(layer, _)| layer.span)
            .collect();
        if declared.iter().any(|span| contains(*span, first.span)) {
            self.report.twice("cut of", &second.dim, first.span, second.span);
        }
    }

    /// The paths of a list that mean something in this model.
    fn paths(&mut self, list: &[ast::Name], own: bool) -> Vec<String> {
        let mut known = Vec::new();
        for name in list {
            if self.model.params.iter().any(|param| param.is_under(&name.value)) {
                known.push(name.value.clone());
            } else if own {
                let paths = self.model.params.iter().map(|param| param.path.as_str());
                let owner = format!("the model `{}`", self.model.name);
                self.report.unknown(&owner, "parameter", name, paths);
            }
        }
        known
    }

    /// Names of views, dims, axes and numbers in the layout's own file.
    fn check(&mut self, layer: &ast::Layout, layout: &Layout) {
        let owner = format!("the layout `{}`", layer.name.value);
        let model = format!("the model `{}`", self.model.name);
        for view in &layer.views {
            if !self.views.contains_key(&view.value) {
                let known = self.views.keys().map(String::as_str);
                self.report.unknown(&model, "view", view, known);
            }
        }
        let mut dims: Vec<String> = self.model.dims.iter().map(|dim| dim.name.clone()).collect();
        for view in self.views.values() {
            dims.extend(view.composites.keys().cloned());
        }
        let mut seen = std::collections::HashSet::new();
        dims.retain(|dim| seen.insert(dim.clone()));
        let extends = layer.extends.as_ref();
        if extends.is_some_and(|base| !self.declared.contains_key(base.value.as_str())) {
            return; // What it has from there is not known.
        }
        let axes: Vec<String> = layout.axes.iter().map(|axis| axis.name.clone()).collect();
        let mut numbers = expr_names::of_model(self.model);
        numbers.extend(axes.iter().cloned());
        for rule in &layer.rules {
            match rule {
                LayoutRule::Mesh(list) => {
                    list.iter().filter_map(|(_, same)| same.as_ref()).for_each(|same| {
                        self.known(&owner, "mesh axis", same, &axes);
                    });
                }
                LayoutRule::Shard(shard) => {
                    shard.dims.iter().for_each(|dim| self.known(&model, "dim", dim, &dims));
                    shard.over.iter().for_each(|axis| self.known(&owner, "mesh axis", axis, &axes));
                    match &shard.rest.uneven {
                        Some(ast::Uneven::Within(dim)) => self.known(&model, "dim", dim, &dims),
                        Some(ast::Uneven::Runs(Some(run))) if run.value == 0 => {
                            let message = "runs of 0 indices cut nothing";
                            let found = Diagnostic::new("ucl::number", message);
                            let help = "write how many indices stay together, or leave `by` out";
                            self.report.say(found.at(run.span, "1 or more").help(help));
                        }
                        _ => {}
                    }
                }
                LayoutRule::Pad { dim, to, .. } => {
                    self.known(&model, "dim", dim, &dims);
                    expr_names::check(to, &numbers, &owner, self.report);
                }
                LayoutRule::CopyTied(cond) | LayoutRule::Require(cond, _) => {
                    expr_names::check_cond(cond, &numbers, &owner, self.report);
                }
                LayoutRule::Merge { over, .. } | LayoutRule::Keep { over, .. } => {
                    self.known(&owner, "mesh axis", over, &axes);
                }
            }
        }
    }

    fn known(&mut self, owner: &str, kind: &str, name: &ast::Name, known: &[String]) {
        if !known.contains(&name.value) {
            self.report.unknown(owner, kind, name, known.iter().map(String::as_str));
        }
    }
}

fn rest(rest: &ast::Rest) -> Rest {
    let uneven = rest.uneven.as_ref().map(|uneven| match uneven {
        ast::Uneven::Runs(run) => Uneven::Runs(run.as_ref().map_or(1, |run| run.value.max(1))),
        ast::Uneven::Within(dim) => Uneven::Within(dim.value.clone()),
    });
    Rest { uneven, repeat: rest.repeat }
}

fn contains(outer: Span, inner: Span) -> bool {
    outer.source == inner.source && outer.start <= inner.start && inner.end <= outer.end
}
