//! Which copy of a tensor counts: by the axes that cut it, and those that do not.

use super::PieceRole;
use super::cut::is_under;
use super::identity::place;
use super::program::{Binder, Placed};
use super::value::is_weight;
use crate::work::Check;
use std::collections::{BTreeMap, BTreeSet};
use ucl_ir::{MergeOp, Rule, Shard};

/// A part of a rule's tensor: its rule, indices, state, where the part is on the axes that cut it (not
/// all ranks of one axis need have files for all of another), and an axis that does not cut it.
pub(super) type Copies = (usize, Vec<u64>, String, Vec<(String, u64)>, String);

impl<'a> Binder<'a, '_> {
    /// The cuts of a tensor of this rule: in its shape, from outside in, and in its name.
    fn cuts_of(&self, rule: &Rule) -> Vec<&'a Shard> {
        let mut found = self.cuts.met(&rule.shape, &rule.terms, &self.composites);
        for dim in rule.spellings[0].template.indices() {
            found.extend(self.cuts.of(&rule.terms[0], dim).filter(|shard| !shard.global));
        }
        found
    }

    /// The axes over which a tensor of this rule is cut.
    fn cut_axes(&self, rule: &Rule) -> BTreeSet<&'a str> {
        let cuts = self.cuts_of(rule);
        cuts.iter().flat_map(|shard| &shard.over).map(|axis| self.canonical(axis)).collect()
    }

    /// An axis that shares another's coordinate is that other, unless the mesh has it.
    fn canonical(&self, axis: &'a str) -> &'a str {
        if self.cuts.mesh.contains_key(axis) {
            return axis;
        }
        let declared =
            self.cuts.layout.and_then(|layout| layout.axes.iter().find(|known| known.name == axis));
        declared.and_then(|declared| declared.same_as.as_deref()).unwrap_or(axis)
    }

    /// For each tensor (parameter, indices, state) and axis that does not cut it: the coordinate whose
    /// copy counts. On a pipeline it is the stage that owns the tensor, elsewhere the first.
    pub(super) fn owners(&self, placed: &[Placed<'_>]) -> BTreeMap<Copies, u64> {
        let mut owners = BTreeMap::new();
        for one in placed.iter().filter(|one| !one.copy) {
            let rule = &self.view.rules[one.claim.rule];
            let cut = self.cut_axes(rule);
            let model = self.program.model.params.iter().find(|param| param.path == rule.terms[0]);
            for (axis, at) in one.stored.at.iter().filter(|(axis, _)| !cut.contains(axis.as_str()))
            {
                let key = self.key(one, &cut, axis);
                let last = self.is_stage(axis)
                    && model.is_some_and(|p| p.each.is_empty() && !p.before_each);
                let owner = owners.entry(key).or_insert(*at);
                *owner = if last { (*owner).max(*at) } else { (*owner).min(*at) };
            }
        }
        owners
    }

    fn key(&self, one: &Placed<'_>, cut: &BTreeSet<&str>, axis: &str) -> Copies {
        let indices = one.indices.iter().map(|index| index.1).collect();
        let at = one.stored.at.iter().filter(|(axis, _)| cut.contains(axis.as_str()));
        let part = at.map(|(axis, at)| (axis.clone(), *at)).collect();
        (one.claim.rule, indices, one.stored.state.clone(), part, axis.to_owned())
    }

    fn is_stage(&self, axis: &str) -> bool {
        self.cuts.layout.is_some_and(|layout| {
            layout
                .shards
                .iter()
                .any(|shard| shard.stage && shard.over.iter().any(|over| over == axis))
        })
    }

    /// Whether a tensor counts, is compared, or is merged; and how a difference is called.
    pub(super) fn role(
        &self,
        one: &Placed<'_>,
        rule: &Rule,
        owners: &BTreeMap<Copies, u64>,
    ) -> (PieceRole, Check) {
        let label = place(one.stored);
        if one.copy {
            return (
                PieceRole::Replica,
                Check { label: format!("the tied copy {label}"), fatal: true },
            );
        }
        let cut = self.cut_axes(rule);
        let merges = self.cuts.layout.map_or(&[][..], |layout| &layout.merges);
        let mut role = PieceRole::Primary;
        let mut fatal = true;
        for (axis, at) in one.stored.at.iter().filter(|(axis, _)| !cut.contains(axis.as_str())) {
            let merge = merges.iter().find(|merge| {
                merge.over == *axis
                    && merge.params.iter().any(|path| is_under(&rule.terms[0], path))
            });
            let ranks = self.cuts.size(axis);
            match merge.map(|merge| merge.op) {
                // What another axis repeats is merged once: it stays a replica.
                Some(MergeOp::Average) if ranks > 1 => {
                    if role == PieceRole::Primary {
                        role = PieceRole::Average(u32::try_from(ranks).unwrap_or(u32::MAX));
                    }
                    // Their spread is told; it is why they are averaged.
                    fatal = false;
                    continue;
                }
                Some(MergeOp::Sum) if ranks > 1 && is_weight(&one.stored.state) => {
                    if role == PieceRole::Primary {
                        role = PieceRole::Sum;
                    }
                    continue;
                }
                _ => {}
            }
            if owners.get(&self.key(one, &cut, axis)).is_some_and(|owner| owner != at) {
                let tied = self
                    .program
                    .model
                    .params
                    .iter()
                    .any(|p| p.tied.as_deref() == Some(&rule.terms[0]));
                // A stage that does not own a tensor may keep an old copy of it, unless it is tied.
                fatal &= !self.is_stage(axis) || (tied && self.bound.tied);
                role = PieceRole::Replica;
            }
        }
        (role, Check { label, fatal })
    }

    /// Whether an earlier rank holds the same indices of a term, because there are more ranks than
    /// indices.
    pub(super) fn repeats(&self, one: &Placed<'_>, rule: &Rule, term: usize) -> bool {
        let terms = &rule.terms[term..=term];
        let mut cuts = self.cuts.met_by(Some(term), &rule.shape, terms, &self.composites);
        for dim in rule.spellings[0].template.indices() {
            cuts.extend(self.cuts.of(&rule.terms[0], dim).filter(|shard| !shard.global));
        }
        cuts.into_iter().filter(|shard| shard.rest.repeat).any(|shard| {
            let extent = self.bound.sizes.value(&self.composites.atoms(&shard.dim));
            extent.is_some_and(|extent| {
                let copies = self.cuts.ranks(shard).checked_div(extent).unwrap_or(1).max(1);
                !self.cuts.part(shard, &one.stored.at).is_multiple_of(copies)
            })
        })
    }
}
