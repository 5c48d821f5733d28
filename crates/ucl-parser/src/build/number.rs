//! Numbers and conditions.

use super::{Build, Match};
use crate::ast::{Cond, Expr, ExprKind};
use crate::grammar::Rule;
use std::mem;
use ucl_ir::{BinaryOp, Compare, Diagnostic, Span};

/// The most parts of one expression. What follows walks the tree by recursion.
const LONGEST: usize = 1000;

impl Build<'_> {
    pub(super) fn expr(&mut self, pair: Match<'_>) -> Expr {
        let span = self.span(&pair);
        if pair.clone().into_inner().flatten().count() > LONGEST {
            self.too_long(span);
            return Expr { kind: ExprKind::Int(0), span };
        }
        self.choice(pair)
    }

    /// `a if c else b if d else e`: the last choice is the innermost one.
    fn choice(&mut self, pair: Match<'_>) -> Expr {
        let mut parts: Vec<Expr> = operands(pair).map(|part| self.negation(part)).collect();
        let mut result = parts.pop().unwrap_or_else(|| self.nothing());
        while let (Some(cond), Some(then)) = (parts.pop(), parts.pop()) {
            let span = to(then.span, result.span);
            let kind = ExprKind::If(Box::new(then), Box::new(cond), Box::new(result));
            result = Expr { kind, span };
        }
        result
    }

    fn negation(&mut self, pair: Match<'_>) -> Expr {
        self.prefixed(pair, Rule::kw_not, Build::added, ExprKind::Not)
    }

    fn added(&mut self, pair: Match<'_>) -> Expr {
        self.chain(pair, Build::scaled)
    }

    fn scaled(&mut self, pair: Match<'_>) -> Expr {
        self.chain(pair, Build::signed)
    }

    fn signed(&mut self, pair: Match<'_>) -> Expr {
        self.prefixed(pair, Rule::minus, Build::fallback, ExprKind::Neg)
    }

    /// `a ?? -b ?? c`
    fn fallback(&mut self, pair: Match<'_>) -> Expr {
        let mut signs: Vec<Span> = Vec::new();
        let mut result: Option<Expr> = None;
        for part in pair.into_inner() {
            if part.as_rule() == Rule::minus {
                signs.push(self.span(&part));
                continue;
            }
            let mut next = self.primary(part);
            for sign in mem::take(&mut signs).into_iter().rev() {
                let span = to(sign, next.span);
                next = Expr { kind: ExprKind::Neg(Box::new(next)), span };
            }
            result = Some(match result {
                None => next,
                Some(first) => {
                    let span = to(first.span, next.span);
                    Expr { kind: ExprKind::Or(Box::new(first), Box::new(next)), span }
                }
            });
        }
        result.unwrap_or_else(|| self.nothing())
    }

    fn primary(&mut self, pair: Match<'_>) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::int => ExprKind::Int(i64::try_from(self.int(&pair).value).unwrap_or(i64::MAX)),
            Rule::kw_true => ExprKind::Int(1),
            Rule::kw_false => ExprKind::Int(0),
            Rule::key => ExprKind::Key(pair.as_str().to_owned()),
            // The span takes in the parentheses, the tree needs none.
            _ => operands(pair).next().map_or(ExprKind::Int(0), |inner| self.choice(inner).kind),
        };
        Expr { kind, span }
    }

    /// Operands with operators between them, from left to right.
    fn chain(&mut self, pair: Match<'_>, operand: fn(&mut Self, Match<'_>) -> Expr) -> Expr {
        let mut inner = pair.into_inner();
        let Some(first) = inner.next() else { return self.nothing() };
        let mut result = operand(self, first);
        while let (Some(sign), Some(next)) = (inner.next(), inner.next()) {
            let next = operand(self, next);
            let span = to(result.span, next.span);
            let op = match sign.as_str().trim_end() {
                "+" => BinaryOp::Add,
                "-" => BinaryOp::Sub,
                "*" => BinaryOp::Mul,
                _ => BinaryOp::Div,
            };
            let kind = ExprKind::Binary(op, Box::new(result), Box::new(next));
            result = Expr { kind, span };
        }
        result
    }

    fn prefixed(
        &mut self,
        pair: Match<'_>,
        sign: Rule,
        operand: fn(&mut Self, Match<'_>) -> Expr,
        wrap: fn(Box<Expr>) -> ExprKind,
    ) -> Expr {
        let mut signs = Vec::new();
        let mut result = None;
        for part in pair.into_inner() {
            if part.as_rule() == sign {
                signs.push(self.span(&part));
            } else {
                result = Some(operand(self, part));
            }
        }
        let mut result = result.unwrap_or_else(|| self.nothing());
        for sign in signs.into_iter().rev() {
            let span = to(sign, result.span);
            result = Expr { kind: wrap(Box::new(result)), span };
        }
        result
    }

    pub(super) fn cond(&mut self, pair: Match<'_>) -> Option<Cond> {
        if pair.clone().into_inner().flatten().count() > LONGEST {
            let span = self.span(&pair);
            self.too_long(span);
            return None;
        }
        let either = operands(pair).filter_map(|both| {
            let all = operands(both).filter_map(|compare| self.compare(compare));
            all.reduce(|a, b| Cond::And(Box::new(a), Box::new(b)))
        });
        either.reduce(|a, b| Cond::Or(Box::new(a), Box::new(b)))
    }

    fn compare(&mut self, pair: Match<'_>) -> Option<Cond> {
        let mut sides = Vec::new();
        let mut relation = Compare::Equal;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::relation => {
                    relation = match part.as_str().trim_end() {
                        "<" => Compare::Less,
                        ">" => Compare::Greater,
                        _ => Compare::Equal,
                    }
                }
                _ => sides.push(self.choice(part)),
            }
        }
        let right = sides.pop()?;
        let left = sides.into_iter().reduce(|a, b| {
            let span = to(a.span, b.span);
            Expr { kind: ExprKind::Binary(BinaryOp::Rem, Box::new(a), Box::new(b)), span }
        })?;
        Some(Cond::Compare(relation, left, right))
    }

    fn too_long(&mut self, span: Span) {
        self.found.push(
            Diagnostic::new("ucl::too-long", "this expression has too many parts")
                .at(span, format!("has more than {LONGEST} operands and operators")),
        );
    }

    /// Stands where recovery left nothing.
    fn nothing(&self) -> Expr {
        Expr { kind: ExprKind::Int(0), span: self.draft.span(0, 0) }
    }
}

/// The parts between words and signs.
fn operands(pair: Match<'_>) -> impl Iterator<Item = Match<'_>> {
    pair.into_inner().filter(|part| {
        !matches!(part.as_rule(), Rule::kw_if | Rule::kw_else | Rule::kw_and | Rule::kw_or)
    })
}

fn to(first: Span, last: Span) -> Span {
    Span { end: last.end, ..first }
}
