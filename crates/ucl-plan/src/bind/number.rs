//! The value of expressions and conditions.

use serde_json::{Map, Value};
use ucl_ir::{BinaryOp, Compare, Cond, Expr};

/// What a key may mean: numbers by name first, then the keys of a document.
pub(crate) struct Scope<'a> {
    /// Dims, mesh axes and other bound names.
    pub(crate) numbers: &'a dyn Fn(&str) -> Option<i64>,
    /// The document.
    pub(crate) document: Option<&'a Map<String, Value>>,
}

impl Scope<'_> {
    /// The value of `expr`; `None` where a key is missing or null, or a division leaves a rest.
    pub(crate) fn eval(&self, expr: &Expr) -> Option<i64> {
        match expr {
            Expr::Int(number) => Some(*number),
            Expr::Key(key) => (self.numbers)(key).or_else(|| self.look_up(key)),
            Expr::Or(first, second) => self.eval(first).or_else(|| self.eval(second)),
            Expr::If { then, cond, other } => {
                let branch = if self.eval(cond).unwrap_or(0) != 0 { then } else { other };
                self.eval(branch)
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                match op {
                    BinaryOp::Add => a.checked_add(b),
                    BinaryOp::Sub => a.checked_sub(b),
                    BinaryOp::Mul => a.checked_mul(b),
                    BinaryOp::Div => {
                        a.checked_rem(b).filter(|rest| *rest == 0)?;
                        a.checked_div(b)
                    }
                    BinaryOp::Rem => a.checked_rem(b),
                }
            }
            Expr::Not(a) => Some(i64::from(self.eval(a)? == 0)),
            Expr::Neg(a) => self.eval(a)?.checked_neg(),
        }
    }

    /// Whether `cond` holds; a missing key counts as 0.
    pub(crate) fn holds(&self, cond: &Cond) -> bool {
        match cond {
            Cond::Compare(compare, a, b) => {
                let order = self.or_zero(a).cmp(&self.or_zero(b));
                match compare {
                    Compare::Equal => order.is_eq(),
                    Compare::Less => order.is_lt(),
                    Compare::Greater => order.is_gt(),
                }
            }
            Cond::And(a, b) => self.holds(a) && self.holds(b),
            Cond::Or(a, b) => self.holds(a) || self.holds(b),
        }
    }

    /// Whether `cond` holds; `None` where a number in it does not follow and decides.
    pub(crate) fn decides(&self, cond: &Cond) -> Option<bool> {
        match cond {
            Cond::Compare(compare, a, b) => {
                let order = self.eval(a)?.cmp(&self.eval(b)?);
                Some(match compare {
                    Compare::Equal => order.is_eq(),
                    Compare::Less => order.is_lt(),
                    Compare::Greater => order.is_gt(),
                })
            }
            Cond::And(a, b) => match (self.decides(a), self.decides(b)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (a, b) => Some(a? && b?),
            },
            Cond::Or(a, b) => match (self.decides(a), self.decides(b)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (a, b) => Some(a? || b?),
            },
        }
    }

    fn or_zero(&self, expr: &Expr) -> i64 {
        self.eval(expr).unwrap_or(0)
    }

    fn look_up(&self, key: &str) -> Option<i64> {
        match self.document?.get(key)? {
            Value::Bool(flag) => Some(i64::from(*flag)),
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            Value::Number(number) => number
                .as_i64()
                .or_else(|| number.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64)),
            _ => None,
        }
    }
}
