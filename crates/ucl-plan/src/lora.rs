//! Low-rank pairs: kept apart from the weights, or added to them.
//!
//! The product of a pair is addressed like the weight that it belongs to, by the equation that spells
//! this weight. So it reaches every element of the model's parameters, however the weight itself is
//! stored, and whatever the target makes of it.

mod place;
mod refuse;

pub(crate) use refuse::{is_all_halves, unmergeable};

use crate::algebra::{Bounds, Component, Strides, clip, total, weight};
use crate::bind::{Bound, Piece, PieceRole};
use crate::params::Param;
use crate::step::{signed, strided};
use crate::work::{Factor, Move, MoveRole, Product};
use indexmap::IndexMap;
use place::{Placed, Places};
use serde::Serialize;
use ucl_formats::lora::{Convention, Pair};
use ucl_ir::Diagnostic;
use ucl_tensor::DType;

/// The wish to add low-rank pairs to their weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merge {
    /// The alpha of pairs of which no file records one: a pair is scaled by alpha / rank.
    pub alpha: Option<f64>,
}

/// A pair that is added to its weight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Merged {
    /// The stored name of the weight.
    pub weight: String,
    /// The rank.
    pub rank: u64,
    /// What the product is multiplied by.
    pub scale: f32,
    /// Where the scale comes from.
    pub because: String,
}

/// DeepSpeed-Chat's `lora_scaling`, if nobody changed it.
const DEFAULT_ALPHA: f64 = 1.0;

/// Pairs that are added to the parameters of a bound checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Merging {
    pub(crate) products: Vec<Product>,
    pub(crate) merged: Vec<Merged>,
    /// By parameter, boxes that a product is added to: addresses are of the product's elements.
    boxes: IndexMap<usize, Vec<(usize, Piece)>>,
}

impl Merging {
    /// Finds the weight of each pair, and where the halves lie.
    ///
    /// # Errors
    /// All pairs that do not fit their weights, and whatever would make the result another model than
    /// the trained one.
    pub(crate) fn of(bound: &Bound<'_>, merge: &Merge) -> Result<Merging, Vec<Diagnostic>> {
        let adapters = &bound.inventory.adapters;
        let mut wrong = refuse::obstacles(bound);
        let mut merging = Merging::default();
        let places = Places::of(bound);
        for pair in &adapters.pairs {
            match merging.add(bound, &places, pair, merge) {
                Ok(()) => {}
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        if wrong.is_empty() { Ok(merging) } else { Err(wrong) }
    }

    fn add(
        &mut self,
        bound: &Bound<'_>,
        places: &Places<'_>,
        pair: &Pair,
        merge: &Merge,
    ) -> Result<(), Diagnostic> {
        let placed = Placed::of(bound, places, pair)?;
        let down = Half::of(bound, &pair.down, pair.convention.rank_of_down())?;
        let up = Half::of(bound, &pair.up, 1 - pair.convention.rank_of_down())?;
        if down.rank != up.rank {
            return Err(refuse::ranks(pair, &down, &up));
        }
        if pair.rank.is_some_and(|rank| rank != down.rank) {
            return Err(refuse::said_rank(pair, down.rank));
        }
        let transposed = placed.transposed(pair, down.len, up.len)?;
        let (scale, because) = scale(pair, merge, down.rank)?;
        let (rows, columns) = if transposed { (&down, &up) } else { (&up, &down) };
        let product = Product {
            label: pair.weight.clone(),
            rank: down.rank,
            scale,
            rows: rows.factor(bound),
            columns: columns.factor(bound),
        };
        let number = self.products.len();
        for (param, component) in placed.components(bound) {
            refuse::unmergeable_weight(bound, pair, param, &component.bounds)?;
            let piece = addressed(component, placed.scale());
            self.boxes.entry(param).or_default().push((number, piece));
        }
        self.products.push(product);
        let (weight, rank) = (pair.weight.clone(), down.rank);
        self.merged.push(Merged { weight, rank, scale, because });
        Ok(())
    }

    /// The products that are added to a box, with what they share of it.
    pub(crate) fn meeting<'m>(
        &'m self,
        param: usize,
        bounds: &'m [(u64, u64)],
    ) -> impl Iterator<Item = (usize, &'m Piece, Bounds)> {
        let boxes = self.boxes.get(&param).into_iter().flatten();
        boxes.filter_map(|(number, piece)| {
            Some((*number, piece, crate::algebra::meet(&piece.bounds, bounds)?))
        })
    }

    /// Whether a product is added to a part of a box.
    pub(crate) fn touches(&self, param: usize, bounds: &[(u64, u64)]) -> bool {
        self.meeting(param, bounds).next().is_some()
    }

    /// Bytes of the halves in the files.
    pub(crate) fn bytes(&self) -> u64 {
        let factors = self.products.iter().flat_map(|product| [&product.rows, &product.columns]);
        let moves = factors.flat_map(|factor| &factor.moves);
        let written = moves.filter(|step| step.role == MoveRole::Write);
        written.map(|step| elements(step) * step.dtype.size_bytes()).sum()
    }
}

fn elements(step: &Move) -> u64 {
    step.loops.iter().map(|one| one.count).product()
}

/// What the product of a pair is multiplied by, and why. Alpha and rank are divided in F64, and rounded
/// once.
fn scale(pair: &Pair, merge: &Merge, rank: u64) -> Result<(f32, String), Diagnostic> {
    let (alpha, whence) = match (pair.alpha, merge.alpha, pair.convention) {
        (Some(known), Some(said), _) if known != said => {
            return Err(refuse::two_alphas(pair, known, said));
        }
        (Some(known), _, _) => (known, "adapter_config.json"),
        (None, Some(said), _) => (said, "--lora-alpha"),
        (None, None, Convention::DeepspeedChat) => (DEFAULT_ALPHA, "DeepSpeed-Chat's default"),
        (None, None, Convention::Peft) => return Err(refuse::no_alpha(pair)),
    };
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    let rank = rank as f64;
    let (scale, by) = match pair.root {
        true => (alpha / rank.sqrt(), "√rank"),
        false => (alpha / rank, "rank"),
    };
    #[expect(clippy::cast_possible_truncation, reason = "the product is in F32")]
    let scale = scale as f32;
    match scale.is_finite() {
        true => Ok((scale, format!("alpha {alpha} / {by}, alpha by {whence}"))),
        false => Err(refuse::no_scale(pair, alpha)),
    }
}

/// One of the two small matrices.
pub(crate) struct Half<'p> {
    name: &'p str,
    param: usize,
    /// Which of its dims is the rank.
    axis: usize,
    pub(crate) rank: u64,
    pub(crate) len: u64,
    /// The state that counts.
    state: &'static str,
}

