//! Lines that are wrong in ways that frameworks differ in: another order of the same dims, of the same
//! parameters. They keep the balance, so no proof and no round trip tells them from the right one.

use crate::bind::Composites;
use ucl_ir::{Factor, Program, Rule, Span, Sum, View, shape_text};

/// A view with one line changed.
pub(super) struct Mutant {
    pub(super) view: View,
    /// The line as it would be.
    pub(super) text: String,
}

/// The line at `span`, changed in every way.
pub(super) fn mutants(program: &Program, view: &View, span: Span) -> Vec<Mutant> {
    let Some(rule) = leading(view, span) else { return Vec::new() };
    let mut found = Vec::new();
    let mutated = Mutated { program, view };
    for shape in mutated.shapes(&rule.shape) {
        found.push(mutated.with_rule(span, &shape, &rule.terms));
    }
    for (from, to) in pairs(rule.terms.len()) {
        if let Some(shape) = exchanged(&rule.shape, from, to) {
            found.push(mutated.with_rule(span, &shape, &swapped(&rule.terms, from, to)));
        }
    }
    for name in names(&rule.shape) {
        let Some(sum) = view.composites.get(name) else { continue };
        for sum in mutated.sums(sum) {
            found.push(mutated.with_composite(name, sum, None));
        }
        for (from, to) in pairs(rule.terms.len()) {
            if sum.alternatives.len() == rule.terms.len() {
                let sum = Sum { alternatives: swapped(&sum.alternatives, from, to) };
                found.push(mutated.with_composite(name, sum, Some((from, to))));
            }
        }
    }
    for other in partners(program, view, rule) {
        found.push(mutated.with_exchange(&rule.terms[0], other));
    }
    found
}

/// The weight of a line that stands for a weight and a bias.
pub(super) fn leading(view: &View, span: Span) -> Option<&Rule> {
    let of_line = view.rules.iter().filter(|rule| rule.span == span);
    of_line.max_by_key(|rule| rule.shape.len())
}

/// Parameters of other lines that could be taken for this line's: another view of the model fuses the
/// two, so frameworks order them.
pub(super) fn partners<'p>(program: &'p Program, view: &View, rule: &Rule) -> Vec<&'p String> {
    let [term] = &rule.terms[..] else { return Vec::new() };
    let param = |path: &str| program.model.params.iter().find(|param| param.path == path);
    let Some(own) = param(term) else { return Vec::new() };
    let fused = program.views.values().flat_map(|view| &view.rules);
    let fused = fused.filter(|rule| rule.terms.len() > 1 && rule.terms.contains(term));
    let mut found: Vec<&String> = Vec::new();
    for other in fused.flat_map(|rule| &rule.terms).filter(|other| *other != term) {
        let alike = param(other).is_some_and(|p| p.dims == own.dims && p.each == own.each);
        let alone = view.rules.iter().any(|rule| rule.terms == [other.clone()]);
        if alike && alone && !found.contains(&other) {
            found.push(other);
        }
    }
    found
}

struct Mutated<'p> {
    program: &'p Program,
    view: &'p View,
}

