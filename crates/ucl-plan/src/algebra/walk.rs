//! From a flat range of an expression to boxes.

use super::expr::Expr;
use std::sync::Arc;

/// A dim on the way down: its name, the indices, and the elements from one to the next.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub(super) dim: Arc<str>,
    pub(super) lo: u64,
    pub(super) hi: u64,
    pub(super) stride: i64,
}

/// A box of elements at an address, as [`walk`] finds them.
pub(super) struct Found<'a> {
    /// The alternative of the sum that was passed, if one was.
    pub(super) term: Option<usize>,
    /// The element number of the low corner.
    pub(super) base: i64,
    /// The dims that were met, outermost first.
    pub(super) bounds: &'a [Bound],
}

/// Calls `out` for the boxes that make up the elements `a..b` of the product of `factors`, whose
/// element 0 is at address `base`.
///
/// A range of a product is a head, a body and a tail at each factor, so there are few boxes. `base`
/// may be negative on the way down, where a range starts inside of something.
pub(super) fn walk(factors: &[&Expr], a: u64, b: u64, base: i64, out: &mut dyn FnMut(Found<'_>)) {
    let mut state = State { bounds: Vec::new(), term: None, out };
    state.product(factors, a, b, base);
}

struct State<'o> {
    bounds: Vec<Bound>,
    term: Option<usize>,
    out: &'o mut dyn FnMut(Found<'_>),
}

impl State<'_> {
    fn product(&mut self, factors: &[&Expr], a: u64, b: u64, base: i64) {
        if a >= b {
            return;
        }
        let Some((first, rest)) = factors.split_first() else {
            (self.out)(Found { term: self.term, base, bounds: &self.bounds });
            return;
        };
        let inner: u64 = rest.iter().map(|factor| factor.size()).product();
        match first {
            Expr::Prod(nested) => {
                let flat: Vec<&Expr> = nested.iter().chain(rest.iter().copied()).collect();
                self.product(&flat, a, b, base);
            }
            Expr::Sub { of, lo, .. } => {
                let skip = lo * inner;
                let flat: Vec<&Expr> = [&**of].into_iter().chain(rest.iter().copied()).collect();
                self.product(&flat, skip + a, skip + b, base - signed(skip));
            }
            Expr::Sum(branches) => {
                let outer = self.term;
                let mut start = 0;
                for (term, branch) in branches.iter().enumerate() {
                    let len = branch.size() * inner;
                    if start + len > a && start < b {
                        self.term = Some(term);
                        let flat: Vec<&Expr> =
                            [branch].into_iter().chain(rest.iter().copied()).collect();
                        let (from, to) = (a.saturating_sub(start), (b - start).min(len));
                        self.product(&flat, from, to, base + signed(start));
                    }
                    start += len;
                }
                self.term = outer;
            }
            Expr::Dim { dim, lo, .. } => self.dim(dim, *lo, rest, inner, (a, b), base),
        }
    }

    fn dim(
        &mut self,
        dim: &Arc<str>,
        lo: u64,
        rest: &[&Expr],
        inner: u64,
        (a, b): (u64, u64),
        base: i64,
    ) {
        let (mut first, head) = (a / inner, a % inner);
        let (last, tail) = (b / inner, b % inner);
        let mut rows = |from: u64, to: u64, a: u64, b: u64| {
            let bound =
                Bound { dim: dim.clone(), lo: lo + from, hi: lo + to, stride: signed(inner) };
            self.bounds.push(bound);
            self.product(rest, a, b, base + signed(from * inner));
            self.bounds.pop();
        };
        if first == last {
            return rows(first, first + 1, head, tail);
        }
        if head > 0 {
            rows(first, first + 1, head, inner);
            first += 1;
        }
        if first < last {
            rows(first, last, 0, inner);
        }
        if tail > 0 {
            rows(last, last + 1, 0, tail);
        }
    }
}

/// Element numbers stay far below 2^63: they are of tensors that lie in files.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("an element number below 2^63")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The coordinates of element `i`, by the definition of each constructor.
    fn unrank(expr: &Expr, i: u64, out: &mut BTreeMap<Arc<str>, u64>, term: &mut Option<usize>) {
        match expr {
            Expr::Dim { dim, lo, .. } => {
                out.insert(dim.clone(), lo + i);
            }
            Expr::Sub { of, lo, .. } => unrank(of, lo + i, out, term),
            Expr::Prod(factors) => {
                let mut rest = i;
                for factor in factors.iter().rev() {
                    unrank(factor, rest % factor.size(), out, term);
                    rest /= factor.size();
                }
            }
            Expr::Sum(branches) => {
                let mut rest = i;
                for (index, branch) in branches.iter().enumerate() {
                    if rest < branch.size() {
                        *term = Some(index);
                        return unrank(branch, rest, out, term);
                    }
                    rest -= branch.size();
                }
            }
        }
    }

    struct Random(u64);
    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % n
        }
    }

    fn random_expr(random: &mut Random, depth: u32, may_sum: bool, names: &mut u32) -> Expr {
        let kind = if depth == 0 { 0 } else { random.below(4) };
        match kind {
            1 => Expr::Prod(
                (0..random.below(3) + 1)
                    .map(|i| random_expr(random, depth - 1, may_sum && i == 0, names))
                    .collect(),
            ),
            2 if may_sum => Expr::Sum(
                (0..random.below(3) + 1)
                    .map(|_| random_expr(random, depth - 1, false, names))
                    .collect(),
            ),
            3 => {
                let of = random_expr(random, depth - 1, may_sum, names);
                let lo = random.below(of.size());
                let hi = lo + 1 + random.below(of.size() - lo);
                Expr::Sub { of: Box::new(of), lo, hi }
            }
            _ => {
                *names += 1;
                let lo = random.below(3);
                Expr::Dim { dim: format!("d{names}").into(), lo, hi: lo + 1 + random.below(4) }
            }
        }
    }

    #[test]
    fn boxes_are_the_range_and_nothing_else() {
        let mut random = Random(7);
        for _ in 0..4000 {
            let expr = random_expr(&mut random, 3, true, &mut 0);
            let size = expr.size();
            let a = random.below(size);
            let b = a + 1 + random.below(size - a);
            let mut seen = BTreeMap::new();
            walk(&[&expr], a, b, 0, &mut |found| {
                let mut cells: Vec<(i64, BTreeMap<Arc<str>, u64>)> =
                    vec![(found.base, BTreeMap::new())];
                for bound in found.bounds {
                    cells = cells
                        .into_iter()
                        .flat_map(|(at, cell)| {
                            (bound.lo..bound.hi).map(move |x| {
                                let mut cell = cell.clone();
                                cell.insert(bound.dim.clone(), x);
                                (at + signed(x - bound.lo) * bound.stride, cell)
                            })
                        })
                        .collect();
                }
                for (at, cell) in cells {
                    assert!(seen.insert(at, (found.term, cell)).is_none());
                }
            });
            assert_eq!(seen.len() as u64, b - a);
            for (at, (term, cell)) in seen {
                let at = u64::try_from(at).unwrap();
                assert!((a..b).contains(&at));
                let (mut expected, mut branch) = (BTreeMap::new(), None);
                unrank(&expr, at, &mut expected, &mut branch);
                assert_eq!((term, &cell), (branch, &expected), "element {at} of {expr:?}");
            }
        }
    }
}
