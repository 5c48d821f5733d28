//! What `expect` lines say, held against what the spec makes of them.

use super::code::element;
use super::memory::Way;
use super::round::{optionals, with};
use crate::algebra::{Expr, clip, flat_components};
use crate::bind::Composites;
use crate::params::Param;
use crate::shard::{Shards, shard_by};
use std::collections::BTreeMap;
use ucl_ir::{Diagnostic, Expect, Layout, Mesh, Pin, Program, Test, View};

/// Holds an `expect` against the spec.
///
/// # Errors
/// The spec says otherwise; says what.
pub(super) fn check(program: &Program, test: &Test, expect: &Expect) -> Result<(), Diagnostic> {
    let fails =
        |text: String| Diagnostic::new("ucl::expect", text).at(expect.span, "expected here");
    let Some(view) = program.views.get(&expect.view) else {
        return Err(fails(format!("there is no view `{}`", expect.view)));
    };
    let layout = serving(program, view, expect);
    let layout = layout.map_err(|why| fails(format!("`{}`: {why}", expect.view)))?;
    let set: BTreeMap<String, u64> = test.sizes.clone().into_iter().collect();
    let set = with(&set, &optionals(program, view, &set));
    let mut refused = None;
    for tied in [false, true] {
        let way = Way { program, view, layout, mesh: &expect.mesh, set: &set, tied };
        match shard_by(way.program, way.view, way.layout, way.set, way.mesh, way.tied) {
            Ok(shards) => {
                if let Some(place) = find(&shards, expect) {
                    return pinned(program, &shards, place, &expect.pin).map_err(fails);
                }
            }
            Err(wrong) => refused = refused.or(wrong.into_iter().next()),
        }
    }
    Err(match refused {
        Some(why) => fails(format!("the view `{}` is refused: {}", expect.view, why.message)),
        None => fails(format!("the rank does not store \"{}\"", expect.name)),
    })
}

/// The layout that an `expect` names, else the first that has all axes of its mesh; `None` where
/// nothing is cut.
///
/// # Errors
/// No layout has them; names the axis.
fn serving<'p>(
    program: &'p Program,
    view: &View,
    expect: &Expect,
) -> Result<Option<&'p Layout>, String> {
    let mesh = &expect.mesh;
    if let Some(name) = &expect.layout {
        return Ok(program.layouts.get(name));
    }
    let layouts = view.layouts.iter().filter_map(|name| program.layouts.get(name));
    let mut layouts = layouts.filter(|layout| lacking(Some(layout), mesh).is_none());
    match (layouts.next(), lacking(None, mesh)) {
        (Some(layout), _) => Ok(Some(layout)),
        (None, None) => Ok(None),
        (None, Some(axis)) => Err(format!("no layout has the axis `{axis}`")),
    }
}

/// An axis of more than one rank that a layout does not have.
pub(super) fn lacking<'m>(layout: Option<&Layout>, mesh: &'m Mesh) -> Option<&'m str> {
    let has = |axis: &str| layout.is_some_and(|l| l.axes.iter().any(|known| known.name == axis));
    mesh.iter().find(|(axis, ranks)| **ranks > 1 && !has(axis)).map(|(axis, _)| axis.as_str())
}

/// The rank and the tensor that an `expect` names.
fn find(shards: &Shards, expect: &Expect) -> Option<(usize, usize)> {
    let at = |mesh: &Mesh, axis: &str| mesh.get(axis).copied().unwrap_or(0);
    let rank = shards
        .ranks
        .iter()
        .position(|rank| rank.at.keys().all(|axis| at(&rank.at, axis) == at(&expect.rank, axis)))?;
    let tensor = shards.ranks[rank].tensors.iter().position(|(name, _)| *name == expect.name)?;
    Some((rank, tensor))
}

fn pinned(
    program: &Program,
    shards: &Shards,
    (rank, tensor): (usize, usize),
    pin: &Pin,
) -> Result<(), String> {
    let (name, shape) = &shards.ranks[rank].tensors[tensor];
    match pin {
        Pin::Shape(expected) if expected == shape => Ok(()),
        Pin::Shape(_) => Err(format!("\"{name}\" has the shape {shape:?}")),
        Pin::Element { index, param, at } => {
            let (found, indices) = element_at(shards, (rank, tensor), index)?;
            let composites = Composites::new(&program.model, None);
            let same = found.path == *param
                && at.iter().all(|(dim, index)| along(&composites, found, &indices, dim) == *index);
            if same { Ok(()) } else { Err(format!("it is {}", element(found, &indices))) }
        }
    }
}

/// The parameter and the indices of an element of a rank's tensor.
pub(super) fn element_at<'s>(
    shards: &'s Shards,
    (rank, tensor): (usize, usize),
    index: &[u64],
) -> Result<(&'s Param, Vec<u64>), String> {
    let item = &shards.ranks[rank].items[tensor];
    let memory: Vec<u64> = item.axes.iter().map(Expr::size).collect();
    let shape = if index.len() == item.shape.len() { &item.shape } else { &memory };
    if index.len() != shape.len() || index.iter().zip(shape).any(|(at, extent)| at >= extent) {
        return Err(format!("{index:?} is outside of the shape {shape:?}"));
    }
    let flat = index.iter().zip(shape).fold(0, |flat, (at, extent)| flat * extent + at);
    let params: Vec<&Param> = item.terms.iter().map(|term| &shards.params[*term]).collect();
    let unit: Vec<(&str, u64)> = item.unit.iter().map(|(dim, at)| (dim.as_str(), *at)).collect();
    let found = flat_components(&item.axes, &unit, &params, (flat, flat + 1)).into_iter().next();
    let found = found.and_then(|component| {
        let param = params[component.term];
        Some((param, clip(component, param)?.bounds.iter().map(|(lo, _)| *lo).collect()))
    });
    found.ok_or_else(|| format!("{index:?} is padding"))
}

/// The index along a dim, from those of its atoms.
fn along(composites: &Composites<'_>, param: &Param, indices: &[u64], dim: &str) -> u64 {
    let mut index = 0;
    for atom in composites.atoms(dim) {
        let found = param.dims.iter().zip(indices).find(|(known, _)| known.name == atom);
        if let Some((known, at)) = found {
            index = index * known.extent + at;
        }
    }
    index
}
