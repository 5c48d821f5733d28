//! Views: every line in full, with the field's words for it.

use super::expr;
use crate::{Class, Layout, Pattern, Program, Rule, ValueOp, ValueRule, View, patterns};
use indexmap::IndexMap;
use std::fmt::{self, Write};

/// The view that this one may extend in the text: the nearest that adds nothing to it when all its
/// lines are written out.
pub(super) fn base<'a>(program: &'a Program, view: &View) -> Option<&'a View> {
    let known = view.ancestors.iter().filter_map(|name| program.views.get(name));
    known.filter(|base| base.lacking.is_empty()).find(|base| adds_nothing(base, view))
}

/// The nearest ancestor that does not exist for the model. Extended without a line of its own it adds
/// nothing, and says whose names these are.
pub(super) fn family<'a>(program: &'a Program, view: &View) -> Option<&'a View> {
    let mut known = view.ancestors.iter().filter_map(|name| program.views.get(name));
    known.find(|other| !other.lacking.is_empty())
}

/// Such a view: its name, and what that extends.
pub(super) fn write_name(program: &Program, view: &View, f: &mut impl Write) -> fmt::Result {
    write!(f, "view {}", view.name)?;
    if let Some(family) = family(program, view) {
        write!(f, " extends {}", family.name)?;
    }
    writeln!(f)
}

fn adds_nothing(base: &View, view: &View) -> bool {
    let replaced = |rule: &Rule| {
        rule.terms.iter().any(|term| view.rules.iter().any(|own| own.terms.contains(term)))
    };
    let ignores = |view: &View| -> Vec<_> {
        view.ignores.iter().map(|ignore| ignore.template.clone()).collect()
    };
    let values = |view: &View| -> Vec<_> {
        view.values.iter().map(|value| (value.op, value.param.clone())).collect()
    };
    let bindings = |view: &View| -> Vec<_> {
        view.bindings.iter().map(|binding| (binding.document, binding.name.clone())).collect()
    };
    base.rules.iter().all(replaced)
        && ignores(view).starts_with(&ignores(base))
        && view.bases.starts_with(&base.bases)
        && values(base).iter().all(|value| values(view).contains(value))
        && bindings(view).starts_with(&bindings(base))
        && base.composites.keys().all(|name| view.composites.contains_key(name))
        && (base.classes.is_empty() || !view.classes.is_empty())
}

/// Whether the text has to name a view in the `for` of a layout.
pub(super) fn is_named(program: &Program, view: &View, layout: &Layout) -> bool {
    let inherits = base(program, view).is_some_and(|base| base.layouts == view.layouts);
    let named = program.layouts.values().any(|other| other.views.contains(&view.name));
    view.layouts.contains(&layout.name) && (named || !inherits)
}

pub(super) fn write(
    program: &Program,
    view: &View,
    base: Option<&View>,
    family: Option<&View>,
    f: &mut impl Write,
) -> fmt::Result {
    write!(f, "\nview {}", view.name)?;
    if let Some(base) = base.or(family) {
        write!(f, " extends {}", base.name)?;
    }
    if let Some(when) = &view.when {
        write!(f, " when {}", expr::cond(when))?;
    }
    writeln!(f, " {{")?;
    summary(program, view, f)?;
    let inherited = base.map_or(0, |base| base.bases.len());
    view.bases.iter().skip(inherited).try_for_each(|base| writeln!(f, "  base \"{base}\""))?;
    composites(program, view, base, f)?;
    rules(program, view, f)?;
    let inherited = base.map_or(0, |base| base.ignores.len());
    for ignore in view.ignores.iter().skip(inherited) {
        let place =
            program.place(ignore.span).map(|place| format!("  # {} · {place}", Pattern::Ignore));
        writeln!(f, "  ignore \"{}\"{}", ignore.template, place.unwrap_or_default())?;
    }
    let same = |a: &ValueRule, b: &ValueRule| a.op == b.op && a.by == b.by;
    for run in view.values.chunk_by(same) {
        let Some(first) = run.first() else { continue };
        let op = match first.op {
            ValueOp::Shift => "shift",
            ValueOp::Scale => "scale",
        };
        let params: Vec<&str> = run.iter().map(|value| value.param.as_str()).collect();
        writeln!(f, "  {op} {} by {}", params.join(", "), expr::expr(&first.by))?;
    }
    expr::bindings(&view.bindings, f)?;
    classes(view, base, f)?;
    writeln!(f, "}}")
}

