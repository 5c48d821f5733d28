//! Lines that could be wrong without any `expect` noticing.

use super::memory::Way;
use super::mutant::{Mutant, leading, mutants, names, partners};
use super::pin;
use super::round::{optionals, usable, with};
use crate::bind::Composites;
use crate::shard::{Shards, shard_by};
use std::collections::{BTreeMap, BTreeSet};
use ucl_ir::{Diagnostic, Factor, Mesh, Program, Rule, Shard, Span, Test, View, shape_text};

/// The lines of a program's own file that fuse or reorder dims, or cut them, and that some other line
/// could stand for as far as its `expect`s tell.
pub fn unpinned(program: &Program) -> Vec<Diagnostic> {
    if program.tests.is_empty() {
        return Vec::new();
    }
    let mut found = equations(program);
    found.extend(cuts(program));
    found
}

fn equations(program: &Program) -> Vec<Diagnostic> {
    let mut lines: BTreeMap<(u32, String), Vec<&View>> = BTreeMap::new();
    let mut spans: BTreeMap<(u32, String), Span> = BTreeMap::new();
    for view in usable(program) {
        for rule in view.rules.iter().filter(|rule| rule.span.source == 0 || view.span.source == 0)
        {
            if leading(view, rule.span) != Some(rule) || !is_choice(program, view, rule) {
                continue;
            }
            // One line reads differently where a view defines a name in its shape anew.
            let meaning = meaning(program, view, rule);
            if rule.span.source != 0 && !is_new(program, view, rule, &meaning) {
                continue;
            }
            let key = (rule.span.start, format!("{} {meaning}", rule.span.source));
            spans.insert(key.clone(), rule.span);
            lines.entry(key).or_default().push(view);
        }
    }
    let mut found = Vec::new();
    for (key, views) in lines {
        let span = spans[&key];
        let open = views.iter().map(|view| open(program, view, span));
        // A line of several views is pinned by an `expect` in any of them.
        let Some(shared) = open.reduce(|a, b| a.intersection(&b).cloned().collect()) else {
            continue;
        };
        let Some(first) = shared.first() else { continue };
        let view = views[0];
        let rule = leading(view, span);
        let name = rule.map_or_else(String::new, |r| r.spellings[0].template.to_string());
        let more = match shared.len() - 1 {
            0 => String::new(),
            1 => ", nor from another".to_owned(),
            more => format!(", nor from {more} others"),
        };
        let message =
            format!("`{}` \"{name}\": no expect tells it from `{first}`{more}", view.name);
        let place = if span.source == 0 { span } else { view.span };
        found.push(Diagnostic::new("ucl::pin", message).at(place, "this line"));
    }
    found
}

/// The changes of a line that no `expect` notices.
fn open(program: &Program, view: &View, span: Span) -> BTreeSet<String> {
    // Only what the line has to do with is made again and again.
    let lines = related(program, view, span);
    let mut small = program.clone();
    small.views.clear();
    small.sources.clear();
    for test in &mut small.tests {
        test.expects.retain(|expect| {
            let spells = |rule: &Rule| {
                rule.spellings.iter().any(|s| s.template.capture(&expect.name).is_some())
            };
            expect.view == view.name
                && view.rules.iter().any(|rule| lines.contains(&rule.span) && spells(rule))
        });
    }
    let alone = |mut view: View| {
        view.rules.retain(|rule| lines.contains(&rule.span));
        view
    };
    let original = stored(&small, &alone(view.clone()));
    let mut open = BTreeSet::new();
    for Mutant { view: changed, text } in mutants(program, view, span) {
        let changed = alone(changed);
        let contents = stored(&small, &changed);
        if contents.is_some() && contents == original {
            continue; // It says the same.
        }
        small.views.insert(view.name.clone(), changed);
        if holds_all(&small, |_| true) {
            open.insert(text);
        }
    }
    open
}

/// The lines that a change of one may show in: those that share a name for dims that the view defines,
/// and those that it may be exchanged with.
fn related(program: &Program, view: &View, span: Span) -> BTreeSet<Span> {
    let Some(rule) = leading(view, span) else { return BTreeSet::new() };
    let shared: Vec<&str> =
        names(&rule.shape).into_iter().filter(|name| view.composites.contains_key(*name)).collect();
    let partners = partners(program, view, rule);
    let related = |other: &&Rule| {
        other.span == span
            || names(&other.shape).iter().any(|name| shared.contains(name))
            || other.terms.iter().any(|term| partners.contains(&term))
    };
    view.rules.iter().filter(related).map(|rule| rule.span).collect()
}

/// Whether every `expect` that is asked for still holds.
fn holds_all(program: &Program, asked: impl Fn(&ucl_ir::Expect) -> bool) -> bool {
    let expects = program.tests.iter().flat_map(|test| test.expects.iter().map(move |e| (test, e)));
    expects
        .filter(|(_, expect)| asked(expect))
        .all(|(test, expect)| pin::check(program, test, expect).is_ok())
}

/// A tensor and the moves that make it, as text.
type Content = (String, Vec<String>);

/// What a view stores where nothing is cut, by the sizes of each test: the element at every place.
fn stored(program: &Program, view: &View) -> Option<Vec<Vec<Content>>> {
    let mesh = Mesh::new();
    program
        .tests
        .iter()
        .map(|test| {
            let set = sizes(program, view, test);
            let way = Way { program, view, layout: None, mesh: &mesh, set: &set, tied: false };
            let shards =
                shard_by(way.program, way.view, way.layout, way.set, way.mesh, way.tied).ok()?;
            Some(contents(&shards))
        })
        .collect()
}

