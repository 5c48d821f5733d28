//! The model: dims and parameters of its ancestors and its own, in forward order.

use super::dims::{composites, cycle, has_cycle, names_in};
use super::report::Report;
use super::tree::{Node, extend, find, flatten, is_each, paths_in, remove, visit};
use super::{Chain, lower, sets, suggest};
use crate::ast::{self, DimValue, EachItem, ModelItem, SetRule};
use indexmap::IndexMap;
use std::collections::HashSet;
use ucl_ir::{Atoms, Binding, Diagnostic, Dim, DimDef, Model, Param, Set, SetDef, Span};

pub(super) fn resolve(chain: &Chain<'_>, report: &mut Report) -> Model {
    let mut merge = Merge {
        report,
        own: false,
        name: chain.name.clone(),
        dims: IndexMap::new(),
        sets: IndexMap::new(),
        nodes: Vec::new(),
    };
    let mut bindings = Vec::new();
    let mut span = Span::default();
    for (file, own) in chain.root_first() {
        let Some(model) = &file.model else { continue };
        merge.own = own;
        merge.dims(model);
        merge.sets(model);
        merge.drop(model);
        merge.params(model);
        merge.require(model);
        let blocks = model.items.iter().filter_map(|item| match item {
            ModelItem::From(from) => Some(from),
            _ => None,
        });
        self::bindings(blocks, own, &mut bindings, merge.report);
        span = model.name.span;
    }
    merge.break_cycles();
    let types = types(chain, merge.report);
    let before = merge.nodes.iter().take_while(|node| matches!(node, Node::Param(_))).count();
    let mut params = Vec::new();
    for (number, node) in merge.nodes.iter().enumerate() {
        flatten(node, number < before, &mut params);
    }
    let dims = merge.dims.into_values().collect();
    let sets = merge.sets.into_values().collect();
    let ancestors = chain.ancestors.clone();
    let name = chain.name.clone();
    let model = Model { name, types, ancestors, dims, sets, params, bindings, span };
    tied(&model, report);
    sets::check(chain, &model, report);
    model
}

/// The types that the model's own file lists: a child is another architecture. What is made for any
/// model goes by those of the one that it is added to.
fn types(chain: &Chain<'_>, report: &mut Report) -> Vec<String> {
    let lines = |number: usize| {
        let file = chain.files.get(number).copied();
        let items = file.and_then(|file| file.model.as_ref()).map(|model| &model.items);
        items.into_iter().flatten().filter_map(|item| match item {
            ModelItem::Types(types) => Some(types),
            _ => None,
        })
    };
    let mut here: IndexMap<&str, Span> = IndexMap::new();
    for name in lines(0).flat_map(|line| &line.names) {
        match here.get(name.value.as_str()) {
            Some(first) => report.twice("type", &name.value, *first, name.span),
            None => {
                here.insert(&name.value, name.span);
            }
        }
    }
    if !chain.is_for_any() {
        return here.keys().map(|name| (*name).to_owned()).collect();
    }
    for line in lines(0) {
        report.say(
            Diagnostic::new("ucl::type", "a model for any other has no types of its own")
                .at(line.span, "it has those of the model that it is added to")
                .help("take the line out"),
        );
    }
    lines(1).flat_map(|line| &line.names).map(|name| name.value.clone()).collect()
}

/// What a copy is a copy of has to be there.
fn tied(model: &Model, report: &mut Report) {
    for param in &model.params {
        let Some(original) = &param.tied else { continue };
        if model.param(original).is_none() || *original == param.path {
            let known = model.params.iter().map(|p| p.path.as_str()).filter(|p| *p != param.path);
            report.say(
                Diagnostic::new(
                    "ucl::name",
                    format!(
                        "`{}` is tied to `{original}`, which is not in the model `{}`",
                        param.path, model.name
                    ),
                )
                .at(param.span, "a copy of what?")
                .help(suggest::meant(
                    original,
                    "parameter",
                    &known.collect::<Vec<_>>(),
                )),
            );
        }
    }
}

