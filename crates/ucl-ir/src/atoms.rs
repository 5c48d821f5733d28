//! What composite dims stand for: every name taken apart into atoms.

use crate::{DimDef, Factor, Model, Sum};
use indexmap::IndexMap;

/// Composite dims by name; a dim that is not among them is an atom.
#[derive(Clone, Copy, Debug)]
pub struct Atoms<'a> {
    composites: &'a IndexMap<String, Sum>,
}

/// A shape with more than one sum on a path has no alternatives that could be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwoSums {
    /// `(a|b) (c|d)`
    InProduct,
    /// `(a | (b|c) d)`
    Nested,
}

impl Model {
    /// The model's composite dims.
    pub fn composites(&self) -> IndexMap<String, Sum> {
        let composites = self.dims.iter().filter_map(|dim| match &dim.def {
            DimDef::Composite(sum) => Some((dim.name.clone(), sum.clone())),
            DimDef::Atom(_) => None,
        });
        composites.collect()
    }

    /// The set of this name.
    pub fn set(&self, name: &str) -> Option<&crate::Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The set that a parameter is in.
    pub fn set_of(&self, param: &crate::Param) -> Option<&crate::Set> {
        self.set(param.set.as_deref()?)
    }

    /// The parameter at this path.
    pub fn param(&self, path: &str) -> Option<&crate::Param> {
        self.params.iter().find(|param| param.path == path)
    }
}

impl<'a> Atoms<'a> {
    /// Looks names up in these composites.
    pub fn new(composites: &'a IndexMap<String, Sum>) -> Atoms<'a> {
        Atoms { composites }
    }

    /// What a name stands for; `None` for an atom.
    pub fn get(&self, name: &str) -> Option<&'a Sum> {
        self.composites.get(name)
    }

    /// The atoms of a product, outermost first: `n d h` is `k q r i h`.
    pub fn flatten<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> Vec<String> {
        names.into_iter().flat_map(|name| self.of(&Factor::Name(name.clone()))).collect()
    }

    /// Every atom in a factor, those of all alternatives, in order.
    pub fn of(&self, factor: &Factor) -> Vec<String> {
        let all = |sum: &Sum| sum.alternatives.iter().flatten().flat_map(|f| self.of(f)).collect();
        match factor {
            Factor::One => Vec::new(),
            Factor::Name(name) => match self.get(name) {
                None => vec![name.clone()],
                Some(sum) => all(sum),
            },
            Factor::Group(sum) => all(sum),
        }
    }

    /// The atoms of each alternative of a shape, counted from the left; one if it has no sum.
    ///
    /// # Errors
    ///
    /// If two sums lie on one path.
    pub fn alternatives(&self, factors: &[Factor]) -> Result<Vec<Vec<String>>, TwoSums> {
        let mut all = vec![Vec::new()];
        for factor in factors {
            let next = match factor {
                Factor::One => continue,
                Factor::Group(sum) => self.sum(sum)?,
                Factor::Name(name) => match self.get(name) {
                    Some(sum) => self.sum(sum)?,
                    None => vec![vec![name.clone()]],
                },
            };
            if all.len() > 1 && next.len() > 1 {
                return Err(TwoSums::InProduct);
            }
            let pairs = all.iter().flat_map(|left| next.iter().map(move |right| (left, right)));
            all = pairs.map(|(left, right)| [left.as_slice(), right].concat()).collect();
        }
        Ok(all)
    }

    fn sum(&self, sum: &Sum) -> Result<Vec<Vec<String>>, TwoSums> {
        if let [only] = sum.alternatives.as_slice() {
            return self.alternatives(only);
        }
        let mut all = Vec::new();
        for product in &sum.alternatives {
            let mut inner = self.alternatives(product)?;
            match (inner.pop(), inner.is_empty()) {
                (Some(only), true) => all.push(only),
                _ => return Err(TwoSums::Nested),
            }
        }
        Ok(all)
    }

    /// How many elements a shape has: sorted products of atoms, one after the other, sorted. Unlike
    /// [`Atoms::alternatives`] it takes any number of sums.
    pub fn size(&self, factors: &[Factor]) -> Vec<Vec<String>> {
        let mut all = vec![Vec::new()];
        for factor in factors {
            let of_sum = |sum: &Sum| -> Vec<Vec<String>> {
                sum.alternatives.iter().flat_map(|product| self.size(product)).collect()
            };
            let next = match factor {
                Factor::One => continue,
                Factor::Group(sum) => of_sum(sum),
                Factor::Name(name) => match self.get(name) {
                    Some(sum) => of_sum(sum),
                    None => vec![vec![name.clone()]],
                },
            };
            let pairs = all.iter().flat_map(|left| next.iter().map(move |right| (left, right)));
            all = pairs.map(|(left, right)| [left.as_slice(), right].concat()).collect();
        }
        all.iter_mut().for_each(|product| product.sort());
        all.sort();
        all
    }

    /// Atoms put together again into products as the composites name them, for a reader:
    /// `k q r i h` is `n d h`.
    pub fn compress(&self, atoms: &[String]) -> Vec<String> {
        let mut names = atoms.to_vec();
        let mut products: Vec<(&String, Vec<String>)> = self
            .composites
            .iter()
            .filter(|(_, sum)| sum.alternatives.len() == 1)
            .map(|(name, _)| (name, self.flatten([name])))
            .filter(|(_, parts)| parts.len() > 1)
            .collect();
        products.sort_by_key(|(_, parts)| std::cmp::Reverse(parts.len()));
        for (name, parts) in products {
            while let Some(at) = names.windows(parts.len()).position(|window| *window == *parts) {
                names.splice(at..at + parts.len(), [name.clone()]);
            }
        }
        names
    }
}
