//! Boxes of one parameter's dims at addresses.

use super::expr::Expr;
use super::walk::{Bound, signed, walk};
use crate::params::Param;
use smallvec::SmallVec;

/// Index ranges, one per dim of a parameter.
pub(crate) type Bounds = SmallVec<[(u64, u64); 8]>;

/// Distances between neighbours, one per dim of a parameter.
pub(crate) type Strides = SmallVec<[i64; 8]>;

/// A box of a parameter, and where its elements are: `base + Σ stride · (x − lo)`, in elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Component {
    /// Which of the rule's terms it is of.
    pub(crate) term: usize,
    /// The address of the low corner.
    pub(crate) base: i64,
    /// The box. It may pass the true extents until it is clipped.
    pub(crate) bounds: Bounds,
    /// The strides.
    pub(crate) strides: Strides,
}

/// The boxes of the elements `a..b` of a dense row-major tensor with these stored dims.
///
/// `unit` are dims that are fixed by the name; `params` are the rule's terms.
pub(crate) fn flat_components(
    axes: &[Expr],
    unit: &[(&str, u64)],
    params: &[&Param],
    (a, b): (u64, u64),
) -> Vec<Component> {
    let factors: Vec<&Expr> = axes.iter().collect();
    let mut out = Vec::new();
    walk(&factors, a, b, 0, &mut |found| {
        out.push(component(found.term, found.base, found.bounds, unit, params));
    });
    out
}

/// The boxes of a whole tensor whose stored dims have these strides.
pub(crate) fn strided_components(
    axes: &[Expr],
    strides: &[i64],
    unit: &[(&str, u64)],
    params: &[&Param],
) -> Vec<Component> {
    let whole: Bounds = axes.iter().map(|axis| (0, axis.size())).collect();
    boxed_components(axes, &whole, strides, unit, params)
}

/// The boxes of a part of a tensor: these indices of its stored dims, the first of them at 0.
pub(crate) fn boxed_components(
    axes: &[Expr],
    part: &[(u64, u64)],
    strides: &[i64],
    unit: &[(&str, u64)],
    params: &[&Param],
) -> Vec<Component> {
    let mut whole: Vec<(Option<usize>, i64, Vec<Bound>)> = vec![(None, 0, Vec::new())];
    for ((axis, (lo, hi)), stride) in axes.iter().zip(part).zip(strides) {
        let mut next = Vec::new();
        walk(&[axis], *lo, *hi, -signed(*lo), &mut |found| {
            for (term, base, bounds) in &whole {
                let mut bounds = bounds.clone();
                bounds.extend(found.bounds.iter().cloned().map(|mut bound| {
                    bound.stride *= stride;
                    bound
                }));
                next.push((found.term.or(*term), base + found.base * stride, bounds));
            }
        });
        whole = next;
    }
    whole.iter().map(|(term, base, bounds)| component(*term, *base, bounds, unit, params)).collect()
}

fn component(
    term: Option<usize>,
    base: i64,
    found: &[Bound],
    unit: &[(&str, u64)],
    params: &[&Param],
) -> Component {
    let term = term.unwrap_or(0);
    let param = params[term];
    let mut bounds = Bounds::new();
    let mut strides = Strides::new();
    for dim in &param.dims {
        if let Some(bound) = found.iter().find(|bound| *bound.dim == *dim.name) {
            bounds.push((bound.lo, bound.hi));
            strides.push(bound.stride);
        } else {
            let index = unit.iter().find(|(name, _)| *name == dim.name).map_or(0, |unit| unit.1);
            bounds.push((index, index + 1));
            strides.push(0);
        }
    }
    Component { term, base, bounds, strides }
}

/// Cuts a box back to the true extents; `None` if nothing of it is left.
pub(crate) fn clip(mut component: Component, param: &Param) -> Option<Component> {
    for (bound, dim) in component.bounds.iter_mut().zip(&param.dims) {
        bound.1 = bound.1.min(dim.extent);
        if bound.0 >= bound.1 {
            return None;
        }
    }
    Some(component)
}

/// The number of elements of a box.
pub(crate) fn volume(bounds: &[(u64, u64)]) -> u64 {
    bounds.iter().map(|(lo, hi)| hi - lo).product()
}

/// The elements that two boxes share.
pub(crate) fn meet(a: &[(u64, u64)], b: &[(u64, u64)]) -> Option<Bounds> {
    let mut shared = Bounds::new();
    for (x, y) in a.iter().zip(b) {
        let both = (x.0.max(y.0), x.1.min(y.1));
        if both.0 >= both.1 {
            return None;
        }
        shared.push(both);
    }
    Some(shared)
}

/// The address of a box's low corner inside of a bigger box at `base`.
pub(crate) fn address(
    base: i64,
    outer: &[(u64, u64)],
    strides: &[i64],
    inner: &[(u64, u64)],
) -> i64 {
    let steps = outer.iter().zip(inner).zip(strides);
    base + steps.map(|((from, to), stride)| signed(to.0 - from.0) * stride).sum::<i64>()
}
