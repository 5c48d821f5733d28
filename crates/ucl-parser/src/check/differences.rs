//! Equations between indices and counts, solved as differences.

use std::collections::BTreeMap;

/// The variable that is 0.
pub(super) const ZERO: usize = 0;

/// Differences: `x - y <= c` between integers that are not negative.
#[derive(Default)]
pub(super) struct System {
    /// Indices by side and dim, counts with side 2.
    variables: BTreeMap<(usize, String), usize>,
    bounds: Vec<(usize, usize, i64)>,
}

impl System {
    fn variable(&mut self, side: usize, dim: &str) -> (usize, bool) {
        let next = self.variables.len() + 1;
        let entry = self.variables.entry((side, dim.to_owned()));
        let new = matches!(entry, std::collections::btree_map::Entry::Vacant(_));
        (*entry.or_insert(next), new)
    }

    /// The number of indices of a dim: at least 1.
    pub(super) fn count(&mut self, dim: &str) -> usize {
        let (count, new) = self.variable(2, dim);
        if new {
            self.bounds.push((ZERO, count, -1));
        }
        count
    }

    /// An index: less than the count.
    pub(super) fn index(&mut self, side: usize, dim: &str) -> usize {
        let (index, new) = self.variable(side, dim);
        if new {
            let count = self.count(dim);
            self.bounds.push((index, count, -1));
            self.bounds.push((ZERO, index, 0));
        }
        index
    }

    pub(super) fn equal(&mut self, (x, a): (usize, i64), (y, b): (usize, i64)) {
        self.bounds.push((x, y, b.saturating_sub(a)));
        self.bounds.push((y, x, a.saturating_sub(b)));
    }

    /// The least values, or nothing if the bounds contradict each other.
    pub(super) fn solve(&self) -> Option<Vec<i64>> {
        let mut least = vec![0_i64; self.variables.len() + 1];
        for _ in 0..=least.len() {
            let mut changed = false;
            for (x, y, c) in &self.bounds {
                let bound = least[*x].saturating_sub(*c);
                if least[*y] < bound {
                    least[*y] = bound;
                    changed = true;
                }
            }
            if least[ZERO] > 0 {
                return None;
            }
            if !changed {
                return Some(least);
            }
        }
        None
    }
}
