//! Sizes of dims from whatever says something about them: one system of equations that must agree.
//!
//! Unknowns are products of atoms, so that `n d = 32` is worth something while `n` is unknown.

use super::composite::Composites;
use std::collections::BTreeMap;
use ucl_ir::{Diagnostic, DimDef, Factor, Span};

/// A product of atoms, sorted.
pub(crate) type Monomial = Vec<String>;

/// `Σ factor · product`.
pub(crate) type Polynomial = Vec<(u64, Monomial)>;

/// A fact: this polynomial has this value.
#[derive(Clone, Debug)]
pub(crate) struct Equation {
    pub(crate) sum: Polynomial,
    pub(crate) value: u64,
    /// Who says so, for a person: `dim 0 of "x"`, `num_attention_heads in config`.
    pub(crate) source: String,
    pub(crate) span: Option<Span>,
}

/// What to do about sizes that do not fit each other.
const AGREE: &str =
    "the files, the config and the spec have to agree: is it the right model, config or --set?";

/// What is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sizes {
    /// The value of a product, and who said so.
    known: BTreeMap<Monomial, (u64, String)>,
}

impl Sizes {
    /// Solves the equations as far as they go; what disagrees is returned with it.
    pub(crate) fn solve(equations: &[Equation]) -> (Sizes, Vec<Diagnostic>) {
        let mut sizes = Sizes::default();
        sizes.known.insert(Vec::new(), (1, String::new()));
        loop {
            let before = sizes.known.len();
            for equation in equations {
                sizes.learn(equation);
            }
            sizes.divide();
            if sizes.known.len() == before {
                break;
            }
        }
        // Tensors that say the same size of the same product are one mistake.
        let mut told: Vec<&Equation> = Vec::new();
        let mut wrong = Vec::new();
        for equation in equations {
            let same =
                |known: &&Equation| known.sum == equation.sum && known.value == equation.value;
            if !told.iter().any(same)
                && let Some(diagnostic) = sizes.contradiction(equation)
            {
                told.push(equation);
                wrong.push(diagnostic);
            }
        }
        (sizes, wrong)
    }

    /// What follows from the model and from sizes that are simply said.
    pub(crate) fn said(
        program: &ucl_ir::Program,
        set: &BTreeMap<String, u64>,
    ) -> (Sizes, Vec<Diagnostic>) {
        let composites = Composites::new(&program.model, None);
        let fixed = program.model.dims.iter().filter_map(|dim| match dim.def {
            DimDef::Atom(Some(size)) => Some((&dim.name, size, Some(dim.span))),
            _ => None,
        });
        let known = |name: &&String| program.model.dims.iter().any(|dim| dim.name == **name);
        let said =
            set.iter().filter(|(name, _)| known(name)).map(|(name, size)| (name, *size, None));
        let equations: Vec<Equation> = fixed
            .chain(said)
            .map(|(name, value, span)| Equation {
                sum: composites.polynomial(&[Factor::Name(name.clone())], &str::to_owned),
                value,
                source: if span.is_some() {
                    "the model".to_owned()
                } else {
                    format!("{name}={value}")
                },
                span,
            })
            .collect();
        Sizes::solve(&equations)
    }

    /// The size of an atom.
    pub(crate) fn atom(&self, atom: &str) -> Option<u64> {
        self.value(&[atom.to_owned()])
    }

    /// The value of a product of atoms.
    pub(crate) fn value(&self, product: &[String]) -> Option<u64> {
        let mut product = product.to_vec();
        product.sort();
        if let Some((value, _)) = self.known.get(&product) {
            return Some(*value);
        }
        self.known
            .iter()
            .filter(|(part, _)| part.len() > 1)
            .find_map(|(part, (value, _))| {
                let rest = without(&product, part)?;
                value.checked_mul(self.by_atoms(&rest)?)
            })
            .or_else(|| self.by_atoms(&product))
    }

    /// All single atoms that are known, by name.
    pub(crate) fn atoms(&self) -> impl Iterator<Item = (&str, u64)> {
        self.known
            .iter()
            .filter(|(product, _)| product.len() == 1)
            .map(|(product, (value, _))| (product[0].as_str(), *value))
    }

    fn by_atoms(&self, product: &[String]) -> Option<u64> {
        product.iter().try_fold(1_u64, |by, atom| {
            by.checked_mul(self.known.get(std::slice::from_ref(atom))?.0)
        })
    }

    /// If all products of the equation but one are known, that one follows.
    fn learn(&mut self, equation: &Equation) {
        let mut rest = equation.value;
        let mut unknown: Option<(u64, &Monomial)> = None;
        for (factor, product) in &equation.sum {
            match (self.value(product), &mut unknown) {
                (Some(value), _) => match rest.checked_sub(factor.saturating_mul(value)) {
                    Some(left) => rest = left,
                    None => return,
                },
                (None, None) => unknown = Some((*factor, product)),
                (None, Some((sum, same))) if *same == product => *sum += factor,
                (None, Some(_)) => return,
            }
        }
        if let Some((factor, product)) = unknown
            && rest > 0
            && rest.is_multiple_of(factor)
        {
            self.known.insert(product.clone(), (rest / factor, equation.source.clone()));
        }
    }

