//! Names for products and sums of dims, as a view sees them.

use super::size::{Monomial, Polynomial};
use ucl_ir::{DimDef, Factor, Model, Sum};

/// Composite dims by name, as a view sees them.
pub(crate) struct Composites<'a> {
    view: Option<&'a indexmap::IndexMap<String, Sum>>,
    model: &'a Model,
}

impl<'a> Composites<'a> {
    pub(crate) fn new(
        model: &'a Model,
        view: Option<&'a indexmap::IndexMap<String, Sum>>,
    ) -> Composites<'a> {
        Composites { view, model }
    }

    /// What the name stands for; `None` for an atom.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Sum> {
        self.view.and_then(|view| view.get(name)).or_else(|| {
            self.model.dims.iter().find(|dim| dim.name == name).and_then(|dim| match &dim.def {
                DimDef::Composite(sum) => Some(sum),
                DimDef::Atom(_) => None,
            })
        })
    }

    /// A product with every composite name written out.
    pub(crate) fn written(&self, factors: &[Factor]) -> Vec<Factor> {
        let group = |sum: &Sum| {
            let alternatives = sum.alternatives.iter().map(|product| self.written(product));
            Factor::Group(Sum { alternatives: alternatives.collect() })
        };
        let written = |factor: &Factor| match factor {
            Factor::Name(name) => self.get(name).map_or_else(|| factor.clone(), group),
            Factor::Group(sum) => group(sum),
            Factor::One => Factor::One,
        };
        factors.iter().map(written).collect()
    }

    /// The number of elements of a product of factors, where `rename` may replace atoms.
    pub(crate) fn polynomial(
        &self,
        factors: &[Factor],
        rename: &dyn Fn(&str) -> String,
    ) -> Polynomial {
        let mut product: Polynomial = vec![(1, Vec::new())];
        for factor in factors {
            let next = match factor {
                Factor::One => continue,
                Factor::Name(name) => match self.get(name) {
                    Some(sum) => self.sum(sum, rename),
                    None => vec![(1, vec![rename(name)])],
                },
                Factor::Group(sum) => self.sum(sum, rename),
            };
            product = multiply(&product, &next);
        }
        product
    }

    fn sum(&self, sum: &Sum, rename: &dyn Fn(&str) -> String) -> Polynomial {
        let mut total = Polynomial::new();
        for alternative in &sum.alternatives {
            for (factor, product) in self.polynomial(alternative, rename) {
                match total.iter_mut().find(|known| known.1 == product) {
                    Some(known) => known.0 += factor,
                    None => total.push((factor, product)),
                }
            }
        }
        total
    }

    /// The atoms of a dim, outermost first; a dim of a parameter is a product.
    pub(crate) fn atoms(&self, dim: &str) -> Vec<String> {
        match self.get(dim).and_then(|sum| sum.alternatives.first()) {
            None => vec![dim.to_owned()],
            Some(factors) => factors
                .iter()
                .flat_map(|factor| match factor {
                    Factor::Name(name) => self.atoms(name),
                    Factor::One => Vec::new(),
                    Factor::Group(sum) => sum
                        .alternatives
                        .first()
                        .into_iter()
                        .flatten()
                        .flat_map(|inner| match inner {
                            Factor::Name(name) => self.atoms(name),
                            _ => Vec::new(),
                        })
                        .collect(),
                })
                .collect(),
        }
    }
}

fn multiply(a: &Polynomial, b: &Polynomial) -> Polynomial {
    let mut out = Polynomial::new();
    for (x, left) in a {
        for (y, right) in b {
            let mut product: Monomial = left.iter().chain(right).cloned().collect();
            product.sort();
            match out.iter_mut().find(|known| known.1 == product) {
                Some(known) => known.0 += x * y,
                None => out.push((x * y, product)),
            }
        }
    }
    out
}
