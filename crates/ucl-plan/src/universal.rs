//! A universal folder as a source: its names are the model's own, its shapes those it declares.

use ucl_formats::Inventory;
use ucl_ir::{Factor, Program, Rule, Segment, Spelling, Sum, Template, View};

/// The name of the view that is made for universal folders.
pub(crate) const VIEW: &str = "universal";

/// Gives each program the view of the universal folder's own names; other checkpoints need none.
///
/// Dims that did not follow one by one when the folder was written lie in one stored dim: the
/// manifest says which.
pub fn with_universal_view(mut programs: Vec<Program>, inventory: &Inventory) -> Vec<Program> {
    let Some(manifest) = inventory.universal.as_ref().filter(|manifest| manifest.view == VIEW)
    else {
        return programs;
    };
    for program in &mut programs {
        let mut rules = Vec::new();
        for param in &program.model.params {
            let mut segments = Vec::new();
            for dim in &param.each {
                segments.push(Segment::Text(format!("{dim}.")));
                segments.push(Segment::Index { dim: dim.clone(), plus: 0 });
                segments.push(Segment::Text(".".to_owned()));
            }
            segments.push(Segment::Text(param.path.clone()));
            let template = Template { segments: joined(segments) };
            let entry =
                manifest.tensors.iter().find(|entry| template.capture(&entry.name).is_some());
            let shape = match entry {
                Some(entry) => entry.dims.iter().map(|dims| product(dims)).collect(),
                None => param.dims.iter().cloned().map(Factor::Name).collect(),
            };
            rules.push(Rule {
                spellings: vec![Spelling { template, when_tied: false }],
                shape,
                declared: None,
                terms: vec![param.path.clone()],
                span: param.span,
            });
        }
        let view = View {
            classes: indexmap::IndexMap::new(),
            name: VIEW.to_owned(),
            ancestors: Vec::new(),
            when: None,
            rules,
            ignores: Vec::new(),
            bases: Vec::new(),
            composites: indexmap::IndexMap::new(),
            values: Vec::new(),
            bindings: Vec::new(),
            layouts: Vec::new(),
            lacking: Vec::new(),
            span: program.model.span,
        };
        program.views.insert(VIEW.to_owned(), view);
    }
    programs
}

/// `k q r i` as one stored dim.
fn product(dims: &str) -> Factor {
    let factors: Vec<Factor> =
        dims.split_whitespace().map(|dim| Factor::Name(dim.to_owned())).collect();
    match &factors[..] {
        [one] => one.clone(),
        _ => Factor::Group(Sum { alternatives: vec![factors] }),
    }
}

/// Neighbouring texts as one.
fn joined(segments: Vec<Segment>) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::new();
    for segment in segments {
        match (out.last_mut(), segment) {
            (Some(Segment::Text(before)), Segment::Text(text)) => before.push_str(&text),
            (_, segment) => out.push(segment),
        }
    }
    out
}