impl Mutated<'_> {
    fn with_rule(&self, span: Span, shape: &[Factor], terms: &[String]) -> Mutant {
        let mut view = self.view.clone();
        let leading = leading(self.view, span);
        for rule in view.rules.iter_mut().filter(|rule| Some(&**rule) == leading) {
            rule.shape = shape.to_vec();
            rule.terms = terms.to_vec();
        }
        Mutant { view, text: format!("{} = {}", shape_text(shape), terms.join(" | ")) }
    }

    fn with_composite(&self, name: &str, sum: Sum, exchange: Option<(usize, usize)>) -> Mutant {
        let mut view = self.view.clone();
        let mut text = format!("{name} = {}", shape_text(&[Factor::Group(sum.clone())]));
        if let Some((from, to)) = exchange {
            let many = sum.alternatives.len();
            let uses =
                |rule: &&mut Rule| rule.terms.len() == many && names(&rule.shape).contains(&name);
            for rule in view.rules.iter_mut().filter(uses) {
                rule.terms.swap(from, to);
                if !text.contains(" for ") {
                    text = format!("{text} for {}", rule.terms.join(" | "));
                }
            }
        }
        view.composites.insert(name.to_owned(), sum);
        Mutant { view, text }
    }

    /// Two lines whose parameters are exchanged.
    fn with_exchange(&self, one: &str, other: &str) -> Mutant {
        let mut view = self.view.clone();
        for term in view.rules.iter_mut().flat_map(|rule| &mut rule.terms) {
            if term == one {
                other.clone_into(term);
            } else if term == other {
                one.clone_into(term);
            }
        }
        Mutant { view, text: format!("this line for {other}, the other's for {one}") }
    }

    /// Other orders of stored dims, and of what is in them.
    fn shapes(&self, shape: &[Factor]) -> Vec<Vec<Factor>> {
        let mut found: Vec<Vec<Factor>> =
            pairs(shape.len()).into_iter().map(|(from, to)| swapped(shape, from, to)).collect();
        for (at, factor) in shape.iter().enumerate() {
            for changed in self.factors(factor) {
                let mut shape = shape.to_vec();
                shape[at] = changed;
                found.push(shape);
            }
        }
        found
    }

    fn factors(&self, factor: &Factor) -> Vec<Factor> {
        match factor {
            Factor::One => Vec::new(),
            Factor::Group(sum) => self.sums(sum).into_iter().map(Factor::Group).collect(),
            // A name for a product, in another order at this one place.
            Factor::Name(name) => match self.product(name) {
                Some(product) => self
                    .products(product)
                    .into_iter()
                    .map(|product| Factor::Group(Sum { alternatives: vec![product] }))
                    .collect(),
                None => Vec::new(),
            },
        }
    }

    fn sums(&self, sum: &Sum) -> Vec<Sum> {
        let mut found = Vec::new();
        for (at, product) in sum.alternatives.iter().enumerate() {
            for changed in self.products(product) {
                let mut sum = sum.clone();
                sum.alternatives[at] = changed;
                found.push(sum);
            }
        }
        found.extend(self.regrouped(sum));
        found
    }

    /// Another order of a product, or what is common to its alternatives put into each.
    fn products(&self, product: &[Factor]) -> Vec<Vec<Factor>> {
        let mut found: Vec<Vec<Factor>> =
            (1..product.len()).map(|at| swapped(product, at - 1, at)).collect();
        for (at, factor) in product.iter().enumerate() {
            for changed in self.factors(factor) {
                let mut product = product.to_vec();
                product[at] = changed;
                found.push(product);
            }
            if let Factor::Group(sum) = factor
                && sum.alternatives.len() > 1
                && product.len() > 1
            {
                let alternatives = sum
                    .alternatives
                    .iter()
                    .map(|alternative| [&product[..at], alternative, &product[at + 1..]].concat());
                let sum = Sum { alternatives: alternatives.collect() };
                found.push(vec![Factor::Group(sum)]);
            }
        }
        found
    }

    /// What all alternatives begin with, put in front of them: rows of each in turn, not one after
    /// the other.
    fn regrouped(&self, sum: &Sum) -> Option<Sum> {
        if sum.alternatives.len() < 2 {
            return None;
        }
        let flat: Vec<Vec<Factor>> =
            sum.alternatives.iter().map(|alternative| self.flat(alternative)).collect();
        let first = flat[0].first()?;
        if !matches!(first, Factor::Name(_)) || flat.iter().any(|one| one.first() != Some(first)) {
            return None;
        }
        let rest = flat.iter().map(|one| match &one[1..] {
            [] => vec![Factor::One],
            rest => rest.to_vec(),
        });
        let group = Factor::Group(Sum { alternatives: rest.collect() });
        Some(Sum { alternatives: vec![vec![first.clone(), group]] })
    }

    /// A product with its composite names written out.
    fn flat(&self, product: &[Factor]) -> Vec<Factor> {
        let written = |factor: &Factor| match factor {
            Factor::Name(name) => match self.product(name) {
                Some(product) => self.flat(product),
                None => vec![factor.clone()],
            },
            factor => vec![factor.clone()],
        };
        product.iter().flat_map(written).filter(|factor| *factor != Factor::One).collect()
    }

    /// What a name stands for, if that is a product.
    fn product(&self, name: &str) -> Option<&[Factor]> {
        let composites = Composites::new(&self.program.model, Some(&self.view.composites));
        let found = composites.get(name)?;
        match &found.alternatives[..] {
            [product] if product.len() > 1 => Some(product),
            _ => None,
        }
    }
}

/// Alternatives exchanged, in whichever stored dim they are.
fn exchanged(shape: &[Factor], from: usize, to: usize) -> Option<Vec<Factor>> {
    let mut shape = shape.to_vec();
    let exchange = |sum: &mut Sum| {
        let fits = sum.alternatives.len() > to;
        if fits {
            sum.alternatives.swap(from, to);
        }
        fits
    };
    fn first(factors: &mut [Factor], exchange: &dyn Fn(&mut Sum) -> bool) -> bool {
        factors.iter_mut().any(|factor| match factor {
            Factor::Group(sum) => {
                exchange(sum) || sum.alternatives.iter_mut().any(|product| first(product, exchange))
            }
            Factor::One | Factor::Name(_) => false,
        })
    }
    first(&mut shape, &exchange).then_some(shape)
}

/// The names in a shape.
pub(super) fn names(shape: &[Factor]) -> Vec<&str> {
    let mut found = Vec::new();
    for factor in shape {
        match factor {
            Factor::One => {}
            Factor::Name(name) => found.push(name.as_str()),
            Factor::Group(sum) => {
                found.extend(sum.alternatives.iter().flat_map(|product| names(product)));
            }
        }
    }
    found
}

fn pairs(count: usize) -> Vec<(usize, usize)> {
    (0..count).flat_map(|from| (from + 1..count).map(move |to| (from, to))).collect()
}

fn swapped<T: Clone>(list: &[T], from: usize, to: usize) -> Vec<T> {
    let mut list = list.to_vec();
    list.swap(from, to);
    list
}
