//! What a layout requires of the mesh, and which meshes would do.

use super::composite::Composites;
use super::cut::{Cuts, interval};
use super::facts::scope_numbers;
use super::number::Scope;
use super::size::Sizes;
use std::collections::BTreeMap;
use ucl_ir::{Cond, Diagnostic, Factor, Layout, Mesh, Program, Shard, View};

/// The largest number of ranks that advice names.
const MOST: u64 = 64;

/// What a layout requires of the mesh and does not hold.
pub(crate) fn obligations(
    layout: Option<&Layout>,
    sizes: &Sizes,
    (program, view): (&Program, &View),
    set: &BTreeMap<String, u64>,
    cuts: Cuts<'_>,
) -> Vec<Diagnostic> {
    let Some(layout) = layout else { return Vec::new() };
    let known = Known { program, view, layout, sizes, set };
    let broken = layout.requires.iter().filter(|(cond, _)| !known.holds(cond, cuts.mesh));
    broken
        .map(|(cond, span)| {
            let named = cond.names();
            let numbers: Vec<String> = named
                .iter()
                .filter_map(|name| Some(format!("{name}={}", known.number(name, cuts.mesh)?)))
                .collect();
            let of_mesh = known.axes(cuts.mesh, &named).next().is_some();
            let what = if of_mesh { "mesh" } else { "model" };
            let message = format!(
                "the {what} does not fit: with {}, `{cond}` does not hold",
                numbers.join(" ")
            );
            let found = Diagnostic::new("ucl::fit", message).at(*span, "this has to hold");
            match of_mesh {
                true => found.help(known.advice(cuts.mesh, &named)),
                false => {
                    found.help(format!("`{}` is for no such model, whatever the mesh", layout.name))
                }
            }
        })
        .collect()
}

struct Known<'a> {
    program: &'a Program,
    view: &'a View,
    layout: &'a Layout,
    sizes: &'a Sizes,
    set: &'a BTreeMap<String, u64>,
}

impl Known<'_> {
    fn number(&self, name: &str, mesh: &Mesh) -> Option<i64> {
        let composites = Composites::new(&self.program.model, None);
        let cuts = Cuts { layout: Some(self.layout), mesh };
        let said = scope_numbers(self.set, cuts)(name);
        said.or_else(|| i64::try_from(self.sizes.value(&composites.atoms(name))?).ok())
    }

    fn holds(&self, cond: &Cond, mesh: &Mesh) -> bool {
        let numbers = |name: &str| self.number(name, mesh);
        Scope { numbers: &numbers, document: None }.holds(cond)
    }

    /// Whether a mesh satisfies every `require`, and every cut that has to divide does.
    fn fits(&self, mesh: &Mesh) -> bool {
        let composites = Composites::new(&self.program.model, Some(&self.view.composites));
        let cuts = Cuts { layout: Some(self.layout), mesh };
        let extent = |dim: &str| {
            let sum = composites.polynomial(&[Factor::Name(dim.to_owned())], &str::to_owned);
            sum.iter().map(|(by, product)| Some(by * self.sizes.value(product)?)).sum()
        };
        let divides = |shard: &Shard| {
            let whole: Option<u64> = extent(&shard.dim);
            let size = |dim: &str| self.sizes.value(&composites.atoms(dim));
            let cut = |whole| interval(whole, (cuts.ranks(shard), 0), &shard.rest, &size);
            cuts.pad(&shard.dim).is_some() || whole.is_none_or(|whole| cut(whole).is_some())
        };
        self.layout.requires.iter().all(|(cond, _)| self.holds(cond, mesh))
            && self.reached(cuts).into_iter().all(divides)
    }

    /// The cuts that some tensor of the view meets: going down a shape, the first name that is cut.
    fn reached<'c>(&self, cuts: Cuts<'c>) -> Vec<&'c Shard> {
        let composites = Composites::new(&self.program.model, Some(&self.view.composites));
        let mut found = Vec::new();
        for rule in &self.view.rules {
            found.extend(cuts.met(&rule.shape, &rule.terms, &composites));
            let indices = rule.spellings[0].template.indices();
            found.extend(indices.filter_map(|dim| cuts.of(&rule.terms[0], dim)));
        }
        found
    }

    /// The axes that a condition is about.
    fn axes<'m>(&self, mesh: &'m Mesh, named: &[&str]) -> impl Iterator<Item = &'m String> {
        mesh.keys().filter(move |axis| named.contains(&axis.as_str()))
    }

    /// The sizes that would do, for each axis that the condition is about.
    fn advice(&self, mesh: &Mesh, named: &[&str]) -> String {
        let lines = self.axes(mesh, named).map(|axis| {
            let with = |size: u64| {
                let mut mesh = mesh.clone();
                mesh.insert(axis.clone(), size);
                mesh
            };
            let fits = (1..=MOST).filter(|size| self.fits(&with(*size)));
            let fits: Vec<String> = fits.map(|size| format!("{axis}={size}")).collect();
            match fits.is_empty() {
                true => format!("no size of `{axis}` up to {MOST} would do"),
                false => format!("these would do: {}", fits.join(", ")),
            }
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}
