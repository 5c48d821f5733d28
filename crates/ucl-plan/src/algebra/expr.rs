//! The layout expression.

use std::sync::Arc;

/// How elements are stored. An expression of size `n` numbers its elements 0..n, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    /// The indices `lo..hi` of a dim. `hi` may pass the true extent: what is beyond is padding.
    Dim {
        /// The dim's name.
        dim: Arc<str>,
        /// First index.
        lo: u64,
        /// One past the last index.
        hi: u64,
    },
    /// Row-major, the last factor fastest. Empty is one element.
    Prod(Vec<Expr>),
    /// One after the other. Alternative `j` belongs to term `j` of the rule.
    Sum(Vec<Expr>),
    /// The elements `lo..hi` of another expression.
    Sub {
        /// The whole.
        of: Box<Expr>,
        /// First element.
        lo: u64,
        /// One past the last element.
        hi: u64,
    },
}

impl Expr {
    /// The number of elements.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Expr::Dim { lo, hi, .. } | Expr::Sub { lo, hi, .. } => hi - lo,
            Expr::Prod(factors) => factors.iter().map(Expr::size).product(),
            Expr::Sum(branches) => branches.iter().map(Expr::size).sum(),
        }
    }
}