    /// `k q` and `k` give `q`.
    fn divide(&mut self) {
        let mut found = Vec::new();
        for (product, (value, source)) in &self.known {
            for (part, (by, _)) in &self.known {
                if !part.is_empty()
                    && part.len() < product.len()
                    && value % by == 0
                    && let Some(rest) = without(product, part)
                    && !self.known.contains_key(&rest)
                {
                    found.push((rest, (value / by, source.clone())));
                }
            }
        }
        self.known.extend(found);
    }

    /// A product that its atoms do not divide, as far as they are known: 16 rows are no 5 heads.
    fn remainder(&self, equation: &Equation) -> Option<Diagnostic> {
        let [(factor, product)] = equation.sum.as_slice() else { return None };
        let known = product.iter().filter_map(|atom| {
            let (value, source) = self.known.get(std::slice::from_ref(atom))?;
            Some((atom, *value, source))
        });
        let known: Vec<_> = known.filter(|(_, size, _)| *size > 1).collect();
        let by = known.iter().try_fold(*factor, |by, (_, size, _)| by.checked_mul(*size));
        if by.is_some_and(|by| by == 0 || equation.value.is_multiple_of(by)) {
            return None;
        }
        let parts = known.iter().map(|(atom, size, source)| format!("{atom} = {size} by {source}"));
        let diagnostic = Diagnostic::new(
            "ucl::bind",
            format!(
                "`{}` is {} by {}, which does not divide by the rest: {}",
                spell(&equation.sum),
                equation.value,
                equation.source,
                parts.collect::<Vec<_>>().join(", "),
            ),
        )
        .help(AGREE);
        Some(match equation.span {
            Some(span) => diagnostic.at(span, format!("`{}` here", spell(&equation.sum))),
            None => diagnostic,
        })
    }

    fn contradiction(&self, equation: &Equation) -> Option<Diagnostic> {
        let mut sum = 0_u64;
        for (factor, product) in &equation.sum {
            match self.value(product) {
                Some(value) => sum = sum.saturating_add(factor.saturating_mul(value)),
                None => return self.remainder(equation),
            }
        }
        if sum == equation.value {
            return self.remainder(equation);
        }
        let text = spell(&equation.sum);
        let others: Vec<String> = equation
            .sum
            .iter()
            .flat_map(|(_, product)| {
                let whole = self
                    .known
                    .get(product)
                    .map(|(value, source)| (spell_product(product), *value, source));
                let parts = product.iter().filter_map(|atom| {
                    let (value, source) = self.known.get(std::slice::from_ref(atom))?;
                    Some((atom.clone(), *value, source))
                });
                whole.into_iter().chain(parts).filter(|known| !known.2.is_empty())
            })
            .map(|(name, value, source)| format!("{name} = {value} by {source}"))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        let others: Vec<String> =
            others.into_iter().filter(|text| seen.insert(text.clone())).collect();
        let diagnostic = Diagnostic::new(
            "ucl::bind",
            format!(
                "`{text}` is {} by {}, but {sum} by the rest: {}",
                equation.value,
                equation.source,
                others.join(", ")
            ),
        )
        .help(AGREE);
        Some(match equation.span {
            Some(span) => diagnostic.at(span, format!("`{text}` here")),
            None => diagnostic,
        })
    }
}

/// `product / part`, if it divides.
fn without(product: &[String], part: &[String]) -> Option<Monomial> {
    let mut rest = product.to_vec();
    for atom in part {
        let at = rest.iter().position(|other| other == atom)?;
        rest.remove(at);
    }
    Some(rest)
}

fn spell(sum: &Polynomial) -> String {
    let products: Vec<String> = sum
        .iter()
        .map(|(factor, product)| match factor {
            1 => spell_product(product),
            factor => format!("{factor} {}", spell_product(product)),
        })
        .collect();
    products.join(" + ")
}

fn spell_product(product: &[String]) -> String {
    if product.is_empty() { "1".to_owned() } else { product.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equation(sum: &[(u64, &str)], value: u64) -> Equation {
        let sum = sum
            .iter()
            .map(|(factor, product)| {
                (*factor, product.split_whitespace().map(str::to_owned).collect())
            })
            .collect();
        Equation { sum, value, source: format!("fact {value}"), span: None }
    }

    #[test]
    fn products_are_known_before_their_factors() {
        let (sizes, wrong) = Sizes::solve(&[
            equation(&[(1, "i k q r"), (2, "i k r")], 64),
            equation(&[(1, "i k q r")], 32),
            equation(&[(1, "r")], 2),
        ]);
        assert!(wrong.is_empty());
        assert_eq!(sizes.atom("q"), Some(2));
        assert_eq!(sizes.atom("k"), None);
        assert_eq!(sizes.value(&["k".into(), "i".into()]), Some(8));
    }

    #[test]
    fn what_disagrees_is_shown_with_both_sources() {
        let (_, wrong) = Sizes::solve(&[equation(&[(1, "f")], 44), equation(&[(1, "f")], 88)]);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].message.contains("fact 44") && wrong[0].message.contains("fact 88"));
    }
}
