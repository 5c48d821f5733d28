//! Binds an inventory by a spec.

use super::atlas::{Atlas, PieceRole};
use super::buffers::Buffers;
use super::composite::Composites;
use super::cut::Cuts;
use super::facts::{self, Counts};
use super::identity::{as_stored, components, piece, place};
use super::lower::Lowering;
use super::made::params_of;
use super::names::{Claim, Claims};
use super::oblige::obligations;
use super::pad::paddings;
use super::role::Copies;
use super::sets::{Members, exists};
use super::size::Sizes;
use super::tied::{Claimed, claim_all};
use super::unfit::unfit_diagnostic;
use super::value::stored_value;
use super::{Bound, Own};
use crate::algebra::{clip, volume};
use crate::params::Param;
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::Inventory;
use ucl_formats::inventory::{Data, Stored, row_major};
use ucl_ir::{Diagnostic, Layout, Program, View};

/// Binds an inventory in one view under one layout.
///
/// # Errors
/// All that does not fit: names that nothing claims, sizes that disagree or do not divide, shapes.
pub(crate) fn bind_program<'a>(
    program: &'a Program,
    view: &'a View,
    layout: Option<&'a Layout>,
    inventory: &'a Inventory,
    set: &BTreeMap<String, u64>,
) -> Result<Bound<'a>, Vec<Diagnostic>> {
    let cuts = Cuts { layout, mesh: &inventory.mesh };
    let Claimed { claims, tied, note } = claim_all(program, view, inventory, cuts, set)?;
    let unreadable = facts::unreadable(program, view, inventory);
    if !unreadable.is_empty() {
        return Err(unreadable);
    }
    let counts = facts::count(view, &claims, cuts, inventory);
    let jump = facts::jump(view, &claims, inventory, &counts);
    if !jump.is_empty() {
        return Err(jump);
    }
    let equations = facts::equations(program, view, &claims, cuts, inventory, &counts, set);
    let (sizes, mut wrong) = Sizes::solve(&equations);
    let (sizes, padded, mut notes) = paddings(cuts, sizes, &equations, &mut wrong);
    notes.extend(note);
    wrong.extend(obligations(layout, &sizes, (program, view), set, cuts));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut binder = Binder {
        program,
        view,
        cuts,
        inventory,
        set,
        counts,
        composites: Composites::new(&program.model, Some(&view.composites)),
        by_path: BTreeMap::new(),
        wrong: Vec::new(),
        bound: Bound {
            inventory,
            spec: Some((program, view)),
            sure: None,
            layout: layout.filter(|layout| cuts.matters(layout)).map(|layout| layout.name.clone()),
            params: Vec::new(),
            own_params: 0,
            tied,
            missing: Vec::new(),
            ignored: claims.ignored.clone(),
            notes,
            padding: IndexMap::new(),
            set: set.clone(),
            sizes,
            padded,
            sets: Members::new(),
            spellings: BTreeMap::new(),
            without_base: claims.without_base.clone(),
            atlas: Atlas::default(),
            buffers: Buffers::of(inventory),
            checks: Vec::new(),
            own: IndexMap::new(),
        },
    };
    binder.params(&claims);
    binder.pieces(&claims);
    binder.sets();
    binder.missing();
    binder.adapters();
    if !binder.wrong.is_empty() {
        return Err(binder.wrong);
    }
    let mut bound = binder.bound;
    bound.buffers.claim_ignored(inventory, &bound.ignored);
    let unclaimed = bound.buffers.prove(inventory);
    if !unclaimed.is_empty() {
        return Err(unclaimed);
    }
    bound.atlas.finish();
    Ok(bound)
}

pub(super) struct Binder<'a, 's> {
    pub(super) program: &'a Program,
    pub(super) view: &'a View,
    pub(super) cuts: Cuts<'a>,
    pub(super) inventory: &'a Inventory,
    pub(super) set: &'s BTreeMap<String, u64>,
    pub(super) counts: Counts,
    pub(super) composites: Composites<'a>,
    pub(super) by_path: BTreeMap<String, usize>,
    pub(super) wrong: Vec<Diagnostic>,
    pub(super) bound: Bound<'a>,
}

