//! A model cut over a mesh: what every rank holds, from a spec and sizes alone.

use crate::algebra::{Component, clip, flat_components};
use crate::bind::{
    Composites, Cuts, Members, Piece, PieceRole, Scope, Sizes, UNKNOWN_SIZE, interval, obligations,
    params_of, said_numbers, told,
};
use crate::params::{Param, every};
use crate::spell::Speller;
use crate::step::strided;
use crate::target::{Item, usable_view};
use crate::work::{Move, MoveRole};
use std::collections::BTreeMap;
use std::ops::Range;
use ucl_ir::{Diagnostic, Layout, Mesh, Program, SetDef, Shard, View};
use ucl_tensor::DType;

/// What every rank of a mesh holds.
#[derive(Default)]
pub struct Shards {
    /// The parameters, whole.
    pub params: Vec<Param>,
    /// The ranks, the last axis fastest.
    pub ranks: Vec<Rank>,
    /// The sizes of the model's dims, composites too.
    pub dims: BTreeMap<String, u64>,
    /// The extents that padded dims are padded to.
    pub padded: BTreeMap<String, u64>,
    /// Which indices are in the model's sets.
    pub(crate) sets: Members,
}

/// One rank of a mesh.
pub struct Rank {
    /// Its coordinates.
    pub at: Mesh,
    /// Its tensors: names and local shapes, in the order of the model.
    pub tensors: Vec<(String, Vec<u64>)>,
    pub(crate) items: Vec<Item>,
}

/// Cuts a model over a mesh by the named view and the layout that serves it.
///
/// `set` has the sizes of dims, other numbers of the spec, and a number above 0 for each optional
/// parameter that is there.
///
/// # Errors
/// The view does not spell the model, a size does not follow, or the mesh does not fit.
pub fn shard(
    program: &Program,
    view: &str,
    set: &BTreeMap<String, u64>,
    mesh: &Mesh,
    tied: bool,
) -> Result<Shards, Vec<Diagnostic>> {
    let view = usable_view(program, view)?;
    let layout = view.layouts.first().and_then(|name| program.layouts.get(name));
    shard_by(program, view, layout, set, mesh, tied)
}

/// [`shard`] by a certain layout, or by none.
pub(crate) fn shard_by(
    program: &Program,
    view: &View,
    layout: Option<&Layout>,
    set: &BTreeMap<String, u64>,
    mesh: &Mesh,
    tied: bool,
) -> Result<Shards, Vec<Diagnostic>> {
    let cuts = Cuts { layout, mesh, stages: &[] };
    let (sizes, mut wrong) = Sizes::said(program, set);
    wrong.extend(obligations(layout, &sizes, (program, view), set, cuts));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let composites = Composites::new(&program.model, None);
    let there = |path: &str, optional: bool| {
        let tied_away =
            tied && program.model.params.iter().any(|p| p.path == path && p.tied.is_some());
        !tied_away
            && (!optional || view.rules.iter().any(|rule| rule.terms.iter().any(|t| t == path)))
    };
    let optional_sizes = |param: &ucl_ir::Param| {
        !param.optional || (set.contains_key(&param.path) && set[&param.path] > 0)
    };
    let wanted =
        program.model.params.iter().filter(|p| there(&p.path, p.optional) && optional_sizes(p));
    let (params, mut wrong) = params_of(wanted, &composites, &sizes);
    wrong.extend(uneven_names(program, cuts, &sizes));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let numbers = said_numbers(program, view, set, cuts);
    let padded = padded(layout, &sizes, &numbers)?;
    let sets = sets(program, &sizes, &numbers)?;
    let copy_tied = layout
        .and_then(|layout| layout.copy_tied.as_ref())
        .is_some_and(|cond| Scope { numbers: &numbers, document: None }.holds(cond));
    let axes: Vec<&String> = mesh.keys().collect();
    let counts: Vec<u64> = mesh.values().copied().collect();
    let mut ranks = Vec::new();
    for at in every(&counts) {
        let at: Mesh = axes.iter().map(|axis| (*axis).clone()).zip(at).collect();
        let speller = Speller {
            program,
            view,
            cuts,
            sizes: &sizes,
            padded: &padded,
            sets: &sets,
            params: &params,
            tied,
            copy_tied,
            rank: &at,
            spellings: None,
            without_base: None,
        };
        let mut items = speller.items()?;
        items.sort_by(|a, b| a.order.cmp(&b.order));
        let tensors = items.iter().map(|item| (item.name.clone(), item.shape.clone())).collect();
        ranks.push(Rank { at, tensors, items });
    }
    let is_product = |dim: &str| composites.get(dim).is_none_or(|sum| sum.alternatives.len() == 1);
    let dims = program.model.dims.iter().map(|dim| &dim.name).filter(|dim| is_product(dim));
    let dims = dims.filter_map(|dim| Some((dim.clone(), sizes.value(&composites.atoms(dim))?)));
    let dims = dims.collect();
    Ok(Shards { params, ranks, dims, padded, sets })
}

