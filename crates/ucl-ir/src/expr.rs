//! Numbers that follow from documents, dims and the mesh.

use serde::{Deserialize, Serialize};

/// An arithmetic expression. Booleans are 0 and 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expr {
    /// A number.
    Int(i64),
    /// A dim, a bound name (`m`, `c1`), a mesh axis, or a key of the document.
    Key(String),
    /// `a ?? b`: `b` where `a` is missing or null.
    Or(Box<Expr>, Box<Expr>),
    /// `a if c else b`.
    If {
        /// Taken when the condition is not 0.
        then: Box<Expr>,
        /// The condition.
        cond: Box<Expr>,
        /// Taken otherwise.
        other: Box<Expr>,
    },
    /// `a op b`.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `not a`.
    Not(Box<Expr>),
    /// `-a`.
    Neg(Box<Expr>),
}

/// An operator between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`, which has to divide.
    Div,
    /// `%`, in conditions only.
    Rem,
}

/// A condition on numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cond {
    /// `a = b`, `a < b`, `a > b`.
    Compare(Compare, Expr, Expr),
    /// Both.
    And(Box<Cond>, Box<Cond>),
    /// Either.
    Or(Box<Cond>, Box<Cond>),
}

/// A comparison of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `>`
    Greater,
}

impl Expr {
    /// The keys in it, in order, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.walk(&mut names);
        names
    }

    fn walk<'e>(&'e self, names: &mut Vec<&'e str>) {
        match self {
            Expr::Int(_) => {}
            Expr::Key(key) if names.contains(&key.as_str()) => {}
            Expr::Key(key) => names.push(key),
            Expr::Or(a, b) | Expr::Binary(_, a, b) => {
                a.walk(names);
                b.walk(names);
            }
            Expr::If { then, cond, other } => {
                [then, cond, other].into_iter().for_each(|part| part.walk(names));
            }
            Expr::Not(a) | Expr::Neg(a) => a.walk(names),
        }
    }
}

impl Cond {
    /// The keys in it, in order, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.walk(&mut names);
        names
    }

    fn walk<'c>(&'c self, names: &mut Vec<&'c str>) {
        match self {
            Cond::Compare(_, a, b) => {
                a.walk(names);
                b.walk(names);
            }
            Cond::And(a, b) | Cond::Or(a, b) => {
                a.walk(names);
                b.walk(names);
            }
        }
    }
}
