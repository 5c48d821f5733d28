//! Tests: what they pin has to exist.

use super::Chain;
use super::report::Report;
use crate::ast::{self, Pin, TestItem};
use indexmap::IndexMap;
use ucl_ir::{Atoms, Diagnostic, Expect, Layout, Mesh, Model, Span, Test, View};

pub(super) struct Names<'a> {
    pub(super) model: &'a Model,
    pub(super) views: &'a IndexMap<String, View>,
    pub(super) layouts: &'a IndexMap<String, Layout>,
    /// Whether the model is made for any other: not each of these has all dims that a test names.
    pub(super) for_any: bool,
}

/// The tests of the model's own file.
pub(super) fn resolve(chain: &Chain<'_>, names: &Names<'_>, report: &mut Report) -> Vec<Test> {
    let own = chain.own_first().next().map(|(file, _)| file.tests.as_slice());
    own.unwrap_or_default().iter().map(|test| names.test(test, report)).collect()
}

impl Names<'_> {
    fn test(&self, test: &ast::Test, report: &mut Report) -> Test {
        let (mut sizes, mut meshes, mut expects) = (IndexMap::new(), Vec::new(), Vec::new());
        let mut numbers = super::expr_names::of_model(self.model);
        numbers.extend(self.views.values().flat_map(|v| v.bindings.iter().map(|b| b.name.clone())));
        for item in &test.items {
            match item {
                TestItem::Size(name, size) => {
                    if !numbers.contains(&name.value) {
                        if self.for_any {
                            continue;
                        }
                        let known = numbers.iter().map(String::as_str);
                        report.unknown(&self.owner(), "dim", name, known);
                    }
                    sizes.insert(name.value.clone(), size.value);
                }
                TestItem::On(list) => {
                    list.iter().for_each(|mesh| self.mesh(&mesh.value, mesh.span, report));
                    meshes.extend(list.iter().map(|mesh| mesh.value.clone()));
                }
                TestItem::Expect(expect) => {
                    self.check(expect, report);
                    expects.push(Expect {
                        view: expect.view.value.clone(),
                        layout: expect.layout.as_ref().map(|layout| layout.value.clone()),
                        mesh: expect.mesh.value.clone(),
                        rank: expect.rank.value.clone(),
                        name: expect.name.value.clone(),
                        pin: match &expect.pin {
                            Pin::Shape(shape) => ucl_ir::Pin::Shape(shape.value.clone()),
                            Pin::Element { index, param, at } => ucl_ir::Pin::Element {
                                index: index.clone(),
                                param: param.value.clone(),
                                at: at.value.clone(),
                            },
                        },
                        span: expect.span,
                    });
                }
            }
        }
        Test { sizes, meshes, expects, span: test.span }
    }

    fn check(&self, expect: &ast::Expect, report: &mut Report) {
        self.mesh(&expect.mesh.value, expect.mesh.span, report);
        self.rank(expect, report);
        if let Pin::Element { param, at, .. } = &expect.pin {
            match self.model.param(&param.value) {
                None => {
                    let known = self.model.params.iter().map(|param| param.path.as_str());
                    report.unknown(&self.owner(), "parameter", param, known);
                }
                Some(param) => self.element(at, param, report),
            }
        }
        let Some(view) = self.views.get(&expect.view.value) else {
            let known = self.views.values().filter(|view| view.lacking.is_empty());
            let known = known.map(|view| view.name.as_str());
            report.unknown(&self.owner(), "view", &expect.view, known);
            return;
        };
        if let Some(layout) = expect.layout.as_ref().filter(|l| !view.layouts.contains(&l.value)) {
            let serving = view.layouts.iter().map(String::as_str);
            report.unknown(&format!("the view `{}`", view.name), "layout", layout, serving);
        }
        let rules = view.rules.iter().filter(|rule| {
            rule.spellings.iter().any(|s| s.template.capture(&expect.name.value).is_some())
        });
        let rules: Vec<_> = rules.collect();
        let Some(first) = rules.first() else {
            report.say(
                Diagnostic::new(
                    "ucl::expect",
                    format!("the view `{}` has no tensor \"{}\"", view.name, expect.name.value),
                )
                .at(expect.name.span, "no equation spells this name")
                .help(format!(
                    "see its names with `ucl compile {} --view {}`",
                    self.model.name, view.name
                )),
            );
            return;
        };
        match &expect.pin {
            Pin::Element { index, param, .. } => {
                let held = rules.iter().any(|rule| rule.terms.contains(&param.value));
                if self.model.param(&param.value).is_some() && !held {
                    report.say(
                        Diagnostic::new(
                            "ucl::expect",
                            format!("`{}` is not in \"{}\"", param.value, expect.name.value),
                        )
                        .at(param.span, format!("it holds {}", super::list(&first.terms)))
                        .at(first.span, "by this line"),
                    );
                }
                let dims = first.declared.as_ref().unwrap_or(&first.shape).len();
                if index.len() != dims && index.len() != first.shape.len() {
                    report.say(
                        Diagnostic::new(
                            "ucl::expect",
                            format!(
                                "\"{}\" has {dims} stored dims, and the index has {}",
                                expect.name.value,
                                index.len()
                            ),
                        )
                        .at(expect.span, "one number for each stored dim")
                        .at(first.span, "by this line"),
                    );
                }
            }
            Pin::Shape(shape) => {
                // The header shows the declared shape where there is one.
                let fits = |rule: &&&ucl_ir::Rule| {
                    rule.declared.as_ref().unwrap_or(&rule.shape).len() == shape.value.len()
                };
                if rules.iter().find(fits).is_none() {
                    let dims = first.declared.as_ref().unwrap_or(&first.shape).len();
                    report.say(
                        Diagnostic::new(
                            "ucl::expect",
                            format!(
                                "\"{}\" has {dims} stored dims, and the shape here has {}",
                                expect.name.value,
                                shape.value.len()
                            ),
                        )
                        .at(shape.span, "one number for each stored dim")
                        .at(first.span, "by this line"),
                    );
                }
            }
        }
    }

    /// The dims of the element have to be those of the parameter.
    fn element(&self, at: &ast::Spanned<Mesh>, param: &ucl_ir::Param, report: &mut Report) {
        let composites = self.model.composites();
        let atoms = Atoms::new(&composites);
        let mut unknown = false;
        for dim in at.value.keys() {
            if !self.model.dims.iter().any(|known| known.name == *dim) {
                unknown = true;
                let known = self.model.dims.iter().map(|dim| dim.name.as_str());
                report.unknown_at(&self.owner(), "dim", dim, at.span, known);
            }
        }
        let mut wanted = atoms.flatten(param.each.iter().chain(&param.dims));
        let mut given = atoms.flatten(at.value.keys());
        wanted.sort();
        given.sort();
        if wanted != given && !unknown {
            let all: Vec<&str> = param.each.iter().chain(&param.dims).map(String::as_str).collect();
            report.say(
                Diagnostic::new(
                    "ucl::expect",
                    format!("an element of `{}` is told by `{}`", param.path, all.join(" ")),
                )
                .at(at.span, "other dims here")
                .help(format!(
                    "tell it by all of them, and by no other: `[{}=0]`",
                    all.join("=0 ")
                )),
            );
        }
    }

    fn mesh(&self, mesh: &Mesh, span: Span, report: &mut Report) {
        let mut axes: Vec<&str> = Vec::new();
        for axis in self.layouts.values().flat_map(|layout| &layout.axes) {
            if !axes.contains(&axis.name.as_str()) {
                axes.push(&axis.name);
            }
        }
        // One rank is what a model has that no layout cuts.
        let is_known = |(axis, ranks): &(&String, &u64)| {
            axes.contains(&axis.as_str()) || (axes.is_empty() && **ranks == 1)
        };
        for (axis, _) in mesh.iter().filter(|one| !is_known(one)) {
            report.unknown_at("the model", "mesh axis", axis, span, axes.clone());
        }
    }

    /// A rank lies in its mesh.
    fn rank(&self, expect: &ast::Expect, report: &mut Report) {
        for (axis, at) in &expect.rank.value {
            let size = expect.mesh.value.get(axis).copied().unwrap_or(1);
            if *at >= size {
                report.say(
                    Diagnostic::new(
                        "ucl::expect",
                        format!("rank {axis}={at} is outside of a mesh with {axis}={size}"),
                    )
                    .at(expect.rank.span, "ranks count from 0")
                    .at(expect.mesh.span, "the mesh"),
                );
            }
        }
    }

    fn owner(&self) -> String {
        format!("the model `{}`", self.model.name)
    }
}