/// Adds the lines of `from` blocks; of two for the same name and document the later one counts.
pub(super) fn bindings<'a>(
    blocks: impl IntoIterator<Item = &'a ast::From>,
    own: bool,
    bindings: &mut Vec<Binding>,
    report: &mut Report,
) {
    let mut here: Vec<(ucl_ir::Document, &ast::Name)> = Vec::new();
    for block in blocks {
        for (name, expr) in &block.lines {
            let document = block.document.value;
            let twice =
                here.iter().find(|(doc, other)| *doc == document && other.value == name.value);
            if let (Some((_, first)), true) = (twice, own) {
                report.twice("line", &format!("{} =", name.value), first.span, name.span);
            }
            here.push((document, name));
            let binding = Binding {
                document,
                name: name.value.clone(),
                expr: lower::expr(expr),
                span: name.span,
            };
            let known =
                bindings.iter_mut().find(|b| b.document == document && b.name == binding.name);
            match known {
                Some(known) => *known = binding,
                None => bindings.push(binding),
            }
        }
    }
}

/// A model while its files are read, the root's first.
struct Merge<'a> {
    report: &'a mut Report,
    /// Whether the file at hand is the one that is compiled; the others are checked on their own.
    own: bool,
    name: String,
    dims: IndexMap<String, Dim>,
    sets: IndexMap<String, Set>,
    nodes: Vec<Node>,
}

