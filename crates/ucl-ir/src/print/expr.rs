//! Expressions, conditions and shapes, as they are written.

use crate::{BinaryOp, Binding, Compare, Cond, Document, Expr, Factor, Sum};
use std::fmt::{self, Write};

pub(super) fn expr(expr: &Expr) -> String {
    match expr {
        Expr::Int(value) => value.to_string(),
        Expr::Key(key) => key.clone(),
        Expr::Or(a, b) => format!("{} ?? {}", inner(a), inner(b)),
        Expr::If { then, cond, other } => {
            format!("{} if {} else {}", inner(then), inner(cond), inner(other))
        }
        Expr::Binary(op, a, b) => {
            let sign = match op {
                BinaryOp::Add => "+",
                BinaryOp::Sub => "-",
                BinaryOp::Mul => "*",
                BinaryOp::Div => "/",
                BinaryOp::Rem => "%",
            };
            format!("{} {sign} {}", inner(a), inner(b))
        }
        Expr::Not(a) => format!("not {}", inner(a)),
        Expr::Neg(a) => format!("-{}", inner(a)),
    }
}

/// An operand: in parentheses unless it is a name or a number.
fn inner(operand: &Expr) -> String {
    match operand {
        Expr::Int(value) if *value >= 0 => value.to_string(),
        Expr::Key(key) => key.clone(),
        other => format!("({})", expr(other)),
    }
}

pub(super) fn cond(cond: &Cond) -> String {
    match cond {
        Cond::Compare(op, a, b) => {
            let sign = match op {
                Compare::Equal => "=",
                Compare::Less => "<",
                Compare::Greater => ">",
            };
            format!("{} {sign} {}", expr(a), expr(b))
        }
        Cond::And(a, b) => format!("{} and {}", self::cond(a), self::cond(b)),
        Cond::Or(a, b) => format!("{} or {}", self::cond(a), self::cond(b)),
    }
}

pub(super) fn factors(factors: &[Factor]) -> String {
    let texts: Vec<String> = factors
        .iter()
        .map(|factor| match factor {
            Factor::One => "1".to_owned(),
            Factor::Name(name) => name.clone(),
            Factor::Group(sum) => format!("({})", self::sum(sum)),
        })
        .collect();
    texts.join(" ")
}

pub(super) fn sum(sum: &Sum) -> String {
    let single = sum.alternatives.iter().all(|product| product.len() == 1);
    let texts: Vec<String> = sum.alternatives.iter().map(|product| factors(product)).collect();
    texts.join(if single { "|" } else { " | " })
}

/// `from` blocks, one for each run of lines of the same document.
pub(super) fn bindings(bindings: &[Binding], f: &mut impl Write) -> fmt::Result {
    for block in bindings.chunk_by(|a, b| a.document == b.document) {
        let document = match block.first().map(|binding| binding.document) {
            Some(Document::Config) | None => "config",
            Some(Document::Args) => "args",
            Some(Document::Params) => "params",
        };
        writeln!(f, "  from {document} {{")?;
        let width = block.iter().map(|binding| binding.name.len()).max().unwrap_or(0);
        for binding in block {
            writeln!(f, "    {:width$} = {}", binding.name, expr(&binding.expr))?;
        }
        writeln!(f, "  }}")?;
    }
    Ok(())
}
