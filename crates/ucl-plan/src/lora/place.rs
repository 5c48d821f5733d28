//! The weight of a pair: which tensor of which view it is, and what of the model is in it.

use super::{clipped, refuse};
use crate::algebra::{Component, Expr, flat_components};
use crate::bind::{Bound, claims_of, is_weight};
use crate::params::Param;
use crate::target::{Item, of_view, universal};
use ucl_formats::lora::Pair;
use ucl_ir::{Diagnostic, View};

/// The view of adapters that come from a folder of their own, where the checkpoint's is another.
const OF_ADAPTERS: &str = crate::huggingface::VIEW;

/// A pair's weight as a tensor of a view.
pub(super) struct Placed<'p> {
    item: &'p Item,
    rows: u64,
    columns: u64,
    /// The last dim of the model's parameter: it belongs to the input.
    last: Option<String>,
}

impl<'p> Placed<'p> {
    pub(super) fn of(
        bound: &Bound<'_>,
        places: &'p Places<'_>,
        pair: &Pair,
    ) -> Result<Placed<'p>, Diagnostic> {
        let Some(item) = places.find(bound, &pair.weight) else {
            return Err(refuse::no_weight(bound, pair));
        };
        let sizes: Vec<u64> = item.axes.iter().map(Expr::size).collect();
        let (rows, columns) = match item.shape[..] {
            [rows, columns] if sizes == item.shape => (rows, columns),
            _ => return Err(refuse::no_plain_weight(pair, &item.shape)),
        };
        let named = item.terms.first().filter(|_| bound.spec.is_some());
        let last = named.and_then(|term| bound.params[*term].dims.last());
        let last = last.map(|dim| dim.name.clone());
        Ok(Placed { item, rows, columns, last })
    }

    /// Whether the weight's rows are the input: by its shape, else by what is said, else by the order of
    /// the model's own dims, which has the output first.
    pub(super) fn transposed(
        &self,
        pair: &Pair,
        input: u64,
        output: u64,
    ) -> Result<bool, Diagnostic> {
        let shape = (self.rows, self.columns);
        match (shape == (output, input), shape == (input, output), pair.transposed) {
            (false, false, _) => {
                Err(refuse::shapes(pair, [self.rows, self.columns], input, output))
            }
            (true, false, _) => Ok(false),
            (false, true, _) => Ok(true),
            (true, true, Some(said)) => Ok(said),
            (true, true, None) => self.by_model().ok_or_else(|| refuse::square(pair)),
        }
    }

    fn by_model(&self) -> Option<bool> {
        let last = self.last.as_deref()?;
        let [rows, columns] = &self.item.axes[..] else { return None };
        match (has(rows, last), has(columns, last)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    /// What the view multiplies the weight's values by.
    pub(super) fn scale(&self) -> f64 {
        let of_weights = self.item.values.iter().find(|(state, _, _)| is_weight(state));
        of_weights.map_or(1.0, |(_, scale, _)| *scale)
    }

    /// What of the model's parameters is in the weight, by row-major numbers of its elements.
    pub(super) fn components(&self, bound: &Bound<'_>) -> Vec<(usize, Component)> {
        let item = self.item;
        let params: Vec<&Param> = item.terms.iter().map(|term| &bound.params[*term]).collect();
        let unit: Vec<(&str, u64)> =
            item.unit.iter().map(|(dim, at)| (dim.as_str(), *at)).collect();
        let all = flat_components(&item.axes, &unit, &params, (0, self.rows * self.columns));
        clipped(bound, &item.terms, all)
    }
}

/// Whether an expression ranges over a dim.
fn has(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Dim { dim, .. } => **dim == *name,
        Expr::Prod(parts) | Expr::Sum(parts) => parts.iter().any(|part| has(part, name)),
        Expr::Sub { of, .. } => has(of, name),
    }
}

/// The tensors of the views in which weights of pairs may be named.
pub(super) struct Places<'a> {
    /// Without a spec, those of the checkpoint itself.
    own: Vec<Item>,
    views: Vec<(&'a View, Vec<Item>)>,
}

impl<'a> Places<'a> {
    /// The checkpoint's own view, then that of its adapter.
    pub(super) fn of(bound: &Bound<'a>) -> Places<'a> {
        let Some((program, view)) = bound.spec else {
            return Places { own: universal(bound), views: Vec::new() };
        };
        let of_adapter = bound.inventory.adapters.view.as_deref().unwrap_or(OF_ADAPTERS);
        let other = program.views.get(of_adapter).filter(|other| other.name != view.name);
        let items = |view: &'a View| Some((view, of_view(bound, program, view, false).ok()?));
        let views = std::iter::once(view).chain(other).filter_map(items).collect();
        Places { own: Vec::new(), views }
    }

    /// The tensor that a pair's weight is.
    fn find(&self, bound: &Bound<'_>, name: &str) -> Option<&Item> {
        let own = self.own.iter().find(|item| item.name == name);
        own.or_else(|| {
            self.views.iter().find_map(|(view, items)| in_view(bound, view, items, name))
        })
    }
}

/// The tensor that a view calls so, with or without the prefix that names may come without.
fn in_view<'i>(bound: &Bound<'_>, view: &View, items: &'i [Item], name: &str) -> Option<&'i Item> {
    let longer = view.bases.iter().map(|base| format!("{base}{name}"));
    let claim = std::iter::once(name.to_owned())
        .chain(longer)
        .find_map(|name| claims_of(view, &name, bound.tied).into_iter().next())?;
    let rule = view.rules.get(claim.rule)?;
    let is_meant = |item: &&Item| {
        let paths = item.terms.iter().map(|term| &bound.params[*term].path);
        let at = |(dim, at): &(String, u64)| item.unit.iter().any(|(d, x)| (d, x) == (dim, at));
        paths.eq(rule.terms.iter()) && claim.indices.iter().all(at)
    };
    items.iter().find(is_meant)
}