impl Merge<'_> {
    /// Declared names first, then those that only stand on the right of a `=`.
    fn dims(&mut self, model: &ast::Model) {
        let lists = || {
            model.items.iter().filter_map(|item| match item {
                ModelItem::Dims(list) => Some(list),
                _ => None,
            })
        };
        let mut here: IndexMap<&str, Span> = IndexMap::new();
        for decl in lists().flatten() {
            let name = &decl.name;
            if let (Some(first), true) = (here.insert(&name.value, name.span), self.own) {
                self.report.twice("dim", &name.value, first, name.span);
            }
            let def = match &decl.def {
                None => DimDef::Atom(None),
                Some(DimValue::Size(size)) => DimDef::Atom(Some(size.value)),
                Some(DimValue::Sum(sum)) => DimDef::Composite(lower::sum(sum)),
            };
            let dim = Dim { name: name.value.clone(), def, span: name.span };
            self.dims.insert(name.value.clone(), dim);
        }
        for decl in lists().flatten() {
            if let Some(DimValue::Sum(sum)) = &decl.def {
                for (name, span) in names_in(sum) {
                    self.dims.entry(name.to_owned()).or_insert_with(|| Dim {
                        name: name.to_owned(),
                        def: DimDef::Atom(None),
                        span,
                    });
                }
            }
        }
    }

    /// A set of the same name replaces the inherited one.
    fn sets(&mut self, model: &ast::Model) {
        let mut here: IndexMap<&str, Span> = IndexMap::new();
        for item in &model.items {
            let ModelItem::Set(decl) = item else { continue };
            let name = &decl.name;
            if let (Some(first), true) = (here.insert(&name.value, name.span), self.own) {
                self.report.twice("set", &name.value, first, name.span);
            }
            let set = Set {
                name: name.value.clone(),
                dim: decl.dim.value.clone(),
                def: match &decl.def {
                    None => SetDef::Named,
                    Some(SetRule::When(cond)) => SetDef::When(lower::cond(cond)),
                    Some(SetRule::Not(other)) => SetDef::Not(other.value.clone()),
                },
                span: name.span,
            };
            self.sets.insert(name.value.clone(), set);
        }
    }

    fn drop(&mut self, model: &ast::Model) {
        for item in &model.items {
            let ModelItem::Drop(paths) = item else { continue };
            for path in paths {
                if !remove(&mut self.nodes, &path.value) && self.own {
                    let known = paths_in(&self.nodes);
                    let owner = format!("what `{}` extends", model.name.value);
                    let known = known.iter().map(String::as_str);
                    self.report.unknown(&owner, "parameter", path, known);
                }
            }
        }
    }

    fn require(&mut self, model: &ast::Model) {
        for item in &model.items {
            let ModelItem::Require(paths) = item else { continue };
            for path in paths {
                let mut met = false;
                visit(&mut self.nodes, &mut |param| {
                    if param.is_under(&path.value) {
                        param.optional = false;
                        met = true;
                    }
                });
                if !met && self.own {
                    let known = paths_in(&self.nodes);
                    let owner = format!("the model `{}`", model.name.value);
                    let known = known.iter().map(String::as_str);
                    self.report.unknown(&owner, "parameter", path, known);
                }
            }
        }
    }

    /// New parameters follow what their block has; what stands before an `each` stays before it.
    fn params(&mut self, model: &ast::Model) {
        let known = self.nodes.len();
        let mut nodes = std::mem::take(&mut self.nodes);
        let mut inherited = known;
        let mut waiting = Vec::new();
        for item in &model.items {
            match item {
                ModelItem::Param(param) => waiting.extend(self.param(param, &[], None, &nodes)),
                ModelItem::Each(each) => {
                    let at = nodes[..inherited].iter().position(|node| is_each(node, each));
                    let Some(at) = at else {
                        nodes.append(&mut waiting);
                        let inner = self.each(each, &[], None, &nodes);
                        nodes.push(inner);
                        continue;
                    };
                    let inner = self.each(each, &[], None, &nodes);
                    extend(&mut nodes[at], inner);
                    inherited += waiting.len();
                    nodes.splice(at..at, std::mem::take(&mut waiting));
                }
                _ => {}
            }
        }
        nodes.append(&mut waiting);
        self.nodes = nodes;
        if self.own {
            self.duplicates(model);
        }
    }

    fn each<'e>(
        &mut self,
        each: &'e ast::Each,
        around: &[String],
        outer: Option<&'e ast::Name>,
        nodes: &[Node],
    ) -> Node {
        if self.own {
            match self.dims.get(&each.dim.value).map(|dim| &dim.def) {
                None => self.unknown_dim(&each.dim),
                Some(DimDef::Atom(_)) => {}
                Some(DimDef::Composite(_)) => self.report.say(
                    Diagnostic::new(
                        "ucl::dims",
                        format!("`each {}` needs an atom, but it is a composite", each.dim.value),
                    )
                    .at(each.dim.span, "a name for other dims")
                    .help("nest an `each` for each of its dims"),
                ),
            }
        }
        let set = self.each_in(each, outer);
        let around = [around, std::slice::from_ref(&each.dim.value)].concat();
        let mut inside: Vec<Node> = Vec::new();
        for item in &each.items {
            match item {
                EachItem::Param(param) => inside.extend(self.param(param, &around, set, nodes)),
                EachItem::Each(inner) => inside.push(self.each(inner, &around, set, nodes)),
            }
        }
        Node::Each(each.dim.value.clone(), inside)
    }

    /// The set of what is inside a block: its own, or that of a block around it.
    fn each_in<'e>(
        &mut self,
        each: &'e ast::Each,
        outer: Option<&'e ast::Name>,
    ) -> Option<&'e ast::Name> {
        let Some(own) = &each.set else { return outer };
        if self.own {
            match self.sets.get(&own.value) {
                None => {
                    let known: Vec<&str> = self.sets.keys().map(String::as_str).collect();
                    self.report.unknown(&format!("the model `{}`", self.name), "set", own, known);
                }
                Some(set) if set.dim != each.dim.value => {
                    let text = format!("`{}` is a set of `{}`", own.value, set.dim);
                    self.report.say(
                        Diagnostic::new("ucl::set", text)
                            .at(own.span, format!("not of `{}`", each.dim.value))
                            .at(set.span, "declared here"),
                    );
                }
                Some(_) => {}
            }
            if let Some(outer) = outer {
                self.report.say(
                    Diagnostic::new("ucl::set", "a set inside a set")
                        .at(own.span, "a parameter is in one set at most")
                        .at(outer.span, "the one around it")
                        .help("declare one set with both conditions, joined by `and`"),
                );
            }
        }
        Some(own)
    }

    /// A parameter and its bias.
    fn param(
        &mut self,
        decl: &ast::Param,
        each: &[String],
        set: Option<&ast::Name>,
        nodes: &[Node],
    ) -> Vec<Node> {
        if self.own
            && let Some(first) = find(nodes, &decl.path.value)
            && first.span.source != decl.span.source
        {
            self.report.say(
                Diagnostic::new(
                    "ucl::duplicate",
                    format!("parameter `{}` is there already", decl.path.value),
                )
                .at(decl.path.span, "again here")
                .at(first.span, "inherited from here")
                .help(format!("to replace it, write `drop {}` too", decl.path.value)),
            );
            return Vec::new();
        }
        let mut param = Param {
            path: decl.path.value.clone(),
            each: each.to_vec(),
            set: set.map(|set| set.value.clone()),
            dims: self.param_dims(&decl.path, each, &decl.dims),
            optional: decl.optional,
            tied: decl.tied.as_ref().map(|name| name.value.clone()),
            before_each: false,
            span: decl.span,
        };
        let bias = decl.bias.as_ref().map(|bias| Param {
            path: format!("{}.bias", decl.path.value),
            dims: self.param_dims(&decl.path, each, &bias.dims),
            optional: bias.optional || decl.optional,
            tied: None,
            span: bias.span,
            ..param.clone()
        });
        if let Some(bias) = &bias {
            // So that the two can be told apart by their places.
            param.span.end = bias.span.start.max(param.span.start);
        }
        [Some(param), bias].into_iter().flatten().map(Node::Param).collect()
    }

    /// The dims of a parameter: known, products, every atom once.
    fn param_dims(&mut self, path: &ast::Name, each: &[String], dims: &[ast::Name]) -> Vec<String> {
        if self.own {
            let mut seen: HashSet<String> = each.iter().cloned().collect();
            let composites = composites(&self.dims);
            let atoms = Atoms::new(&composites);
            for dim in dims {
                if !self.dims.contains_key(&dim.value) {
                    self.unknown_dim(dim);
                } else if has_cycle(&composites, &dim.value) {
                    // Said where it is declared.
                } else if atoms
                    .alternatives(&[ucl_ir::Factor::Name(dim.value.clone())])
                    .map_or(0, |a| a.len())
                    != 1
                {
                    self.report.say(
                        Diagnostic::new(
                            "ucl::dims",
                            format!("`{}` is over `{}`, which is a sum", path.value, dim.value),
                        )
                        .at(dim.span, "a sum of dims")
                        .help("parameters are over atoms and products; sums belong into the shapes of views"),
                    );
                } else {
                    for atom in atoms.flatten([&dim.value]) {
                        if !seen.insert(atom.clone()) {
                            self.report.say(
                                Diagnostic::new(
                                    "ucl::dims",
                                    format!("`{}` has the dim `{atom}` twice", path.value),
                                )
                                .at(dim.span, "it is here already")
                                .help("name the second one differently: a dim stands once in a parameter"),
                            );
                        }
                    }
                }
            }
        }
        dims.iter().map(|dim| dim.value.clone()).collect()
    }

    fn unknown_dim(&mut self, dim: &ast::Name) {
        let known: Vec<&str> = self.dims.keys().map(String::as_str).collect();
        self.report.unknown(&format!("the model `{}`", self.name), "dim", dim, known);
    }

    /// Parameters of this file that are declared twice in it.
    fn duplicates(&mut self, model: &ast::Model) {
        let mut seen: IndexMap<String, Span> = IndexMap::new();
        let mut again = Vec::new();
        visit(&mut self.nodes, &mut |param| {
            if param.span.source == model.span.source
                && let Some(first) = seen.insert(param.path.clone(), param.span)
            {
                again.push((param.path.clone(), first, param.span));
            }
        });
        for (path, first, second) in again {
            self.report.twice("parameter", &path, first, second);
        }
    }

    /// A composite that is made of itself is said once and counts as an atom from then on.
    fn break_cycles(&mut self) {
        loop {
            let composites = composites(&self.dims);
            let Some(name) = composites.keys().find(|name| has_cycle(&composites, name)) else {
                return;
            };
            let Some(dim) = self.dims.get_mut(name) else { return };
            dim.def = DimDef::Atom(None);
            self.report.say(cycle(name, dim.span));
        }
    }
}
