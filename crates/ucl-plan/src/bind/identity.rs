//! The built-in model: every stored name is a parameter, its stored dims are its dims.

use super::atlas::{Atlas, Piece, PieceRole};
use super::buffers::Buffers;
use super::{Bound, Own, Sizes};
use crate::algebra::{
    Component, Expr, boxed_components, clip, flat_components, strided_components,
};
use crate::params::{Param, ParamDim};
use crate::work::Check;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use ucl_formats::Inventory;
use ucl_formats::inventory::{Data, Stored};
use ucl_ir::Diagnostic;

/// Binds an inventory whose tensors are cut by nothing but data parallelism and pipeline stages.
///
/// # Errors
/// A tensor that is stored at several tensor-parallel ranks: how they fit together is not known
/// without a spec.
pub(crate) fn bind_identity(inventory: &Inventory) -> Result<Bound<'_>, Vec<Diagnostic>> {
    let cut = cut_without_spec(inventory);
    if !cut.is_empty() {
        return Err(cut);
    }
    let mut bound = Bound {
        inventory,
        spec: None,
        sure: None,
        layout: None,
        params: Vec::new(),
        own_params: 0,
        tied: false,
        missing: Vec::new(),
        ignored: Vec::new(),
        notes: Vec::new(),
        padding: IndexMap::new(),
        set: BTreeMap::new(),
        sizes: Sizes::default(),
        padded: BTreeMap::new(),
        sets: super::Members::new(),
        spellings: BTreeMap::new(),
        without_base: None,
        atlas: Atlas::default(),
        buffers: Buffers::of(inventory),
        checks: Vec::new(),
        own: IndexMap::new(),
    };
    let wrong = as_stored(&mut bound, |_| true);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    bound.own_params = bound.params.len();
    bound.atlas.finish();
    let unclaimed = bound.buffers.prove(inventory);
    if unclaimed.is_empty() { Ok(bound) } else { Err(unclaimed) }
}

