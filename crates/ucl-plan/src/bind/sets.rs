//! Layers that differ: which indices are in a set of the model.

use super::facts;
use super::number::Scope;
use super::program::Binder;
use super::size::Sizes;
use std::collections::BTreeMap;
use ucl_ir::{Diagnostic, Program, Set, SetDef};

/// How many names a message lists.
const LISTED: usize = 8;

/// For each set by name, whether an index is in it.
pub(crate) type Members = BTreeMap<String, Vec<bool>>;

/// The sets of which numbers tell what is in them.
pub(crate) fn told(
    program: &Program,
    sizes: &Sizes,
    number: &dyn Fn(&str) -> Option<i64>,
) -> Members {
    let mut members = Members::new();
    for set in &program.model.sets {
        let (SetDef::When(cond), Some(extent)) = (&set.def, sizes.atom(&set.dim)) else { continue };
        let holds = |index: u64| {
            let index = i64::try_from(index).ok()?;
            let numbers = |name: &str| if name == set.dim { Some(index) } else { number(name) };
            Scope { numbers: &numbers, document: None }.decides(cond)
        };
        let all: Option<Vec<bool>> = (0..extent).map(holds).collect();
        members.extend(all.map(|all| (set.name.clone(), all)));
    }
    rests(program, &mut members);
    members
}

/// Adds what is not in another set, where that one is known.
fn rests(program: &Program, members: &mut Members) {
    for set in &program.model.sets {
        let SetDef::Not(other) = &set.def else { continue };
        if let Some(other) = members.get(other) {
            let rest = other.iter().map(|is_in| !is_in).collect();
            members.insert(set.name.clone(), rest);
        }
    }
}

/// Whether a parameter exists at these indices of its name.
pub(crate) fn exists(
    program: &Program,
    members: &Members,
    param: &ucl_ir::Param,
    index: impl Fn(&str) -> Option<u64>,
) -> bool {
    let Some(set) = program.model.set_of(param) else { return true };
    let Some(members) = members.get(&set.name) else { return true };
    let at = index(&set.dim).and_then(|index| usize::try_from(index).ok());
    at.is_none_or(|at| members.get(at).copied().unwrap_or(false))
}

impl Binder<'_, '_> {
    /// Finds out what is in the sets: what numbers say, and where they say nothing, what is there. A
    /// tensor of an index that is not in its set is an error.
    pub(super) fn sets(&mut self) {
        let number = |name: &str| {
            let atoms = self.composites.atoms(name);
            let size = self.bound.sizes.value(&atoms).and_then(|size| i64::try_from(size).ok());
            size.or_else(|| {
                facts::bound_number(
                    self.program,
                    self.view,
                    self.inventory,
                    self.cuts,
                    self.set,
                    name,
                )
            })
        };
        let mut members = told(self.program, &self.bound.sizes, &number);
        let sets = &self.program.model.sets;
        for set in sets.iter().filter(|set| !matches!(set.def, SetDef::Not(_))) {
            let Some(extent) = self.bound.sizes.atom(&set.dim) else { continue };
            let there = self.there(set);
            let is_there = |index| there.iter().any(|(known, _)| *known == index);
            members.entry(set.name.clone()).or_insert_with(|| (0..extent).map(is_there).collect());
        }
        rests(self.program, &mut members);
        for set in sets {
            let Some(is_in) = members.get(&set.name) else { continue };
            let surplus = self.there(set).into_iter().filter(|(index, _)| {
                let index = usize::try_from(*index).unwrap_or(usize::MAX);
                !is_in.get(index).copied().unwrap_or(false)
            });
            let surplus: Vec<String> = surplus.map(|(_, name)| format!("{name:?}")).collect();
            if !surplus.is_empty() {
                let more = surplus.len().saturating_sub(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let listed = surplus[..surplus.len().min(LISTED)].join(", ");
                self.wrong.push(
                    Diagnostic::new(
                        "ucl::bind",
                        format!(
                            "{listed}{more} should not be there: the set `{}` is {}",
                            set.name,
                            numbers(&set.dim, is_in)
                        ),
                    )
                    .at(set.span, "the set")
                    .help("the names, the config and the spec have to agree: is it the right model, config or --set?"),
                );
            }
        }
        self.bound.sets = members;
    }

    /// The stored names of a set's parameters, by index.
    fn there(&self, set: &Set) -> Vec<(u64, String)> {
        let mut found: Vec<(u64, String)> = Vec::new();
        for ((number, indices), own) in &self.bound.own {
            let path = &self.bound.params[*number].path;
            let Some(param) = self.program.model.param(path) else { continue };
            let at = param.each.iter().position(|dim| *dim == set.dim);
            if param.set.as_ref() == Some(&set.name)
                && let Some(index) = at.and_then(|at| indices.get(at))
            {
                found.push((*index, own.name.clone()));
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// `l` = 0, 1 and 5.
fn numbers(dim: &str, is_in: &[bool]) -> String {
    let all: Vec<String> = is_in
        .iter()
        .enumerate()
        .filter(|(_, is_in)| **is_in)
        .map(|(index, _)| index.to_string())
        .collect();
    match all.as_slice() {
        [] => "empty".to_owned(),
        [one] => format!("`{dim}` = {one}"),
        [most @ .., last] => format!("`{dim}` = {} and {last}", most.join(", ")),
    }
}