/// A stored tensor with its claim and global indices.
pub(super) struct Placed<'a> {
    pub(super) index: usize,
    pub(super) stored: &'a Stored,
    pub(super) claim: &'a Claim,
    pub(super) indices: Vec<(String, u64)>,
    /// Whether its rule is a tied head's, so that it is a copy of another parameter.
    pub(super) copy: bool,
}

impl<'a> Binder<'a, '_> {
    /// Makes the parameters that the checkpoint has.
    fn params(&mut self, claims: &Claims) {
        let mut claimed: BTreeSet<&str> = BTreeSet::new();
        for claim in claims.claimed.values().flatten() {
            claimed.extend(self.view.rules[claim.rule].terms.iter().map(String::as_str));
        }
        let tied = self.bound.tied;
        let params = self.program.model.params.iter();
        let wanted = params.filter(|param| {
            !(tied && param.tied.is_some()) && claimed.contains(param.path.as_str())
        });
        let composites = Composites::new(&self.program.model, None);
        let (params, wrong) = params_of(wanted, &composites, &self.bound.sizes);
        let paths = params.iter().enumerate().map(|(number, param)| (param.path.clone(), number));
        self.by_path = paths.collect();
        self.bound.params = params;
        self.wrong.extend(wrong);
    }

    /// The parameter that a term means; in the tied state a head means its original.
    fn resolve(&self, term: &str) -> Option<(usize, bool)> {
        if let Some(found) = self.by_path.get(term) {
            return Some((*found, false));
        }
        let param = self.program.model.params.iter().find(|param| param.path == term)?;
        let original = param.tied.as_ref().filter(|_| self.bound.tied)?;
        Some((*self.by_path.get(original)?, true))
    }

    /// Adds what belongs to adapters, as it is stored.
    fn adapters(&mut self) {
        self.bound.own_params = self.bound.params.len();
        let adapters = &self.inventory.adapters;
        if !adapters.is_empty() {
            self.wrong.extend(apart_on_ranks(self.inventory));
            self.wrong.extend(as_stored(&mut self.bound, |name| adapters.has(name)));
        }
    }

    fn pieces<'c>(&mut self, claims: &'c Claims)
    where
        'a: 'c,
    {
        let inventory = self.inventory;
        let mut placed: Vec<Placed<'c>> = Vec::new();
        for (index, stored) in inventory.tensors.iter().enumerate() {
            let Some(found) = claims.claimed.get(&stored.name) else { continue };
            // A tied copy may bear its original's name: then it is read as the original.
            let claim = found
                .iter()
                .find(|claim| {
                    self.resolve(&self.view.rules[claim.rule].terms[0]).is_some_and(|r| !r.1)
                })
                .or_else(|| found.first());
            let Some(claim) = claim else { continue };
            if let Some(counted) = claim
                .counts
                .iter()
                .find(|(dim, n)| self.counts.totals.get(dim).is_some_and(|t| t != n))
            {
                self.wrong.push(
                    Diagnostic::new(
                        "ucl::match",
                        format!(
                            "{} counts {} of `{}`, the names have {}",
                            place(stored),
                            counted.1,
                            counted.0,
                            self.counts.totals[&counted.0]
                        ),
                    )
                    .at(self.view.rules[claim.rule].span, "by this equation"),
                );
                continue;
            }
            let term = &self.view.rules[claim.rule].terms[0];
            let indices = claim
                .indices
                .iter()
                .map(|(dim, value)| (dim.clone(), value + self.start(term, dim, stored)))
                .collect();
            let copy = self.resolve(term).is_some_and(|resolved| resolved.1);
            placed.push(Placed { index, stored, claim, indices, copy });
        }
        for one in &placed {
            let used = self.bound.spellings.entry(one.claim.rule).or_insert(one.claim.spelling);
            if one.stored.state != "param" {
                *used = one.claim.spelling;
            }
        }
        let owners = self.owners(&placed);
        for one in &placed {
            self.lower(one, &owners);
        }
    }

    /// The first global index of a dim that is numbered anew on each part.
    fn start(&self, term: &str, dim: &str, stored: &Stored) -> u64 {
        let Some(starts) = self.counts.starts.get(dim) else { return 0 };
        match self.cuts.of(term, dim).filter(|shard| !shard.global) {
            Some(shard) => {
                let part = usize::try_from(self.cuts.part(shard, &stored.at)).unwrap_or(0);
                starts.get(part).copied().unwrap_or(0)
            }
            None => 0,
        }
    }

    fn lower(&mut self, one: &Placed<'_>, owners: &BTreeMap<Copies, u64>) {
        let rule = &self.view.rules[one.claim.rule];
        let resolved: Option<Vec<(usize, bool)>> =
            rule.terms.iter().map(|term| self.resolve(term)).collect();
        let Some(resolved) = resolved else { return };
        let params: Vec<&Param> =
            resolved.iter().map(|(param, _)| &self.bound.params[*param]).collect();
        let lowering = Lowering {
            composites: &self.composites,
            cuts: self.cuts,
            sizes: &self.bound.sizes,
            padded: &self.bound.padded,
            rank: &one.stored.at,
            terms: &rule.terms,
            params: &params,
        };
        let axes = match lowering.axes(&rule.shape) {
            Ok(axes) => axes,
            Err(unfit) => {
                // One tensor of an equation stands for all of them.
                let diagnostic = unfit_diagnostic(&unfit, rule, &place(one.stored));
                let same = |known: &Diagnostic| {
                    known.labels == diagnostic.labels && known.code == diagnostic.code
                };
                if !self.wrong.iter().any(same) {
                    self.wrong.push(diagnostic);
                }
                return;
            }
        };
        let memory: Vec<u64> = axes.iter().map(crate::algebra::Expr::size).collect();
        let fits = match &rule.declared {
            Some(_) => memory.iter().product::<u64>() == one.stored.shape.iter().product::<u64>(),
            None => memory == one.stored.shape,
        };
        if !fits {
            let text = format!(
                "{} has shape {:?}, the spec makes it {memory:?}",
                place(one.stored),
                one.stored.shape
            );
            let help = "a dim disagrees with the other tensors: a file of another run, or the wrong model?";
            let diagnostic =
                Diagnostic::new("ucl::bind", text).at(rule.span, "by this equation").help(help);
            // As above: the other layers and states would say the same.
            let same = |known: &Diagnostic| {
                known.labels == diagnostic.labels && known.code == diagnostic.code
            };
            if !self.wrong.iter().any(same) {
                self.wrong.push(diagnostic);
            }
            return;
        }
        let unit: Vec<(&str, u64)> =
            one.indices.iter().map(|(dim, value)| (dim.as_str(), *value)).collect();
        let declared = rule.declared.as_ref().map(|_| in_order(one.stored, &memory));
        let stored = match &declared {
            Some(Some(stored)) => stored,
            None => one.stored,
            Some(None) => {
                let text = format!(
                    "{} has holes, so its bytes have no other order than {:?}",
                    place(one.stored),
                    one.stored.shape
                );
                self.wrong.push(Diagnostic::new("ucl::bind", text).at(rule.span, "declared here"));
                return;
            }
        };
        let found = components(stored, &axes, &unit, &params);
        let (role, check) = self.role(one, rule, owners);
        let index = self.bound.checks.len();
        self.bound.checks.push(check);
        for (component, base, file) in found {
            self.bound.buffers.claim(one.stored, &component, base, file);
            let param = resolved[component.term].0;
            let role = match self.repeats(one, rule, component.term) {
                true => PieceRole::Replica,
                false => role,
            };
            let whole = volume(&component.bounds);
            let clipped = clip(component, &self.bound.params[param]);
            let left = clipped.as_ref().map_or(0, |component| volume(&component.bounds));
            if left < whole && role == PieceRole::Primary {
                *self.bound.padding.entry(self.bound.params[param].path.clone()).or_default() +=
                    whole - left;
            }
            let Some(component) = clipped else { continue };
            let mut piece = piece(one.stored, one.index, component, base, file, role, index);
            self.values(&mut piece, param, one);
            // Several, where an index of the universal name is an axis of the stored tensor.
            for indices in within(&piece.bounds[..self.bound.params[param].each]) {
                let own = self.bound.own.entry((param, indices)).or_insert_with(|| Own {
                    role: one.stored.role,
                    dtype: None,
                    name: one.stored.name.clone(),
                });
                if one.stored.state == "param" && !one.copy {
                    // Parts of a tensor may be of several types.
                    let found = one.stored.dtype;
                    own.dtype = own.dtype.map_or(Some(found), |known| known.common(found));
                }
            }
            self.bound.atlas.push(param, &one.stored.state, piece);
        }
    }

    /// The steps on values that the view says for a parameter.
    fn values(&self, piece: &mut super::Piece, param: usize, one: &Placed<'_>) {
        let number = |name: &str| {
            facts::bound_number(self.program, self.view, self.inventory, self.cuts, self.set, name)
        };
        let path = &self.bound.params[param].path;
        (piece.scale, piece.shift) = stored_value(self.view, path, &one.stored.state, &number);
    }

    /// Names the tensors that the model has and the checkpoint lacks, as the view spells them.
    fn missing(&mut self) {
        for param in &self.program.model.params {
            let number = self.by_path.get(&param.path).copied();
            let tied_away = self.bound.tied && param.tied.is_some();
            if tied_away || (number.is_none() && param.optional) {
                continue;
            }
            let extent = |dim: &String| self.bound.sizes.atom(dim).unwrap_or(1);
            let extents: Vec<u64> = param.each.iter().map(extent).collect();
            for indices in crate::params::every(&extents) {
                let index = |dim: &str| {
                    let at = param.each.iter().position(|each| each == dim)?;
                    indices.get(at).copied()
                };
                if !exists(self.program, &self.bound.sets, param, index) {
                    continue;
                }
                let key = number.map(|number| (number, indices.clone()));
                if key.is_none_or(|key| !self.bound.own.contains_key(&key)) {
                    self.bound.missing.push(self.spelled(param, &indices));
                }
            }
        }
    }

    /// The stored name of a parameter that is not stored.
    fn spelled(&self, param: &ucl_ir::Param, indices: &[u64]) -> String {
        let rule = self.view.rules.iter().position(|rule| rule.terms.contains(&param.path));
        let name = rule.and_then(|number| {
            let spelling = self.bound.spellings.get(&number).copied().unwrap_or(0);
            let index = |dim: &str| {
                let at = param.each.iter().position(|each| each == dim)?;
                Some(indices[at])
            };
            let template = &self.view.rules[number].spellings[spelling].template;
            template.fill(index, |dim| self.bound.sizes.atom(dim))
        });
        name.unwrap_or_else(|| param.path.clone())
    }
}

