//! Layouts.

use super::{Build, Match, has, of};
use crate::ast::{Layout, LayoutRule, Name, Rest, Shard, Uneven};
use crate::grammar::{Rule, parts};
use ucl_ir::{MergeOp, PadFill};

impl Build<'_> {
    pub(super) fn layout(&mut self, pair: Match<'_>) -> Option<Layout> {
        let name = self.first_name(&pair)?;
        let extends = self.extends(&pair);
        let span = self.span(&pair);
        let views = of(pair.clone(), Rule::layout_for).flat_map(|list| self.names(list)).collect();
        let rules = parts(pair).filter_map(|part| self.layout_rule(part)).collect();
        Some(Layout { name, views, extends, rules, span })
    }

    fn layout_rule(&mut self, pair: Match<'_>) -> Option<LayoutRule> {
        let span = self.span(&pair);
        Some(match pair.as_rule() {
            Rule::mesh => {
                LayoutRule::Mesh(of(pair, Rule::axis).filter_map(|axis| self.axis(axis)).collect())
            }
            Rule::shard => LayoutRule::Shard(self.shard(pair)),
            Rule::pad => LayoutRule::Pad {
                dim: self.first_name(&pair)?,
                with: pad_fill(&pair),
                to: of(pair, Rule::expr).next().map(|to| self.expr(to))?,
                span,
            },
            Rule::copy => {
                LayoutRule::CopyTied(of(pair, Rule::cond).next().and_then(|cond| self.cond(cond))?)
            }
            Rule::merge => LayoutRule::Merge {
                op: if has(&pair, Rule::kw_sum) { MergeOp::Sum } else { MergeOp::Average },
                over: self.first_name(&pair)?,
                params: of(pair, Rule::path).map(|path| self.name(&path)).collect(),
                span,
            },
            Rule::keep => {
                let coord = of(pair.clone(), Rule::coord).next()?;
                LayoutRule::Keep {
                    over: self.first_name(&coord)?,
                    at: of(coord, Rule::int).next().map(|at| self.int(&at))?.value,
                    params: of(pair, Rule::path).map(|path| self.name(&path)).collect(),
                    span,
                }
            }
            Rule::demand => LayoutRule::Require(
                of(pair, Rule::cond).next().and_then(|cond| self.cond(cond))?,
                span,
            ),
            _ => return None,
        })
    }

    fn axis(&self, pair: Match<'_>) -> Option<(Name, Option<Name>)> {
        let mut names = self.names(pair).into_iter();
        Some((names.next()?, names.next()))
    }

    fn shard(&mut self, pair: Match<'_>) -> Shard {
        let rest = of(pair.clone(), Rule::rest).next();
        let rest = rest.map(|rest| self.rest(rest)).unwrap_or_default();
        let list = |rule| of(pair.clone(), rule).flat_map(|list| self.names(list)).collect();
        Shard {
            dims: list(Rule::shard_dims),
            of: list(Rule::shard_of),
            over: list(Rule::shard_over),
            rest,
            global: has(&pair, Rule::kw_global),
            stage: has(&pair, Rule::kw_stage),
            span: self.span(&pair),
        }
    }

    fn rest(&mut self, pair: Match<'_>) -> Rest {
        let repeat = has(&pair, Rule::kw_repeat);
        let uneven = of(pair, Rule::uneven).next().map(|uneven| {
            let run = of(uneven.clone(), Rule::int).next().map(|run| self.int(&run));
            match self.first_name(&uneven) {
                Some(dim) => Uneven::Within(dim),
                None => Uneven::Runs(run),
            }
        });
        Rest { uneven, repeat }
    }
}

fn pad_fill(pair: &Match<'_>) -> PadFill {
    match of(pair.clone(), Rule::fill).next() {
        Some(fill) if has(&fill, Rule::kw_last) => PadFill::Last,
        Some(fill) if has(&fill, Rule::kw_mean) => PadFill::Mean,
        _ => PadFill::Zero,
    }
}
