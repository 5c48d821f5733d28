//! Numbers and conditions.

use ucl_ir::{BinaryOp, Compare, Cond, Expr};

/// An expression; what is not a single word inside of another stands in parentheses.
pub(super) fn print(expr: &Expr) -> String {
    match expr {
        Expr::Int(number) => number.to_string(),
        Expr::Key(key) => key.clone(),
        Expr::Or(a, b) => format!("{} ?? {}", inner(a), inner(b)),
        Expr::If { then, cond, other } => {
            format!("{} if {} else {}", inner(then), inner(cond), inner(other))
        }
        Expr::Binary(op, a, b) => {
            let op = match op {
                BinaryOp::Add => "+",
                BinaryOp::Sub => "-",
                BinaryOp::Mul => "*",
                BinaryOp::Div => "/",
                BinaryOp::Rem => "%",
            };
            format!("{} {op} {}", inner(a), inner(b))
        }
        Expr::Not(a) => format!("not {}", inner(a)),
        Expr::Neg(a) => format!("-{}", inner(a)),
    }
}

fn inner(expr: &Expr) -> String {
    match expr {
        Expr::Int(_) | Expr::Key(_) => print(expr),
        _ => format!("({})", print(expr)),
    }
}

/// A condition; `and` binds tighter than `or`, and there are no parentheses.
pub(super) fn cond(cond: &Cond) -> String {
    match cond {
        Cond::Compare(relation, a, b) => {
            let relation = match relation {
                Compare::Equal => "=",
                Compare::Less => "<",
                Compare::Greater => ">",
            };
            format!("{} {relation} {}", print(a), print(b))
        }
        Cond::And(a, b) => format!("{} and {}", self::cond(a), self::cond(b)),
        Cond::Or(a, b) => format!("{} or {}", self::cond(a), self::cond(b)),
    }
}
