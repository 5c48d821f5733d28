//! From a rule's shape to layout expressions on one rank.

use super::composite::Composites;
use super::cut::{Cuts, interval};
use super::size::{Monomial, Sizes};
use crate::algebra::Expr;
use crate::params::Param;
use std::collections::BTreeMap;
use ucl_ir::{Factor, Mesh, Shard, Sum, Uneven};

/// Why a shape has no numbers on a rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It cuts or reorders inside of dims whose sizes do not follow one by one.
    Unknown {
        /// The dims that would have to be known.
        dims: Vec<String>,
    },
    /// A dim is cut in runs of indices that do not add up to it.
    Runs {
        /// The dim.
        dim: String,
        /// Its extent.
        extent: u64,
        /// The indices of a run.
        run: u64,
        /// Over these axes.
        over: Vec<String>,
    },
    /// A dim does not divide over the ranks.
    Divide {
        /// The dim.
        dim: String,
        /// Its extent.
        extent: u64,
        /// How many parts it is cut into.
        ranks: u64,
        /// Over these axes.
        over: Vec<String>,
    },
}

/// What lowering needs to know.
pub(crate) struct Lowering<'a> {
    pub(crate) composites: &'a Composites<'a>,
    pub(crate) cuts: Cuts<'a>,
    pub(crate) sizes: &'a Sizes,
    /// Padded extents of dims.
    pub(crate) padded: &'a BTreeMap<String, u64>,
    /// The rank's coordinates.
    pub(crate) rank: &'a Mesh,
    /// The rule's terms.
    pub(crate) terms: &'a [String],
    /// The parameters that they mean: for a tied head the original.
    pub(crate) params: &'a [&'a Param],
}

enum Leaf {
    Atom(String),
    Done(Expr),
}

