//! What is the same in a spec and in a program, less the spans.

use crate::ast;
use ucl_ir::{Cond, Expr, Factor, Segment, Shape, Sum, Template};

pub(super) fn expr(expr: &ast::Expr) -> Expr {
    let boxed = |inner: &ast::Expr| Box::new(self::expr(inner));
    match &expr.kind {
        ast::ExprKind::Int(value) => Expr::Int(*value),
        ast::ExprKind::Key(key) => Expr::Key(key.clone()),
        ast::ExprKind::Or(a, b) => Expr::Or(boxed(a), boxed(b)),
        ast::ExprKind::If(then, cond, other) => {
            Expr::If { then: boxed(then), cond: boxed(cond), other: boxed(other) }
        }
        ast::ExprKind::Binary(op, a, b) => Expr::Binary(*op, boxed(a), boxed(b)),
        ast::ExprKind::Not(inner) => Expr::Not(boxed(inner)),
        ast::ExprKind::Neg(inner) => Expr::Neg(boxed(inner)),
    }
}

pub(super) fn cond(cond: &ast::Cond) -> Cond {
    match cond {
        ast::Cond::Compare(op, a, b) => Cond::Compare(*op, expr(a), expr(b)),
        ast::Cond::And(a, b) => Cond::And(Box::new(self::cond(a)), Box::new(self::cond(b))),
        ast::Cond::Or(a, b) => Cond::Or(Box::new(self::cond(a)), Box::new(self::cond(b))),
    }
}

pub(super) fn factors(factors: &[ast::Factor]) -> Shape {
    let lowered = factors.iter().map(|factor| match &factor.kind {
        ast::FactorKind::One => Factor::One,
        ast::FactorKind::Name(name) => Factor::Name(name.clone()),
        ast::FactorKind::Group(sum) => Factor::Group(self::sum(sum)),
    });
    lowered.collect()
}

pub(super) fn sum(sum: &ast::Sum) -> Sum {
    Sum { alternatives: sum.alternatives.iter().map(|product| factors(product)).collect() }
}

/// The template of these parts, where `{weight,bias}` reads `last`; neighbouring texts become one.
pub(super) fn template<'a>(parts: impl IntoIterator<Item = &'a ast::Part>, last: &str) -> Template {
    let mut template = Template { segments: Vec::new() };
    for part in parts {
        push(
            &mut template,
            match part {
                ast::Part::Text(text) => Segment::Text(text.clone()),
                ast::Part::Index(dim, plus) => Segment::Index { dim: dim.clone(), plus: *plus },
                ast::Part::Count(dim, plus) => Segment::Count { dim: dim.clone(), plus: *plus },
                ast::Part::WeightBias => Segment::Text(last.to_owned()),
                ast::Part::Any => Segment::Any,
            },
        );
    }
    template
}

/// Adds a segment; texts flow together, so that equal names are equal templates.
pub(super) fn push(template: &mut Template, segment: Segment) {
    match (template.segments.last_mut(), segment) {
        (_, Segment::Text(text)) if text.is_empty() => {}
        (Some(Segment::Text(before)), Segment::Text(text)) => before.push_str(&text),
        (_, segment) => template.segments.push(segment),
    }
}
