//! Binds an inventory by a spec.

use super::atlas::{Atlas, PieceRole};
use super::buffers::Buffers;
use super::cut::{Cuts, is_under};
use super::facts::{self, Counts, scope_numbers};
use super::identity::{components, piece, place};
use super::lower::{Lowering, Unfit};
use super::names::{Claim, Claims, claim};
use super::number::Scope;
use super::size::{Composites, Sizes};
use super::{Bound, Own};
use crate::algebra::{clip, volume};
use crate::params::{Param, ParamDim};
use crate::work::Check;
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};
use ucl_formats::Inventory;
use ucl_formats::inventory::Stored;
use ucl_ir::{
    Diagnostic, Factor, Layout, MergeOp, Program, Rest, Rule, Shard, ValueOp, View,
};

/// How many names a message lists.
const LISTED: usize = 8;

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
    let (claims, tied) = claim_all(program, view, inventory, cuts, set)?;
    let counts = facts::count(view, &claims, cuts, inventory);
    let equations = facts::equations(program, view, &claims, cuts, inventory, &counts, set);
    let (sizes, mut wrong) = Sizes::solve(&equations);
    let (sizes, padded, notes) = paddings(cuts, sizes, &equations, &mut wrong);
    wrong.extend(obligations(layout, &sizes, program, set, cuts));
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
            layout: layout.map(|layout| layout.name.clone()),
            params: Vec::new(),
            tied,
            missing: Vec::new(),
            ignored: claims.ignored.clone(),
            notes,
            padding: IndexMap::new(),
            sizes,
            padded,
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
    binder.missing();
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

/// Claims all names, and finds out whether the checkpoint is tied.
fn claim_all(
    program: &Program,
    view: &View,
    inventory: &Inventory,
    cuts: Cuts<'_>,
    set: &BTreeMap<String, u64>,
) -> Result<(Claims, bool), Vec<Diagnostic>> {
    let heads: Vec<&str> =
        program.model.params.iter().filter(|p| p.tied.is_some()).map(|p| p.path.as_str()).collect();
    let of_head = |rule: &Rule| rule.terms.iter().any(|term| heads.contains(&term.as_str()));
    let said = facts::bound_number(program, view, inventory, cuts, set, "tied").map(|tied| tied != 0);
    let untied = claim(view, inventory, false);
    let alias = inventory.aliases.keys().any(|alias| {
        view.rules
            .iter()
            .filter(|rule| of_head(rule))
            .any(|rule| rule.spellings.iter().any(|s| s.template.capture(alias).is_some()))
    });
    let present =
        untied.claimed.values().flatten().any(|claim| of_head(&view.rules[claim.rule]));
    let tied = !heads.is_empty() && (said.unwrap_or(false) || alias || (said.is_none() && !present));
    let claims = if tied { claim(view, inventory, true) } else { untied };
    if claims.unclaimed.is_empty() {
        return Ok((claims, tied));
    }
    let listed: Vec<String> = claims.unclaimed.iter().take(LISTED).map(|n| format!("{n:?}")).collect();
    let more = claims.unclaimed.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(vec![
        Diagnostic::new(
            "ucl::match",
            format!(
                "view `{}` of `{}` claims {} of {} names; it does not claim {}{more}",
                view.name,
                program.model.name,
                claims.claimed.len(),
                claims.claimed.len() + claims.unclaimed.len(),
                listed.join(", ")
            ),
        )
        .at(view.span, "no equation and no `ignore` here spells them")
        .help("add an equation or an `ignore`, or convert with `--view stored`, which needs no spec for a model that is only cut over data parallelism"),
    ])
}

/// Padded extents follow from shapes; true extents from what says so.
fn paddings(
    cuts: Cuts<'_>,
    sizes: Sizes,
    equations: &[super::size::Equation],
    wrong: &mut Vec<Diagnostic>,
) -> (Sizes, BTreeMap<String, u64>, Vec<String>) {
    let mut padded = BTreeMap::new();
    let mut notes = Vec::new();
    let mut facts = equations.to_vec();
    for pad in cuts.layout.map_or(&[][..], |layout| &layout.pads) {
        let Some(stored) = sizes.atom(&format!("{}+", pad.dim)) else { continue };
        padded.insert(pad.dim.clone(), stored);
        match sizes.atom(&pad.dim) {
            Some(true_size) if true_size > stored => wrong.push(
                Diagnostic::new(
                    "ucl::bind",
                    format!("`{}` is {true_size}, but only {stored} are stored", pad.dim),
                )
                .at(pad.span, "padded here")
                .help(format!("check --set {}= and the config", pad.dim)),
            ),
            Some(_) => {}
            None => {
                notes.push(format!(
                    "the true size of `{}` is not recorded: all {stored} stored rows are kept; \
                     --set {}=N cuts the padding off",
                    pad.dim, pad.dim
                ));
                facts.push(super::size::Equation {
                    sum: vec![(1, vec![pad.dim.clone()])],
                    value: stored,
                    source: "the stored rows".into(),
                    span: Some(pad.span),
                });
            }
        }
    }
    let sizes = if notes.is_empty() { sizes } else { Sizes::solve(&facts).0 };
    (sizes, padded, notes)
}