/// What belongs to adapters and lies on several ranks: nothing says how its parts fit together.
fn apart_on_ranks(inventory: &Inventory) -> Vec<Diagnostic> {
    let mut seen: IndexMap<(&str, &str), &Stored> = IndexMap::new();
    let adapters = inventory.tensors.iter().filter(|stored| inventory.adapters.has(&stored.name));
    let mut wrong: Option<(Diagnostic, &str)> = None;
    for stored in adapters {
        let known = seen.entry((&stored.name, &stored.state)).or_insert(stored);
        if known.at != stored.at && wrong.is_none() {
            let message = format!(
                "{} and {} are of a low-rank adapter, and nothing says how the ranks' parts fit together",
                place(known),
                place(stored)
            );
            let help = "save the adapter whole, or from a run without tensor parallelism";
            wrong = Some((Diagnostic::new("ucl::lora", message).help(help), &stored.name));
        }
    }
    wrong.into_iter().map(|(diagnostic, _)| diagnostic).collect()
}

/// A tensor without holes in the shape of its bytes' order, where its header shows another.
fn in_order(stored: &Stored, memory: &[u64]) -> Option<Stored> {
    let data = match &stored.data {
        Data::Strided { file, offset, strides } => {
            let dense = *strides == row_major(&stored.shape);
            let strides = dense.then(|| row_major(memory))?;
            Data::Strided { file: *file, offset: *offset, strides }
        }
        runs @ Data::Runs(_) => runs.clone(),
        Data::Boxes(_) => return None,
    };
    Some(Stored { shape: memory.to_vec(), data, ..stored.clone() })
}

/// All index tuples of a box.
fn within(bounds: &[(u64, u64)]) -> Vec<Vec<u64>> {
    let counts: Vec<u64> = bounds.iter().map(|(lo, hi)| hi - lo).collect();
    let mut tuples = crate::params::every(&counts);
    for tuple in &mut tuples {
        tuple.iter_mut().zip(bounds).for_each(|(index, (lo, _))| *index += lo);
    }
    tuples
}
