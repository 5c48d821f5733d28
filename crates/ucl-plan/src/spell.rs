//! The tensors that one rank of a mesh holds, by a view and a layout: names, shapes and what is in them.

use crate::algebra::Expr;
use crate::bind::{Composites, Cuts, Lowering, Members, Sizes, exists, is_under, unfit_diagnostic};
use crate::params::{Param, every};
use crate::target::Item;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use ucl_ir::{Diagnostic, MergeOp, Mesh, Program, Rule, Shard, Template, View};

/// Everything that decides what a rank holds.
pub(crate) struct Speller<'a> {
    pub(crate) program: &'a Program,
    pub(crate) view: &'a View,
    pub(crate) cuts: Cuts<'a>,
    pub(crate) sizes: &'a Sizes,
    pub(crate) padded: &'a BTreeMap<String, u64>,
    /// Which indices are in the model's sets.
    pub(crate) sets: &'a Members,
    pub(crate) params: &'a [Param],
    pub(crate) tied: bool,
    /// Whether the last stage keeps a copy of a tied parameter.
    pub(crate) copy_tied: bool,
    pub(crate) rank: &'a Mesh,
    /// Which spelling of each rule to take, where it is not the first that applies.
    pub(crate) spellings: Option<&'a BTreeMap<usize, usize>>,
    /// A prefix that the names come without.
    pub(crate) without_base: Option<&'a str>,
}