/// Makes every stored tensor that is asked for a parameter of its own name and dims.
///
/// Gives the tensors whose shapes disagree; then nothing was made.
pub(super) fn as_stored(bound: &mut Bound<'_>, is_asked: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
    let inventory = bound.inventory;
    let tensors =
        || inventory.tensors.iter().enumerate().filter(|(_, stored)| is_asked(&stored.name));
    let start = bound.params.len();
    let mut names: IndexMap<&str, usize> = IndexMap::new();
    let mut params: Vec<Param> = Vec::new();
    let mut wrong = Vec::new();
    for (_, stored) in tensors() {
        let known = *names.entry(stored.name.as_str()).or_insert_with(|| {
            params.push(param_of(stored));
            start + params.len() - 1
        });
        let shape: Vec<u64> = params[known - start].dims.iter().map(|dim| dim.extent).collect();
        if shape != stored.shape {
            wrong.push(
                Diagnostic::new(
                    "ucl::match",
                    format!(
                        "{:?} has shape {shape:?} and, in {}, {:?}",
                        stored.name,
                        place(stored),
                        stored.shape
                    ),
                )
                .help("files of different runs or steps in one folder?"),
            );
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    bound.params.extend(params);
    let mut seen: IndexMap<(usize, &str), ()> = IndexMap::new();
    for (index, stored) in tensors() {
        let param = names[stored.name.as_str()];
        let first = seen.insert((param, &stored.state), ()).is_none();
        let check = bound.checks.len();
        bound.checks.push(Check { label: place(stored), fatal: true });
        let own = bound.own.entry((param, Vec::new())).or_insert_with(|| Own {
            role: stored.role,
            dtype: None,
            name: stored.name.clone(),
        });
        if stored.state == "param" {
            own.dtype = Some(stored.dtype);
        }
        let axes: Vec<Expr> = bound.params[param]
            .dims
            .iter()
            .map(|dim| Expr::Dim { dim: Arc::from(dim.name.as_str()), lo: 0, hi: dim.extent })
            .collect();
        let role = if first { PieceRole::Primary } else { PieceRole::Replica };
        for (component, base, file) in components(stored, &axes, &[], &[&bound.params[param]]) {
            bound.buffers.claim(stored, &component, base, file);
            if let Some(component) = clip(component, &bound.params[param]) {
                let piece = piece(stored, index, component, base, file, role, check);
                bound.atlas.push(param, &stored.state, piece);
            }
        }
    }
    Vec::new()
}

/// Axes that cut tensors in ways that only a spec tells.
fn cut_without_spec(inventory: &Inventory) -> Vec<Diagnostic> {
    let cut = ["tp", "ep"].into_iter();
    let cut = cut.filter(|axis| inventory.mesh.get(*axis).is_some_and(|ranks| *ranks > 1));
    cut.map(|axis| {
        Diagnostic::new(
            "ucl::match",
            format!(
                "tensors are cut over {axis}={}, and no spec says how they fit together",
                inventory.mesh[axis]
            ),
        )
        .help("name a spec with --spec FILE.ucl; `ucl specs` lists the built-in ones")
    })
    .collect()
}

fn param_of(stored: &Stored) -> Param {
    let dims = stored
        .shape
        .iter()
        .enumerate()
        .map(|(index, extent)| ParamDim { name: format!("d{index}"), extent: *extent })
        .collect();
    Param { path: stored.name.clone(), dims, each: 0, groups: vec![1; stored.shape.len()] }
}

/// A stored tensor for a person: its name, state and rank.
pub(crate) fn place(stored: &Stored) -> String {
    let rank: Vec<String> = stored.at.iter().map(|(axis, at)| format!("{axis}={at}")).collect();
    match rank.is_empty() {
        true => format!("{:?} ({})", stored.name, stored.state),
        false => format!("{:?} ({}) at {}", stored.name, stored.state, rank.join(" ")),
    }
}

/// The boxes of a stored tensor, each with the byte offset of its low corner and its file. Strides
/// stay in elements.
pub(crate) fn components(
    stored: &Stored,
    axes: &[Expr],
    unit: &[(&str, u64)],
    params: &[&Param],
) -> Vec<(Component, i64, u32)> {
    let size = bytes(stored);
    match &stored.data {
        Data::Strided { file, offset, strides } => strided_components(axes, strides, unit, params)
            .into_iter()
            .map(|component| {
                let base = signed(*offset) + component.base * size;
                (component, base, *file)
            })
            .collect(),
        Data::Boxes(chunks) => chunks
            .iter()
            .flat_map(|chunk| {
                let part = chunk.offsets.iter().zip(&chunk.shape);
                let part: Vec<_> = part.map(|(lo, size)| (*lo, lo + size)).collect();
                boxed_components(axes, &part, &chunk.strides, unit, params).into_iter().map(
                    |component| {
                        let base = signed(chunk.offset) + component.base * size;
                        (component, base, chunk.file)
                    },
                )
            })
            .collect(),
        Data::Runs(runs) => runs
            .iter()
            .flat_map(|run| {
                flat_components(axes, unit, params, (run.start, run.start + run.len))
                    .into_iter()
                    .map(|component| {
                        let base = signed(run.offset) + (component.base - signed(run.start)) * size;
                        (component, base, run.file)
                    })
            })
            .collect(),
    }
}

/// A clipped box as a piece of a file.
pub(crate) fn piece(
    stored: &Stored,
    index: usize,
    component: Component,
    base: i64,
    file: u32,
    role: PieceRole,
    check: usize,
) -> Piece {
    let size = bytes(stored);
    Piece {
        base,
        strides: component.strides.iter().map(|stride| stride * size).collect(),
        bounds: component.bounds,
        file,
        dtype: stored.dtype,
        role,
        stored: u32::try_from(index).unwrap_or(u32::MAX),
        check,
        scale: 1.0,
        shift: 0.0,
    }
}

fn bytes(stored: &Stored) -> i64 {
    signed(stored.dtype.size_bytes())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