fn sizes(program: &Program, view: &View, test: &Test) -> BTreeMap<String, u64> {
    let set: BTreeMap<String, u64> = test.sizes.clone().into_iter().collect();
    with(&set, &optionals(program, view, &set))
}

/// Every tensor of every rank, element by element.
fn contents(shards: &Shards) -> Vec<Content> {
    let mut found = Vec::new();
    for (rank, of) in shards.ranks.iter().enumerate() {
        for (tensor, (name, shape)) in of.tensors.iter().enumerate() {
            let seed = |path: &str| {
                shards.params.iter().position(|param| param.path == path).unwrap_or(0) as u64
            };
            let len = shape.iter().product();
            let steps = shards.synthesise((rank, tensor), 0..len, 0, ucl_tensor::DType::U8, &seed);
            let steps = steps
                .iter()
                .map(|step| format!("{:?} {} {} {:?}", step.role, step.from, step.to, step.loops));
            found.push((format!("{:?} {name} {shape:?}", of.at), steps.collect()));
        }
    }
    found
}

/// Cuts of the program's own layouts that every `expect` would hold without.
fn cuts(program: &Program) -> Vec<Diagnostic> {
    let used = program.layouts.values().filter(|layout| is_used(program, &layout.name));
    let own = used.flat_map(|layout| layout.shards.iter().map(move |shard| (layout, shard)));
    let mut found: Vec<(&Shard, Diagnostic)> = Vec::new();
    // Under global numbers a rank without the cut would only hold more, and no `expect` says what it
    // does not hold.
    for (layout, shard) in own.filter(|(_, shard)| shard.span.source == 0 && !shard.global) {
        // Layouts that inherit a line have it from there.
        if found.iter().any(|(known, _)| known.span == shard.span && known.dim == shard.dim) {
            continue;
        }
        let mut mutated = program.clone();
        for layout in mutated.layouts.values_mut() {
            layout.shards.retain(|other| other.span != shard.span || other.dim != shard.dim);
        }
        if holds_all(&mutated, |_| true) {
            let message =
                format!("`{}` {}: every expect holds without it", layout.name, told(shard));
            let one = Diagnostic::new("ucl::pin", message).at(shard.span, "this cut");
            found.push((shard, one));
        }
    }
    found.into_iter().map(|(_, one)| one).collect()
}

fn is_used(program: &Program, layout: &str) -> bool {
    usable(program).any(|view| view.layouts.iter().any(|name| name == layout))
}

fn told(shard: &Shard) -> String {
    let word = if shard.stage { "stage" } else { "shard" };
    let of =
        if shard.of.is_empty() { String::new() } else { format!(" of {}", shard.of.join(", ")) };
    format!("{word} {}{of} over {}", shard.dim, shard.over.join(", "))
}

/// Whether a line decides an order: it fuses, it reorders, or another view has its parameter in another
/// order or fused.
fn is_choice(program: &Program, view: &View, rule: &Rule) -> bool {
    let [term] = &rule.terms[..] else { return true };
    let own = order(program, view, rule);
    let Some(param) = program.model.params.iter().find(|param| param.path == *term) else {
        return false;
    };
    let composites = Composites::new(&program.model, None);
    let indices: Vec<&str> = rule.spellings[0].template.indices().collect();
    let dims = param.each.iter().chain(&param.dims).filter(|dim| !indices.contains(&dim.as_str()));
    let plain: Vec<String> = dims.flat_map(|dim| composites.atoms(dim)).collect();
    let elsewhere = || {
        usable(program).any(|other| {
            other
                .rules
                .iter()
                .filter(|rule| rule.terms.contains(term))
                .any(|rule| rule.terms.len() > 1 || differs(&own, &order(program, other, rule)))
        })
    };
    own != plain || elsewhere()
}

/// Whether two orders of atoms, of which one may have more, put any two differently.
fn differs(a: &[String], b: &[String]) -> bool {
    let shared = |one: &[String], other: &[String]| {
        one.iter().filter(|atom| other.contains(atom)).cloned().collect::<Vec<_>>()
    };
    shared(a, b) != shared(b, a)
}

/// The atoms of a line's shape, outermost first.
fn order(program: &Program, view: &View, rule: &Rule) -> Vec<String> {
    fn walk(factors: &[Factor], out: &mut Vec<String>) {
        for factor in factors {
            match factor {
                Factor::One => {}
                Factor::Name(name) => out.push(name.clone()),
                Factor::Group(sum) => {
                    sum.alternatives.iter().for_each(|product| walk(product, out));
                }
            }
        }
    }
    let mut atoms = Vec::new();
    walk(&Composites::new(&program.model, Some(&view.composites)).written(&rule.shape), &mut atoms);
    atoms
}

/// A line's shape with every name written out.
fn meaning(program: &Program, view: &View, rule: &Rule) -> String {
    let composites = Composites::new(&program.model, Some(&view.composites));
    shape_text(&composites.written(&rule.shape))
}

/// Whether a line of another file means something new in this view: the views that it extends have the
/// line, and none reads it so.
fn is_new(program: &Program, view: &View, rule: &Rule, own: &str) -> bool {
    let ancestors = view.ancestors.iter().filter_map(|name| program.views.get(name));
    let mut known = ancestors.flat_map(|ancestor| {
        let same = ancestor.rules.iter().filter(|other| other.span == rule.span);
        same.map(|other| meaning(program, ancestor, other))
    });
    let first = known.next();
    first.is_some_and(|first| first != own) && known.all(|meaning| meaning != own)
}
