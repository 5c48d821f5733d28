//! Balance: the indices of a name and the dims of its shape are the dims of the parameter.

use super::{Known, title};
use ucl_ir::{Atoms, Diagnostic, DimDef, Param, Program, Rule, Shape, Template, TwoSums, View};

pub(super) fn check(program: &Program, view: &View, known: &Known, found: &mut Vec<Diagnostic>) {
    let atoms = Atoms::new(&view.composites);
    for rule in &view.rules {
        if known.is_broken(rule.span) || !all_known(program, &atoms, rule) {
            continue;
        }
        let one = Balance { program, view, atoms, rule };
        found.extend(one.check(known));
    }
}

/// Names that do not exist are told elsewhere.
fn all_known(program: &Program, atoms: &Atoms<'_>, rule: &Rule) -> bool {
    let is_atom = |name: &String| {
        program.model.dims.iter().any(|d| d.name == *name && matches!(d.def, DimDef::Atom(_)))
    };
    let mut indices = rule.spellings.iter().flat_map(|spelling| spelling.template.indices());
    if !indices.all(|index| is_atom(&index.to_owned())) {
        return false;
    }
    let shapes = rule.shape.iter().chain(rule.declared.iter().flatten());
    shapes.flat_map(|factor| atoms.of(factor)).all(|atom| is_atom(&atom))
}

struct Balance<'a> {
    program: &'a Program,
    view: &'a View,
    atoms: Atoms<'a>,
    rule: &'a Rule,
}

impl Balance<'_> {
    fn check(&self, known: &Known) -> Vec<Diagnostic> {
        let alternatives = match self.atoms.alternatives(&self.rule.shape) {
            Ok(alternatives) => alternatives,
            Err(two) => return vec![self.two_sums(two)],
        };
        if alternatives.len() != self.rule.terms.len() {
            return vec![self.count(alternatives.len())];
        }
        let mut found = Vec::new();
        for (number, (shape, term)) in alternatives.iter().zip(&self.rule.terms).enumerate() {
            let Some(param) = self.program.model.param(term) else { continue };
            if known.is_broken(param.span) {
                continue;
            }
            // Every spelling has its own indices; as soon as one is wrong it is enough.
            let wrong =
                self.rule.spellings.iter().find_map(|spelling| {
                    self.alternative(number, &spelling.template, shape, param)
                });
            found.extend(wrong);
        }
        if found.is_empty()
            && let Some(declared) = &self.rule.declared
        {
            found.extend(self.declared(declared));
        }
        found
    }

    /// One alternative of one name against its parameter.
    fn alternative(
        &self,
        number: usize,
        name: &Template,
        shape: &[String],
        param: &Param,
    ) -> Option<Diagnostic> {
        let model = self.program.model.composites();
        let wanted = Atoms::new(&model).flatten(param.each.iter().chain(&param.dims));
        let indices: Vec<String> = name.indices().map(str::to_owned).collect();
        let stored = [indices.as_slice(), shape].concat();
        let mut missing = wanted.clone();
        let mut extra = Vec::new();
        for atom in &stored {
            match missing.iter().position(|other| other == atom) {
                Some(at) => {
                    missing.remove(at);
                }
                None => extra.push(atom.clone()),
            }
        }
        if missing.is_empty() && extra.is_empty() {
            return None;
        }
        let say = |atoms: &[String]| match Atoms::new(&model).compress(atoms) {
            names if names.is_empty() => "no dims".to_owned(),
            names => format!("`{}`", names.join(" ")),
        };
        let alternatives = self.rule.terms.len() > 1;
        let part = match alternatives {
            true => format!("alternative {} of ", number + 1),
            false => String::new(),
        };
        let place =
            if alternatives { format!(" in alternative {}", number + 1) } else { String::new() };
        let twice = extra.iter().find(|atom| wanted.contains(atom));
        let named = |atom: &&String| indices.contains(atom) && shape.contains(atom);
        let (label, help) = match (missing.as_slice(), extra.as_slice()) {
            (_, _) if twice.as_ref().is_some_and(named) => (
                format!("{} is in the name and in the shape", say(&extra)),
                format!(
                    "take {} out of the shape: the index in the name stands for it",
                    say(&extra)
                ),
            ),
            ([], extra) if twice.is_some() => (
                format!("{} is there twice{place}", say(extra)),
                format!(
                    "a dim stands once on each path: take one {} out, or put `1` in its place",
                    say(extra)
                ),
            ),
            ([], extra) => (
                format!("{} is too much{place}", say(extra)),
                format!("take {} out of the shape, or put `1` in its place", say(extra)),
            ),
            (missing, []) => (
                format!("{} is missing{place}", say(missing)),
                format!(
                    "add {} to the shape{place}, at the place where it is stored",
                    say(missing)
                ),
            ),
            (missing, extra) => (
                format!("{} is missing and {} is too much{place}", say(missing), say(extra)),
                format!("write {} in place of {}{place}", say(missing), say(extra)),
            ),
        };
        Some(
            Diagnostic::new(
                "ucl::balance",
                format!(
                    "{part}\"{name}\" is over {}, but `{}` is over {}",
                    say(&stored),
                    param.path,
                    say(&wanted)
                ),
            )
            .at(self.rule.span, label)
            .at(param.span, format!("`{}` is declared here", param.path))
            .help(help),
        )
    }

    fn count(&self, alternatives: usize) -> Diagnostic {
        let terms = self.rule.terms.len();
        let help = match (alternatives, terms) {
            (1, _) => format!(
                "parameters in one tensor lie one after the other: write a sum with {terms} alternatives, `(… | …)`"
            ),
            (_, 1) => "write one parameter for each alternative, `a | b`, counted from the left"
                .to_owned(),
            _ => "each alternative of the shape is one parameter, counted from the left".to_owned(),
        };
        let text = format!(
            "{} has {} in its shape and {} on the right",
            title(self.rule),
            plural(alternatives, "alternative"),
            plural(terms, "parameter")
        );
        Diagnostic::new("ucl::balance", text)
            .at(self.rule.span, format!("{alternatives} against {terms}"))
            .help(help)
    }

    fn two_sums(&self, two: TwoSums) -> Diagnostic {
        let (text, help) = match two {
            TwoSums::InProduct => (
                "has two sums in one product",
                "one sum tells which parameter it is; take one out, or write the product as one sum",
            ),
            TwoSums::Nested => (
                "has a sum inside an alternative of a sum",
                "write all alternatives beside each other: `(a | b | c)`",
            ),
        };
        Diagnostic::new("ucl::balance", format!("the shape of {} {text}", title(self.rule)))
            .at(self.rule.span, "which alternative is which parameter?")
            .help(help)
    }

    /// The declared shape has to have room for the same elements.
    fn declared(&self, declared: &Shape) -> Option<Diagnostic> {
        let atoms = Atoms::new(&self.view.composites);
        (atoms.size(&self.rule.shape) != atoms.size(declared)).then(|| {
            Diagnostic::new(
                "ucl::balance",
                format!(
                    "the declared shape of {} has other dims than its order in memory",
                    title(self.rule)
                ),
            )
            .at(self.rule.span, "both have to hold the same elements")
            .help("write the same dims, in the order and the groups that the file's header shows")
        })
    }
}

fn plural(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