impl Lowering<'_> {
    /// One expression for each stored dim, over this rank's intervals.
    pub(crate) fn axes(&self, shape: &[Factor]) -> Result<Vec<Expr>, Unfit> {
        shape.iter().map(|factor| self.product(std::slice::from_ref(factor), None, false)).collect()
    }

    fn param(&self, term: Option<usize>) -> &Param {
        self.params[term.unwrap_or(0).min(self.params.len() - 1)]
    }

    fn product(&self, factors: &[Factor], term: Option<usize>, done: bool) -> Result<Expr, Unfit> {
        let mut leaves = Vec::new();
        self.flatten(factors, term, done, &mut leaves)?;
        let mut out = Vec::new();
        let mut rest = leaves.into_iter().peekable();
        while let Some(leaf) = rest.next() {
            match leaf {
                Leaf::Done(expr) => out.push(expr),
                Leaf::Atom(first) => {
                    let block = self.block(term, &first)?;
                    for atom in &block[1..] {
                        match rest.next() {
                            Some(Leaf::Atom(next)) if next == *atom => {}
                            _ => return Err(self.unknown(&block)),
                        }
                    }
                    out.push(self.whole(&block)?);
                }
            }
        }
        Ok(if out.len() == 1 { out.remove(0) } else { Expr::Prod(out) })
    }

    /// The atoms that are one dim of the parameter, of which `first` is the first.
    fn block(&self, term: Option<usize>, first: &str) -> Result<Monomial, Unfit> {
        let found =
            self.param(term).dims.iter().find(|dim| dim.name.split(' ').any(|atom| atom == first));
        match found {
            Some(dim) => {
                let atoms: Monomial = dim.name.split(' ').map(str::to_owned).collect();
                if atoms[0] == first { Ok(atoms) } else { Err(self.unknown(&atoms)) }
            }
            None => Ok(vec![first.to_owned()]),
        }
    }

    fn flatten(
        &self,
        factors: &[Factor],
        term: Option<usize>,
        done: bool,
        out: &mut Vec<Leaf>,
    ) -> Result<(), Unfit> {
        for factor in factors {
            match factor {
                Factor::One => {}
                Factor::Group(sum) => self.flatten_sum(sum, term, done, out)?,
                Factor::Name(name) => {
                    let path = &self.terms[term.unwrap_or(0).min(self.terms.len() - 1)];
                    let cut = if done { None } else { self.cuts.of(path, name) };
                    match (self.composites.get(name), cut) {
                        (None, None) => out.push(Leaf::Atom(name.clone())),
                        (None, Some(shard)) => {
                            let block = self.block(term, name)?;
                            if block.len() > 1 {
                                return Err(self.unknown(&block));
                            }
                            let (lo, hi) = self.interval(name, self.extent(&block)?, shard)?;
                            out.push(Leaf::Done(Expr::Dim { dim: name.as_str().into(), lo, hi }));
                        }
                        (Some(sum), None) => self.flatten_sum(sum, term, done, out)?,
                        (Some(sum), Some(shard)) => {
                            let of = Box::new(self.sum(sum, term, true)?);
                            let (lo, hi) = self.interval(name, of.size(), shard)?;
                            out.push(Leaf::Done(Expr::Sub { of, lo, hi }));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn flatten_sum(
        &self,
        sum: &Sum,
        term: Option<usize>,
        done: bool,
        out: &mut Vec<Leaf>,
    ) -> Result<(), Unfit> {
        match &sum.alternatives[..] {
            [only] => self.flatten(only, term, done, out),
            _ => {
                out.push(Leaf::Done(self.sum(sum, term, done)?));
                Ok(())
            }
        }
    }

    fn sum(&self, sum: &Sum, term: Option<usize>, done: bool) -> Result<Expr, Unfit> {
        match &sum.alternatives[..] {
            [only] => self.product(only, term, done),
            several => {
                let branches = several
                    .iter()
                    .enumerate()
                    .map(|(index, product)| self.product(product, Some(index), done));
                Ok(Expr::Sum(branches.collect::<Result<_, _>>()?))
            }
        }
    }

    fn whole(&self, block: &[String]) -> Result<Expr, Unfit> {
        Ok(Expr::Dim { dim: block.join(" ").into(), lo: 0, hi: self.extent(block)? })
    }

    fn extent(&self, block: &[String]) -> Result<u64, Unfit> {
        match block {
            [one] if self.padded.contains_key(one) => Ok(self.padded[one]),
            _ => self.sizes.value(block).ok_or_else(|| self.unknown(block)),
        }
    }

    fn interval(&self, dim: &str, extent: u64, shard: &Shard) -> Result<(u64, u64), Unfit> {
        let ranks = self.cuts.ranks(shard);
        let size = |dim: &str| self.sizes.value(&self.composites.atoms(dim));
        let part = self.cuts.part(shard, self.rank);
        interval(extent, (ranks, part), &shard.rest, &size).ok_or_else(|| {
            let (dim, over) = (dim.to_owned(), shard.over.clone());
            match shard.rest.uneven {
                Some(Uneven::Runs(run)) if !extent.is_multiple_of(run) => {
                    Unfit::Runs { dim, extent, run, over }
                }
                _ => Unfit::Divide { dim, extent, ranks, over },
            }
        })
    }

    fn unknown(&self, block: &[String]) -> Unfit {
        let dims = block.iter().filter(|atom| self.sizes.atom(atom).is_none()).cloned().collect();
        Unfit::Unknown { dims }
    }
}

/// A stored dim's local size as a polynomial in the whole sizes: `(numerator, denominator, product)`.
/// `None` where a cut need not divide.
pub(crate) fn local_size(
    composites: &Composites<'_>,
    cuts: Cuts<'_>,
    params: &[String],
    factor: &Factor,
    rename: &dyn Fn(&str) -> String,
) -> Option<Vec<(u64, u64, Monomial)>> {
    let local = LocalSize { composites, cuts, params, rename };
    local.product(std::slice::from_ref(factor), None)
}

struct LocalSize<'a> {
    composites: &'a Composites<'a>,
    cuts: Cuts<'a>,
    params: &'a [String],
    rename: &'a dyn Fn(&str) -> String,
}

impl LocalSize<'_> {
    fn product(
        &self,
        factors: &[Factor],
        term: Option<usize>,
    ) -> Option<Vec<(u64, u64, Monomial)>> {
        let mut product = vec![(1, 1, Monomial::new())];
        for factor in factors {
            let next = match factor {
                Factor::One => continue,
                Factor::Group(sum) => self.sum(sum, term)?,
                Factor::Name(name) => {
                    let param = &self.params[term.unwrap_or(0).min(self.params.len() - 1)];
                    match (self.composites.get(name), self.cuts.of(param, name)) {
                        (Some(sum), None) => self.sum(sum, term)?,
                        (_, Some(shard)) if !shard.rest.is_exact() => return None,
                        (_, cut) => {
                            let ranks = cut.map_or(1, |shard| self.cuts.ranks(shard));
                            let whole = self
                                .composites
                                .polynomial(std::slice::from_ref(factor), self.rename);
                            whole.into_iter().map(|(by, product)| (by, ranks, product)).collect()
                        }
                    }
                }
            };
            product = product
                .iter()
                .flat_map(|(a, b, left)| {
                    next.iter().map(move |(c, d, right)| {
                        let mut both: Monomial = left.iter().chain(right).cloned().collect();
                        both.sort();
                        (a * c, b * d, both)
                    })
                })
                .collect();
        }
        Some(product)
    }

    fn sum(&self, sum: &Sum, term: Option<usize>) -> Option<Vec<(u64, u64, Monomial)>> {
        let several = sum.alternatives.len() > 1;
        let mut total = Vec::new();
        for (index, product) in sum.alternatives.iter().enumerate() {
            total.extend(self.product(product, if several { Some(index) } else { term })?);
        }
        Some(total)
    }
}