impl<'p> Half<'p> {
    fn of(bound: &Bound<'_>, name: &'p str, axis: usize) -> Result<Half<'p>, Diagnostic> {
        let param = bound.params.iter().position(|param| param.path == name);
        let Some(param) = param else { return Err(refuse::no_half(name)) };
        let shape: Vec<u64> = bound.params[param].dims.iter().map(|dim| dim.extent).collect();
        let [first, second] = shape[..] else { return Err(refuse::no_matrix(name, &shape)) };
        let (rank, len) = if axis == 0 { (first, second) } else { (second, first) };
        if rank == 0 || len == 0 {
            return Err(refuse::no_matrix(name, &shape));
        }
        let covered = |state: &&str| covers(bound, param, state);
        let state = ["fp32", "param"].into_iter().find(covered);
        let Some(state) = state else { return Err(refuse::in_part(name)) };
        let half = Half { name, param, axis, rank, len, state };
        half.of_floats(bound)?;
        Ok(half)
    }

    fn of_floats(&self, bound: &Bound<'_>) -> Result<(), Diagnostic> {
        let pieces = bound.atlas.all(self.param, self.state);
        match pieces.iter().find(|piece| !is_mergeable(piece.dtype)) {
            Some(piece) => Err(refuse::dtype(self.name, piece.dtype)),
            None => Ok(()),
        }
    }

    /// The moves that put it together as `[rank, len]`, and hold masters against the model's own.
    fn factor(&self, bound: &Bound<'_>) -> Factor {
        let param = &bound.params[self.param];
        let target = matrix(param, self.axis);
        let moves = |state: &'static str, rounded: bool| {
            let target = &target;
            let pieces = bound.atlas.all(self.param, state).iter();
            pieces.map(move |piece| {
                let role = match (rounded, piece.role) {
                    (true, _) => MoveRole::Rounded(piece.check),
                    (false, PieceRole::Primary) => MoveRole::Write,
                    (false, _) => MoveRole::Equal(piece.check),
                };
                strided(piece, target, &piece.bounds, 0, role, 1.0, 0.0)
            })
        };
        let mut all: Vec<Move> = moves(self.state, false).collect();
        if self.state == "fp32" {
            all.extend(moves("param", true));
        }
        all.sort_by_key(|step| step.role != MoveRole::Write);
        Factor { len: self.len, moves: all }
    }
}

/// The types that products are added to, and made of: all of their values are F32's.
pub(crate) fn is_mergeable(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16 | DType::F16)
}

/// Whether every element of a parameter is there once.
fn covers(bound: &Bound<'_>, param: usize, state: &str) -> bool {
    let whole: Bounds = bound.params[param].dims.iter().map(|dim| (0, dim.extent)).collect();
    let pieces = bound.atlas.all(param, state).iter();
    let counting = pieces.filter(|piece| piece.role == PieceRole::Primary);
    total(counting.map(|piece| weight(&piece.bounds))) == weight(&whole)
}

/// A matrix as a target in which the rank is the first dim.
fn matrix(param: &Param, axis: usize) -> Component {
    let bounds: Bounds = param.dims.iter().map(|dim| (0, dim.extent)).collect();
    let len = param.dims.get(1 - axis).map_or(1, |dim| signed(dim.extent));
    let strides: Strides = if axis == 0 { [len, 1] } else { [1, len] }.into_iter().collect();
    Component { term: 0, base: 0, bounds, strides }
}

/// A box whose addresses are row-major numbers of a product's elements.
fn addressed(component: Component, scale: f64) -> Piece {
    Piece {
        bounds: component.bounds,
        base: component.base,
        strides: component.strides,
        file: 0,
        dtype: DType::F32,
        role: PieceRole::Sum,
        stored: 0,
        check: 0,
        scale,
        shift: 0.0,
    }
}

/// Cuts boxes to the true extents of their parameters.
pub(crate) fn clipped(
    bound: &Bound<'_>,
    terms: &[usize],
    components: Vec<Component>,
) -> Vec<(usize, Component)> {
    let clip = |component: Component| {
        let param = *terms.get(component.term)?;
        Some((param, clip(component, &bound.params[param])?))
    };
    components.into_iter().filter_map(clip).collect()
}