/// What a layout requires of the mesh.
fn obligations(
    layout: Option<&Layout>,
    sizes: &Sizes,
    program: &Program,
    set: &BTreeMap<String, u64>,
    cuts: Cuts<'_>,
) -> Vec<Diagnostic> {
    let composites = Composites::new(&program.model, None);
    let mesh = scope_numbers(set, cuts);
    let numbers = |name: &str| {
        mesh(name).or_else(|| sizes.value(&composites.atoms(name)).and_then(|n| i64::try_from(n).ok()))
    };
    let scope = Scope { numbers: &numbers, document: None };
    layout
        .into_iter()
        .flat_map(|layout| &layout.requires)
        .filter(|(cond, _)| !scope.holds(cond))
        .map(|(_, span)| {
            let mesh: Vec<String> = cuts.mesh.iter().map(|(axis, n)| format!("{axis}={n}")).collect();
            let dims: Vec<String> = program
                .model
                .dims
                .iter()
                .filter_map(|dim| Some(format!("{}={}", dim.name, numbers(&dim.name)?)))
                .collect();
            Diagnostic::new("ucl::fit", format!("the mesh {} does not fit {}", mesh.join(" "), dims.join(" ")))
                .at(*span, "this has to hold")
        })
        .collect()
}

struct Binder<'a, 's> {
    program: &'a Program,
    view: &'a View,
    cuts: Cuts<'a>,
    inventory: &'a Inventory,
    set: &'s BTreeMap<String, u64>,
    counts: Counts,
    composites: Composites<'a>,
    by_path: BTreeMap<String, usize>,
    wrong: Vec<Diagnostic>,
    bound: Bound<'a>,
}

/// A stored tensor with its claim and global indices.
struct Placed<'a> {
    index: usize,
    stored: &'a Stored,
    claim: &'a Claim,
    indices: Vec<(String, u64)>,
    /// Whether its rule is a tied head's, so that it is a copy of another parameter.
    copy: bool,
}