/// Cuts of dims that stand in names, where the ranks do not get whole shares.
pub(crate) fn uneven_names(program: &Program, cuts: Cuts<'_>, sizes: &Sizes) -> Vec<Diagnostic> {
    // Experts have names of their own in some views only.
    let rules = || program.views.values().flat_map(|view| &view.rules);
    let spelled = |dim: &str| {
        let mut spellings = rules().flat_map(|rule| &rule.spellings);
        spellings.any(|spelling| spelling.template.indices().any(|index| index == dim))
    };
    let named = |dim: &String| {
        program.model.params.iter().any(|param| param.each.contains(dim)) || spelled(dim)
    };
    let shards = cuts.layout.into_iter().flat_map(|layout| &layout.shards);
    let wrong = shards.filter(|shard| named(&shard.dim)).filter_map(|shard| {
        let (size, ranks) = (sizes.atom(&shard.dim)?, cuts.ranks(shard));
        if shard.stage && !cuts.stages.is_empty() {
            return wrong_stages(shard, size, ranks, cuts.stages);
        }
        let of = |dim: &str| sizes.atom(dim);
        let fits = interval(size, (ranks, 0), &shard.rest, &of).is_some();
        let message = format!(
            "`{}` is {size} and does not divide over {} = {ranks}",
            shard.dim,
            shard.over.join(" * ")
        );
        (!fits).then(|| Diagnostic::new("ucl::fit", message).at(shard.span, "cut here"))
    });
    wrong.collect()
}

/// What is wrong with the layers that were said for every stage.
fn wrong_stages(shard: &Shard, layers: u64, ranks: u64, stages: &[u64]) -> Option<Diagnostic> {
    let over = shard.over.join(" * ");
    let wrong = if stages.len() as u64 != ranks {
        format!("{} stages are said, and {over} = {ranks}", stages.len())
    } else {
        let sum: u128 = stages.iter().map(|own| u128::from(*own)).sum();
        (sum != u128::from(layers)).then(|| {
            format!("the stages that are said have {sum} layers, the model has {layers}")
        })?
    };
    let help = "`--stages 3,5` says how many layers each stage has, in the order of the model";
    Some(Diagnostic::new("ucl::fit", wrong).at(shard.span, "cut here").help(help))
}

/// Which indices are in the model's sets: here only numbers can tell.
fn sets(
    program: &Program,
    sizes: &Sizes,
    said: &dyn Fn(&str) -> Option<i64>,
) -> Result<Members, Vec<Diagnostic>> {
    let numbers = |name: &str| {
        let size = sizes.atom(name).and_then(|size| i64::try_from(size).ok());
        size.or_else(|| said(name))
    };
    let members = told(program, sizes, &numbers);
    let unknown = program.model.sets.iter().filter(|set| !members.contains_key(&set.name));
    let unknown = unknown.map(|set| {
        let message = format!("which `{}` are in the set `{}` does not follow", set.dim, set.name);
        Diagnostic::new(UNKNOWN_SIZE, message).at(set.span, "from this").help(match set.def {
            SetDef::Named => {
                "give it a condition in the spec: nothing else tells where there are no names"
            }
            _ => "say the numbers in it with --set NAME=N",
        })
    });
    let unknown: Vec<Diagnostic> = unknown.collect();
    if unknown.is_empty() { Ok(members) } else { Err(unknown) }
}

/// The padded extents by the layout's formulas.
pub(crate) fn padded(
    layout: Option<&Layout>,
    sizes: &Sizes,
    numbers: &dyn Fn(&str) -> Option<i64>,
) -> Result<BTreeMap<String, u64>, Vec<Diagnostic>> {
    let mut padded = BTreeMap::new();
    for pad in layout.map_or(&[][..], |layout| &layout.pads) {
        let Some(size) = sizes.atom(&pad.dim) else { continue };
        let unit = Scope { numbers, document: None }.eval(&pad.to);
        match unit.and_then(|unit| u64::try_from(unit).ok()).filter(|unit| *unit > 0) {
            Some(unit) => {
                padded.insert(pad.dim.clone(), size.div_ceil(unit) * unit);
            }
            None => {
                return Err(vec![
                    Diagnostic::new(
                        UNKNOWN_SIZE,
                        format!("to what `{}` is padded does not follow", pad.dim),
                    )
                    .at(pad.span, "from this")
                    .help("say what is missing with --set NAME=N"),
                ]);
            }
        }
    }
    Ok(padded)
}

impl Shards {
    /// The moves that make `elements` of a rank's tensor from addresses, for the window that starts
    /// `window` elements before element 0 of the tensor.
    ///
    /// `seed` gives the seed of a parameter.
    pub fn synthesise(
        &self,
        (rank, tensor): (usize, usize),
        elements: Range<u64>,
        window: i64,
        dtype: DType,
        seed: &dyn Fn(&str) -> u64,
    ) -> Vec<Move> {
        let item = &self.ranks[rank].items[tensor];
        let params: Vec<&Param> = item.terms.iter().map(|term| &self.params[*term]).collect();
        let unit: Vec<(&str, u64)> =
            item.unit.iter().map(|(dim, at)| (dim.as_str(), *at)).collect();
        flat_components(&item.axes, &unit, &params, (elements.start, elements.end))
            .into_iter()
            .filter_map(|component| {
                let param = params[component.term];
                let component: Component = clip(component, param)?;
                let piece = whole(param, dtype);
                let shared = component.bounds.clone();
                let role = MoveRole::Synth(seed(&param.path));
                Some(strided(&piece, &component, &shared, window, role, 1.0, 0.0))
            })
            .collect()
    }
}

/// A parameter as one dense box whose addresses are its own row-major numbers.
fn whole(param: &Param, dtype: DType) -> Piece {
    let mut strides = crate::algebra::Strides::new();
    let mut next = 1_i64;
    for dim in param.dims.iter().rev() {
        strides.insert(0, next);
        next *= i64::try_from(dim.extent).unwrap_or(1);
    }
    Piece {
        bounds: param.dims.iter().map(|dim| (0, dim.extent)).collect(),
        base: 0,
        strides,
        file: 0,
        dtype,
        role: PieceRole::Primary,
        stored: 0,
        check: 0,
        scale: 1.0,
        shift: 0.0,
    }
}
