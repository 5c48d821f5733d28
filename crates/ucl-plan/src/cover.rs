//! The proofs of a plan: every element of every target tensor once, and none of the source's lost.

use crate::algebra::{Bounds, times, total, volume, weight};
use crate::bind::{PieceRole, is_weight};
use crate::plan::Plan;
use crate::target::{Item, States};
use std::collections::{BTreeMap, HashSet};
use ucl_ir::Diagnostic;

/// How much of a target tensor the source holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// Nothing.
    None,
    /// A part; says which element is not held once.
    Part(String),
    /// Every element, once.
    Whole,
}

impl Plan<'_> {
    /// Whether the pieces that count cover an item exactly once.
    pub(crate) fn covered(&self, item: &Item, state: &str) -> Cover {
        if item.shape.contains(&0) {
            // Nothing to hold: it is written once, as the model's own.
            return if state == "param" { Cover::Whole } else { Cover::None };
        }
        let mut any = false;
        let mut whole = true;
        let mut first_gap = None;
        for (param, component) in self.boxes(item, 0..item.shape.iter().product()) {
            let mut counting: Vec<(u64, Bounds)> = Vec::new();
            for (piece, shared) in self.bound.atlas.meeting(param, state, &component.bounds) {
                match piece.role {
                    PieceRole::Primary | PieceRole::Sum => counting.push((1, shared)),
                    PieceRole::Average(of) => counting.push((u64::from(of), shared)),
                    PieceRole::Replica => {}
                }
            }
            any |= !counting.is_empty();
            // Replicas of a merge each cover the box, so the weight is a multiple.
            let share = counting.first().map_or(1, |(of, _)| *of);
            let sums = matches!(self.bound.atlas.meeting(param, state, &component.bounds).next(), Some((p, _)) if p.role == PieceRole::Sum);
            let found = total(counting.iter().map(|(_, shared)| weight(shared)));
            let expected = weight(&component.bounds);
            if !sums && found != times(share, expected) {
                whole = false;
                first_gap = first_gap.or_else(|| {
                    let boxes: Vec<&Bounds> = counting.iter().map(|(_, shared)| shared).collect();
                    let dims = &self.bound.params[param].dims;
                    explain(&component.bounds, &boxes, share).map(|why| {
                        let at: Vec<String> = dims
                            .iter()
                            .zip(&why.1)
                            .map(|(dim, x)| format!("{}={x}", dim.name))
                            .collect();
                        format!(
                            "the element {} [{}] is stored {} times",
                            self.bound.params[param].path,
                            at.join(" "),
                            why.0
                        )
                    })
                });
            }
        }
        match (any, whole) {
            (_, true) => Cover::Whole,
            (false, false) => Cover::None,
            (true, false) => {
                Cover::Part(first_gap.unwrap_or_else(|| "it is not stored exactly once".to_owned()))
            }
        }
    }

    /// No element of a state that is written may go nowhere.
    pub(crate) fn nothing_lost(&self) -> Result<(), Vec<Diagnostic>> {
        let mut used: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        // Ranks may hold the same: a box counts once.
        let mut known: HashSet<(usize, &str, Bounds)> = HashSet::new();
        // What ranks cut as they load it is counted where it is whole.
        let first = self.first_proven();
        for (item, from) in self.moved().into_iter().filter(|(item, _)| *item >= first) {
            let item = &self.items[item];
            for (param, component) in self.boxes(item, 0..item.shape.iter().product()) {
                if self.target.format.is_cut()
                    && !known.insert((param, from, component.bounds.clone()))
                {
                    continue;
                }
                let moved: u64 = self
                    .bound
                    .atlas
                    .meeting(param, from, &component.bounds)
                    .filter(|(piece, _)| piece.role != PieceRole::Replica)
                    .map(|(_, shared)| volume(&shared))
                    .sum();
                *used.entry((param, from)).or_default() += moved;
            }
        }
        for (item, state) in &self.outdated {
            let item = &self.items[*item];
            for (param, component) in self.boxes(item, 0..item.shape.iter().product()) {
                let found = self.bound.atlas.meeting(param, state, &component.bounds);
                let counting = found.filter(|(piece, _)| piece.role != PieceRole::Replica);
                *used.entry((param, state.as_str())).or_default() +=
                    counting.map(|(_, shared)| volume(&shared)).sum::<u64>();
            }
        }
        let mut wrong = Vec::new();
        for (param, state) in self.bound.atlas.keys() {
            let merged = self.merging.is_some() && self.bound.is_adapters(param);
            let made_of_masters = state == "param";
            // A rank that loads weights alone gets the model's own where they are there.
            let of_masters = self.target.format.is_cut() && state == "fp32";
            let left_out = (self.target.states == States::Weights
                && (!is_weight(state) || of_masters))
                || made_of_masters
                || merged;
            let there: u64 = self
                .bound
                .atlas
                .all(param, state)
                .iter()
                .filter(|piece| piece.role != PieceRole::Replica)
                .map(|piece| volume(&piece.bounds))
                .sum();
            let moved = used.get(&(param, state)).copied().unwrap_or(0);
            if !left_out && moved != there {
                wrong.push(Diagnostic::new(
                    "ucl::cover",
                    format!(
                        "{} of the {there} elements of `{}` ({state}) would go nowhere",
                        there - moved.min(there),
                        self.bound.params[param].path
                    ),
                ));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// A message is not worth looking through more cells than this.
const CELLS: u64 = 1 << 20;

/// The first cell of a box that is not covered `share` times, by coordinates between all boundaries.
fn explain(whole: &Bounds, boxes: &[&Bounds], share: u64) -> Option<(u64, Vec<u64>)> {
    let cuts: Vec<Vec<u64>> = (0..whole.len())
        .map(|dim| {
            let mut cuts: Vec<u64> = boxes.iter().flat_map(|b| [b[dim].0, b[dim].1]).collect();
            cuts.push(whole[dim].0);
            cuts.retain(|x| (whole[dim].0..whole[dim].1).contains(x));
            cuts.sort_unstable();
            cuts.dedup();
            cuts
        })
        .collect();
    let counts: Vec<u64> = cuts.iter().map(|cuts| cuts.len() as u64).collect();
    if counts.iter().product::<u64>() > CELLS {
        return None;
    }
    crate::params::every(&counts).into_iter().find_map(|cell| {
        let at: Vec<u64> =
            cell.iter().zip(&cuts).map(|(index, cuts)| cuts[*index as usize]).collect();
        let inside = |b: &&&Bounds| b.iter().zip(&at).all(|((lo, hi), x)| (lo..hi).contains(&x));
        let times = boxes.iter().filter(inside).count() as u64;
        (times != share).then_some((times, at))
    })
}