impl<'a> Binder<'a, '_> {
    /// Makes the parameters that the checkpoint has.
    fn params(&mut self, claims: &Claims) {
        let mut claimed: BTreeSet<&str> = BTreeSet::new();
        for claim in claims.claimed.values().flatten() {
            claimed.extend(self.view.rules[claim.rule].terms.iter().map(String::as_str));
        }
        for param in &self.program.model.params {
            if self.bound.tied && param.tied.is_some() {
                continue;
            }
            if !claimed.contains(param.path.as_str()) {
                if !param.optional {
                    self.bound.missing.push(param.path.clone());
                }
                continue;
            }
            match param_of(param, &Composites::new(&self.program.model, None), &self.bound.sizes) {
                Ok(made) => {
                    self.by_path.insert(param.path.clone(), self.bound.params.len());
                    self.bound.params.push(made);
                }
                Err(diagnostic) => self.wrong.push(diagnostic),
            }
        }
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
                .find(|claim| self.resolve(&self.view.rules[claim.rule].terms[0]).is_some_and(|r| !r.1))
                .or_else(|| found.first());
            let Some(claim) = claim else { continue };
            if let Some(counted) = claim.counts.iter().find(|(dim, n)| self.counts.totals.get(dim).is_some_and(|t| t != n)) {
                self.wrong.push(
                    Diagnostic::new("ucl::match", format!("{} counts {} of `{}`, the names have {}", place(stored), counted.1, counted.0, self.counts.totals[&counted.0]))
                        .at(self.view.rules[claim.rule].span, "by this equation"),
                );
                continue;
            }
            let term = &self.view.rules[claim.rule].terms[0];
            let indices = claim.indices.iter().map(|(dim, value)| (dim.clone(), value + self.start(term, dim, stored))).collect();
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

    /// The cuts of a tensor of this rule: in its shape, from outside in, and in its name.
    fn cuts_of(&self, rule: &Rule) -> Vec<&'a Shard> {
        let mut found = Vec::new();
        self.cuts_in(&rule.shape, &rule.terms, &mut found);
        for dim in rule.spellings[0].template.indices() {
            found.extend(self.cuts.of(&rule.terms[0], dim).filter(|shard| !shard.global));
        }
        found
    }

    fn cuts_in(&self, factors: &[Factor], terms: &[String], out: &mut Vec<&'a Shard>) {
        for factor in factors {
            let inner = match factor {
                Factor::One => continue,
                Factor::Group(sum) => Some(sum),
                Factor::Name(name) => match terms.iter().find_map(|term| self.cuts.of(term, name)) {
                    Some(shard) => {
                        out.push(shard);
                        continue;
                    }
                    None => self.composites.get(name),
                },
            };
            for alternative in inner.into_iter().flat_map(|sum| &sum.alternatives) {
                self.cuts_in(alternative, terms, out);
            }
        }
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
        let declared = self.cuts.layout.and_then(|layout| layout.axes.iter().find(|known| known.name == axis));
        declared.and_then(|declared| declared.same_as.as_deref()).unwrap_or(axis)
    }

    /// For each tensor (parameter, indices, state) and axis that does not cut it: the coordinate whose
    /// copy counts. On a pipeline it is the stage that owns the tensor, elsewhere the first.
    fn owners(&self, placed: &[Placed<'_>]) -> BTreeMap<(usize, Vec<u64>, String, String), u64> {
        let mut owners = BTreeMap::new();
        for one in placed.iter().filter(|one| !one.copy) {
            let rule = &self.view.rules[one.claim.rule];
            let cut = self.cut_axes(rule);
            let model = self.program.model.params.iter().find(|param| param.path == rule.terms[0]);
            for (axis, at) in one.stored.at.iter().filter(|(axis, _)| !cut.contains(axis.as_str())) {
                let key = self.key(one, axis);
                let last = self.is_stage(axis) && model.is_some_and(|p| p.each.is_empty() && !p.before_each);
                let owner = owners.entry(key).or_insert(*at);
                *owner = if last { (*owner).max(*at) } else { (*owner).min(*at) };
            }
        }
        owners
    }

    fn key(&self, one: &Placed<'_>, axis: &str) -> (usize, Vec<u64>, String, String) {
        let indices = one.indices.iter().map(|index| index.1).collect();
        (one.claim.rule, indices, one.stored.state.clone(), axis.to_owned())
    }

    fn is_stage(&self, axis: &str) -> bool {
        self.cuts.layout.is_some_and(|layout| {
            layout.shards.iter().any(|shard| shard.stage && shard.over.iter().any(|over| over == axis))
        })
    }

    fn lower(&mut self, one: &Placed<'_>, owners: &BTreeMap<(usize, Vec<u64>, String, String), u64>) {
        let rule = &self.view.rules[one.claim.rule];
        let resolved: Option<Vec<(usize, bool)>> = rule.terms.iter().map(|term| self.resolve(term)).collect();
        let Some(resolved) = resolved else { return };
        let params: Vec<&Param> = resolved.iter().map(|(param, _)| &self.bound.params[*param]).collect();
        let lowering = Lowering {
            composites: &self.composites,
            cuts: self.cuts,
            sizes: &self.bound.sizes,
            padded: &self.bound.padded,
            rank: &one.stored.at,
            params: &params,
        };
        let axes = match lowering.axes(&rule.shape) {
            Ok(axes) => axes,
            Err(unfit) => {
                let diagnostic = unfit_diagnostic(&unfit, rule, &place(one.stored));
                if !self.wrong.iter().any(|known| known.labels == diagnostic.labels && known.message == diagnostic.message) {
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
            self.wrong.push(
                Diagnostic::new("ucl::bind", format!("{} has shape {:?}, the spec makes it {memory:?}", place(one.stored), one.stored.shape))
                    .at(rule.span, "by this equation")
                    .help("a dim disagrees with the other tensors: a file of another run, or the wrong model?"),
            );
            return;
        }
        let unit: Vec<(&str, u64)> = one.indices.iter().map(|(dim, value)| (dim.as_str(), *value)).collect();
        let found = components(one.stored, &axes, &unit, &params);
        let (role, check) = self.role(one, rule, owners);
        let index = self.bound.checks.len();
        self.bound.checks.push(check);
        for (component, base, file) in found {
            self.bound.buffers.claim(one.stored, &component, base, file);
            let param = resolved[component.term].0;
            let indices: Vec<u64> = component.bounds[..self.bound.params[param].each].iter().map(|b| b.0).collect();
            let whole = volume(&component.bounds);
            let clipped = clip(component, &self.bound.params[param]);
            let left = clipped.as_ref().map_or(0, |component| volume(&component.bounds));
            if left < whole && role == PieceRole::Primary {
                *self.bound.padding.entry(self.bound.params[param].path.clone()).or_default() += whole - left;
            }
            let Some(component) = clipped else { continue };
            let mut piece = piece(one.stored, one.index, component, base, file, role, index);
            self.values(&mut piece, param, one);
            let own = self.bound.own.entry((param, indices)).or_insert_with(|| Own {
                role: one.stored.role,
                dtype: None,
                name: one.stored.name.clone(),
            });
            if one.stored.state == "param" && !one.copy {
                own.dtype = Some(one.stored.dtype);
            }
            self.bound.atlas.push(param, &one.stored.state, piece);
        }
    }

    /// Whether a tensor counts, is compared, or is merged; and how a difference is called.
    fn role(
        &self,
        one: &Placed<'_>,
        rule: &Rule,
        owners: &BTreeMap<(usize, Vec<u64>, String, String), u64>,
    ) -> (PieceRole, Check) {
        let label = place(one.stored);
        if one.copy {
            return (PieceRole::Replica, Check { label: format!("the tied copy {label}"), fatal: true });
        }
        if self.repeats(one, rule) {
            return (PieceRole::Replica, Check { label, fatal: true });
        }
        let cut = self.cut_axes(rule);
        let merges = self.cuts.layout.map_or(&[][..], |layout| &layout.merges);
        let mut role = PieceRole::Primary;
        let mut fatal = true;
        for (axis, at) in one.stored.at.iter().filter(|(axis, _)| !cut.contains(axis.as_str())) {
            let merge = merges.iter().find(|merge| {
                merge.over == *axis && merge.params.iter().any(|path| is_under(&rule.terms[0], path))
            });
            let ranks = self.cuts.size(axis);
            match merge.map(|merge| merge.op) {
                Some(MergeOp::Average) if ranks > 1 => {
                    role = PieceRole::Average(u32::try_from(ranks).unwrap_or(u32::MAX));
                    continue;
                }
                Some(MergeOp::Sum) if ranks > 1 && is_weight(&one.stored.state) => {
                    role = PieceRole::Sum;
                    continue;
                }
                _ => {}
            }
            if owners.get(&self.key(one, axis)).is_some_and(|owner| owner != at) {
                let tied = self.program.model.params.iter().any(|p| p.tied.as_deref() == Some(&rule.terms[0]));
                // A stage that does not own a tensor may keep an old copy of it, unless it is tied.
                fatal &= !self.is_stage(axis) || (tied && self.bound.tied);
                role = PieceRole::Replica;
            }
        }
        (role, Check { label, fatal })
    }

    /// Whether an earlier rank holds the same indices, because there are more ranks than indices.
    fn repeats(&self, one: &Placed<'_>, rule: &Rule) -> bool {
        self.cuts_of(rule).into_iter().filter(|shard| shard.rest == Rest::Repeat).any(|shard| {
            let extent = self.bound.sizes.value(&self.composites.atoms(&shard.dim));
            extent.is_some_and(|extent| {
                let copies = (self.cuts.ranks(shard) / extent).max(1);
                self.cuts.part(shard, &one.stored.at) % copies != 0
            })
        })
    }

    /// The steps on values that the view says for a parameter.
    fn values(&self, piece: &mut super::Piece, param: usize, one: &Placed<'_>) {
        let number = |name: &str| {
            facts::bound_number(self.program, self.view, self.inventory, self.cuts, self.set, name)
        };
        let path = &self.bound.params[param].path;
        (piece.scale, piece.shift) = stored_value(self.view, path, &one.stored.state, &number);
    }

    /// Names the tensors that the model has and the checkpoint lacks.
    fn missing(&mut self) {
        for (number, param) in self.bound.params.iter().enumerate() {
            let extents: Vec<u64> = param.dims[..param.each].iter().map(|dim| dim.extent).collect();
            let optional = self.program.model.params.iter().any(|p| p.path == param.path && p.optional);
            for indices in crate::params::every(&extents) {
                if !self.bound.own.contains_key(&(number, indices.clone())) {
                    let name = param.name(&indices);
                    if optional {
                        self.bound.missing.push(format!("{name} (others of its kind are there)"));
                    } else {
                        self.bound.missing.push(name);
                    }
                }
            }
        }
    }
}

/// Parameters with numbers, and what has none.
pub(crate) fn params_of<'p>(
    wanted: impl Iterator<Item = &'p ucl_ir::Param>,
    composites: &Composites<'_>,
    sizes: &Sizes,
) -> (Vec<Param>, Vec<Diagnostic>) {
    let mut params = Vec::new();
    let mut wrong = Vec::new();
    for param in wanted {
        match param_of(param, composites, sizes) {
            Ok(made) => params.push(made),
            Err(diagnostic) => wrong.push(diagnostic),
        }
    }
    (params, wrong)
}

/// A parameter with numbers. Neighbouring atoms whose sizes do not follow one by one are one dim.
fn param_of(
    param: &ucl_ir::Param,
    composites: &Composites<'_>,
    sizes: &Sizes,
) -> Result<Param, Diagnostic> {
    let mut made =
        Param { path: param.path.clone(), dims: Vec::new(), each: param.each.len(), groups: Vec::new() };
    let mut open: Vec<String> = Vec::new();
    let mut waiting = 0;
    for (position, name) in param.each.iter().chain(&param.dims).enumerate() {
        let first = made.dims.len();
        for atom in composites.atoms(name) {
            open.push(atom);
            if let Some(extent) = sizes.value(&open) {
                made.dims.push(ParamDim { name: open.join(" "), extent });
                open.clear();
            }
        }
        if position >= param.each.len() {
            waiting += made.dims.len() - first;
            if open.is_empty() {
                made.groups.push(waiting);
                waiting = 0;
            }
        }
    }
    if open.is_empty() {
        return Ok(made);
    }
    Err(Diagnostic::new(
        "ucl::bind",
        format!("the size of `{}` in `{}` does not follow", open.join(" "), param.path),
    )
    .at(param.span, "declared here")
    .help(format!("say it with --set {}=N, or give the model's config with --config DIR", open[0])))
}

/// stored = universal * scale + shift: for weights as the view says, for moments what follows from it.
pub(crate) fn stored_value(
    view: &View,
    param: &str,
    state: &str,
    number: &dyn Fn(&str) -> Option<i64>,
) -> (f64, f64) {
    let (mut scale, mut shift) = (1.0, 0.0);
    for rule in view.values.iter().filter(|rule| rule.param == param) {
        #[expect(clippy::cast_precision_loss, reason = "it is a small number")]
        let by = Scope { numbers: number, document: None }.eval(&rule.by).unwrap_or(0) as f64;
        match (rule.op, state) {
            (ValueOp::Shift, state) if is_weight(state) => shift += by,
            (ValueOp::Shift, _) => {}
            (ValueOp::Scale, "exp_avg") => scale /= by,
            (ValueOp::Scale, "exp_avg_sq") => scale /= by * by,
            (ValueOp::Scale, _) => scale *= by,
        }
    }
    (scale, shift)
}

/// Whether a state is the weights themselves, not a moment.
pub(crate) fn is_weight(state: &str) -> bool {
    matches!(state, "param" | "fp32")
}

/// What a person is told where a shape has no numbers.
pub(crate) fn unfit_diagnostic(unfit: &Unfit, rule: &Rule, place: &str) -> Diagnostic {
    match unfit {
        Unfit::Unknown { dims } => Diagnostic::new(
            "ucl::bind",
            format!(
                "{place} is cut or reordered inside of dims that neither names nor shapes tell apart: {}",
                dims.iter().map(|dim| format!("`{dim}`")).collect::<Vec<_>>().join(", ")
            ),
        )
        .at(rule.span, "this equation needs them")
        .help(format!(
            "give the model's config with --config DIR, or one of them with --set {}=N; `--view stored` needs none",
            dims.first().map_or("k", String::as_str)
        )),
        Unfit::Divide { dim, extent, ranks, over } => Diagnostic::new(
            "ucl::fit",
            format!("{place}: `{dim}` is {extent} and does not divide by {ranks} ({})", over.join(", ")),
        )
        .at(rule.span, "this tensor is cut")
        .help(match divisors(*extent, 64) {
            fits if fits.is_empty() => "no number of ranks fits".to_owned(),
            fits => format!("these numbers of ranks fit: {}", fits.join(", ")),
        }),
    }
}

fn divisors(extent: u64, up_to: u64) -> Vec<String> {
    (1..=extent.min(up_to)).filter(|n| extent % n == 0).map(|n| n.to_string()).collect()
}