/// All classes, where they are not those of the base.
fn classes(view: &View, base: Option<&View>, f: &mut impl Write) -> fmt::Result {
    let same = |a: &Class, b: &Class| a.name == b.name && a.dtype == b.dtype;
    let all = |view: &View| -> Vec<_> {
        let classes = view.classes.iter();
        classes.map(|(of, class)| (of.clone(), class.name.clone(), class.dtype.clone())).collect()
    };
    if base.is_some_and(|base| all(base) == all(view)) {
        return Ok(());
    }
    let own: Vec<_> = view.classes.iter().collect();
    for run in own.chunk_by(|a, b| same(a.1, b.1)) {
        let Some((_, first)) = run.first() else { continue };
        let types: Vec<String> = run.iter().map(|(of, _)| format!("\"{of}\"")).collect();
        write!(f, "  class \"{}\" for {}", first.name, types.join(", "))?;
        match &first.dtype {
            Some(dtype) => writeln!(f, " in {dtype}")?,
            None => writeln!(f)?,
        }
    }
    Ok(())
}

/// How often each word stands in the view.
fn summary(program: &Program, view: &View, f: &mut impl Write) -> fmt::Result {
    let layout = view.layouts.first().and_then(|name| program.layouts.get(name));
    let mut counts: IndexMap<String, usize> = IndexMap::new();
    let words = view.rules.iter().flat_map(|rule| patterns(program, view, layout, rule));
    for word in words.chain(view.ignores.iter().map(|_| Pattern::Ignore)) {
        let word = word.to_string();
        let kind = word.split(' ').next().unwrap_or_default();
        *counts.entry(kind.to_owned()).or_default() += 1;
    }
    counts.sort_by(|word, count, other, more| more.cmp(count).then(word.cmp(other)));
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{word} {count}")).collect();
    writeln!(f, "  # {}", counts.join(", "))
}

/// Composites that are not as the base, or else the model, has them.
fn composites(
    program: &Program,
    view: &View,
    base: Option<&View>,
    f: &mut impl Write,
) -> fmt::Result {
    let of_model = program.model.composites();
    let known = base.map_or(&of_model, |base| &base.composites);
    for (name, sum) in &view.composites {
        if known.get(name) != Some(sum) {
            writeln!(f, "  dims {name} = {}", expr::sum(sum))?;
        }
    }
    Ok(())
}

/// The columns of a line.
struct Line {
    /// Names; the last one is in the column.
    names: Vec<String>,
    shape: String,
    terms: String,
    remark: String,
}

fn rules(program: &Program, view: &View, f: &mut impl Write) -> fmt::Result {
    let lines: Vec<Line> = view.rules.iter().map(|rule| line(program, view, rule)).collect();
    let widest = |of: &dyn Fn(&Line) -> usize| lines.iter().map(of).max().unwrap_or(0);
    let names = widest(&|line| line.names.last().map_or(0, |name| name.chars().count()));
    let shapes = widest(&|line| line.shape.len());
    let terms = widest(&|line| line.terms.len());
    for line in &lines {
        let Some((last, others)) = line.names.split_last() else { continue };
        others.iter().try_for_each(|name| writeln!(f, "  {name}"))?;
        writeln!(
            f,
            "  {last:names$} : {:shapes$} = {:terms$}  # {}",
            line.shape, line.terms, line.remark
        )?;
    }
    Ok(())
}

fn line(program: &Program, view: &View, rule: &Rule) -> Line {
    let names = rule.spellings.iter().enumerate().map(|(number, spelling)| {
        let or = if number > 0 { "  or " } else { "" };
        let when = if spelling.when_tied { " when tied" } else { "" };
        format!("{or}\"{}\"{when}", spelling.template)
    });
    let mut shape = expr::factors(&rule.shape);
    if let Some(declared) = &rule.declared {
        shape = format!("{shape} declared {}", expr::factors(declared));
    }
    let place = program.place(rule.span).map(|place| format!(" · {place}")).unwrap_or_default();
    let remark = format!("{}{place}", words(program, view, rule));
    Line { names: names.collect(), shape, terms: rule.terms.join(" | "), remark }
}

/// The words, for each layout where they differ.
fn words(program: &Program, view: &View, rule: &Rule) -> String {
    let text = |layout: Option<&Layout>| {
        let words = patterns(program, view, layout, rule);
        words.iter().map(Pattern::to_string).collect::<Vec<_>>().join(", ")
    };
    let layouts = view.layouts.iter().filter_map(|name| program.layouts.get(name));
    let each: Vec<(&str, String)> =
        layouts.map(|layout| (layout.name.as_str(), text(Some(layout)))).collect();
    match each.as_slice() {
        [] => text(None),
        [(_, first), others @ ..] if others.iter().all(|(_, other)| other == first) => {
            first.clone()
        }
        several => {
            let named = several.iter().map(|(name, words)| format!("{name}: {words}"));
            named.collect::<Vec<_>>().join("; ")
        }
    }
}