impl Speller<'_> {
    /// The rank's tensors, in the order of the view's equations.
    pub(crate) fn items(&self) -> Result<Vec<Item>, Vec<Diagnostic>> {
        let composites = Composites::new(&self.program.model, Some(&self.view.composites));
        let (blocks, loops) = (self.program.model.blocks(), loops(&self.view.rules));
        let mut items = Vec::new();
        let mut wrong = Vec::new();
        for (number, rule) in self.view.rules.iter().enumerate() {
            let terms: Vec<usize> =
                rule.terms.iter().filter_map(|term| self.resolve(term)).collect();
            let here = self.is_here(rule);
            if terms.is_empty() || !(here || self.is_repeated(rule)) {
                continue;
            }
            if terms.len() < rule.terms.len() {
                wrong.push(
                    Diagnostic::new(
                        "ucl::match",
                        format!("the checkpoint has only a part of {}", rule.terms.join(", ")),
                    )
                    .at(rule.span, "this equation needs all of them"),
                );
                continue;
            }
            let of_copy = rule.spellings.iter().find(|spelling| !here && spelling.when_tied);
            let template = of_copy.map(|spelling| &spelling.template);
            let Some(template) = template.or_else(|| self.template(number, rule)) else { continue };
            let before = items.len();
            match self.shapes(&composites, rule, &terms) {
                Ok((axes, shape)) => {
                    let block = blocks.get(&rule.terms[0]).copied().unwrap_or(0);
                    self.spell(
                        template,
                        rule,
                        &terms,
                        &axes.into(),
                        &shape,
                        (block as u64, &loops[number], number as u64),
                        &mut items,
                    );
                }
                Err(diagnostic) => wrong.push(diagnostic),
            }
            for item in &mut items[before..] {
                item.copy |= !here;
                item.tied_name = self.tied_name(rule).filter(|name| *name != item.name);
                item.elsewhere = self.is_elsewhere(rule);
            }
        }
        // A stage that repeats the module of a tied head has the head in it once.
        let mut known: HashSet<String> = HashSet::new();
        items.retain(|item| !item.copy || known.insert(item.name.clone()));
        if wrong.is_empty() { Ok(items) } else { Err(wrong) }
    }

    /// The parameter that a term means on this rank; a tied head means its original, where it is
    /// copied at all.
    fn resolve(&self, term: &str) -> Option<usize> {
        let find = |path: &str| self.params.iter().position(|param| param.path == path);
        find(term).or_else(|| {
            let param = self.program.model.params.iter().find(|param| param.path == term)?;
            find(param.tied.as_ref().filter(|_| self.tied && self.copy_tied)?)
        })
    }

    fn template<'r>(&self, number: usize, rule: &'r Rule) -> Option<&'r Template> {
        if let Some(known) = self.spellings.and_then(|spellings| spellings.get(&number)) {
            return Some(&rule.spellings[*known].template);
        }
        // A tied head is a copy; where a framework has a name of its own for the copy, that is its name.
        let is_copy = self.tied && self.params.iter().all(|param| param.path != rule.terms[0]);
        let of_copy = rule.spellings.iter().find(|spelling| is_copy && spelling.when_tied);
        let applies = rule.spellings.iter().find(|spelling| self.tied || !spelling.when_tied);
        of_copy.or(applies).map(|spelling| &spelling.template)
    }

    /// Whether a parameter lies on this rank: only some may keep it, and one without layers has its
    /// pipeline stage.
    fn is_here(&self, rule: &Rule) -> bool {
        if self.is_left_out(rule) {
            return false;
        }
        let Some(stage) = self.stage() else { return true };
        let Some(param) = self.program.model.params.iter().find(|p| p.path == rule.terms[0]) else {
            return true;
        };
        if param.each.contains(&stage.dim) {
            return true;
        }
        let (part, ranks) = (self.cuts.part(stage, self.rank), self.cuts.ranks(stage));
        if param.before_each { part == 0 } else { part + 1 == ranks }
    }

    /// Whether ranks of another coordinate alone keep a parameter.
    fn is_left_out(&self, rule: &Rule) -> bool {
        let keeps = self.cuts.layout.map_or(&[][..], |layout| &layout.keeps);
        let of = |path: &String| rule.terms.iter().any(|term| is_under(term, path));
        keeps.iter().filter(|keep| keep.params.iter().any(of)).any(|keep| {
            self.cuts.coordinate(self.rank, &keep.over).is_some_and(|own| own != keep.at)
        })
    }

    /// Whether this stage repeats a parameter that lies on another: the last one does of what has a
    /// name in the tied state, where it keeps a copy of a tied head.
    fn is_repeated(&self, rule: &Rule) -> bool {
        let last = self
            .stage()
            .is_some_and(|stage| self.cuts.part(stage, self.rank) + 1 == self.cuts.ranks(stage));
        let named = rule.spellings.iter().any(|spelling| spelling.when_tied);
        self.tied && self.copy_tied && last && named
    }

    /// Whether the first rank has the whole of what ranks hold parts of.
    fn is_elsewhere(&self, rule: &Rule) -> bool {
        let merges = self.cuts.layout.map_or(&[][..], |layout| &layout.merges);
        merges.iter().any(|merge| {
            merge.op == MergeOp::Sum
                && self.rank.get(&merge.over).is_some_and(|at| *at > 0)
                && merge.params.iter().any(|path| is_under(&rule.terms[0], path))
        })
    }

    /// The name that a parameter has in the tied state alone, where its rule has another one beside it.
    fn tied_name(&self, rule: &Rule) -> Option<String> {
        let tied = rule.spellings.iter().find(|spelling| self.tied && spelling.when_tied)?;
        tied.template.fill(|_| None, |dim| self.sizes.atom(dim))
    }

    fn stage(&self) -> Option<&Shard> {
        self.cuts.layout?.shards.iter().find(|shard| shard.stage)
    }

    /// The order in memory, and the shape that the header shows.
    fn shapes(
        &self,
        composites: &Composites<'_>,
        rule: &Rule,
        terms: &[usize],
    ) -> Result<(Vec<Expr>, Vec<u64>), Diagnostic> {
        let params: Vec<&Param> = terms.iter().map(|term| &self.params[*term]).collect();
        let lowering = Lowering {
            composites,
            cuts: self.cuts,
            sizes: self.sizes,
            padded: self.padded,
            rank: self.rank,
            terms: &rule.terms,
            params: &params,
        };
        let refused = |unfit| {
            unfit_diagnostic(&unfit, rule, &format!("the target's {}", rule.terms.join(" | ")))
        };
        let axes = lowering.axes(&rule.shape).map_err(refused)?;
        let declared = match &rule.declared {
            Some(declared) => lowering.axes(declared).map_err(refused)?,
            None => axes.clone(),
        };
        let shape = declared.iter().map(Expr::size).collect();
        Ok((axes, shape))
    }

    #[expect(clippy::too_many_arguments, reason = "one call, each is a part of the item")]
    fn spell(
        &self,
        template: &Template,
        rule: &Rule,
        terms: &[usize],
        axes: &Arc<[Expr]>,
        shape: &[u64],
        (block, loops, number): (u64, &[u64], u64),
        items: &mut Vec<Item>,
    ) {
        let dims: Vec<&str> = template.indices().collect();
        let mut starts = Vec::new();
        let mut counts = Vec::new();
        for dim in &dims {
            let total = self.sizes.atom(dim).unwrap_or(0);
            let cut = self.cuts.of(&rule.terms[0], dim);
            let part = cut.and_then(|cut| {
                let size = |dim: &str| self.sizes.atom(dim);
                Some((self.cuts.interval(cut, total, self.rank, &size)?, cut.global))
            });
            let ((lo, hi), global) = part.unwrap_or(((0, total), true));
            counts.push(hi - lo);
            starts.push((lo, global));
        }
        let param = self.program.model.param(&rule.terms[0]);
        for local in every(&counts) {
            let at = |dim: &str| dims.iter().position(|known| *known == dim);
            let spelled = |dim: &str| {
                let at = at(dim)?;
                Some(if starts[at].1 { local[at] + starts[at].0 } else { local[at] })
            };
            let global = |dim: &str| at(dim).map(|at| local[at] + starts[at].0);
            if param.is_some_and(|param| !exists(self.program, self.sets, param, global)) {
                continue;
            }
            let Some(name) = template.fill(spelled, |dim| self.sizes.atom(dim)) else { continue };
            let name = match self.without_base {
                Some(base) => name.strip_prefix(base).unwrap_or(&name).to_owned(),
                None => name,
            };
            let indices: Vec<u64> = local.iter().zip(&starts).map(|(x, (lo, _))| x + lo).collect();
            items.push(Item {
                name,
                terms: terms.to_vec(),
                unit: dims
                    .iter()
                    .map(|dim| (*dim).to_owned())
                    .zip(indices.iter().copied())
                    .collect(),
                axes: axes.clone(),
                shape: shape.to_vec(),
                dims: Vec::new(),
                values: Vec::new(),
                order: order(block, loops, &indices, number),
                copy: self.params[terms[0]].path != rule.terms[0],
                tied_name: None,
                elsewhere: false,
            });
        }
    }
}

/// Sorts tensors as nested loops over the indices of their names would make them.
fn order(block: u64, loops: &[u64], indices: &[u64], number: u64) -> Vec<u64> {
    let nested = loops.iter().zip(indices).flat_map(|(start, index)| [*start, *index]);
    [block].into_iter().chain(nested).chain([number]).collect()
}

/// For each rule and each index of its name, the first of the neighbouring rules that share the
/// indices so far: what a loop over the index starts with.
fn loops(rules: &[Rule]) -> Vec<Vec<u64>> {
    let dims = |rule: &Rule| -> Vec<String> {
        rule.spellings[0].template.indices().map(str::to_owned).collect()
    };
    let mut loops: Vec<Vec<u64>> = Vec::with_capacity(rules.len());
    let mut before: Vec<String> = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let here = dims(rule);
        let shared = before.iter().zip(&here).take_while(|(a, b)| a == b).count();
        let known = loops.last().map_or(&[][..], |known| &known[..shared]);
        let mut starts = known.to_vec();
        starts.resize(here.len(), number as u64);
        loops.push(starts);
        before = here;
    }
    loops
}
