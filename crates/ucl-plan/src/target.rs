//! What is written: the tensors of a view, whole, in the order of the model.

use crate::algebra::Expr;
use crate::bind::{Bound, Cuts};
use crate::params::{Param, every};
use crate::spell::Speller;
use std::collections::BTreeMap;
use std::sync::Arc;
use ucl_formats::Format;
use ucl_ir::{Diagnostic, Mesh, Program, View};
use ucl_tensor::DType;

/// Whose names the tensors get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The model's own; the source's where no spec fits.
    Universal,
    /// The source's, at full size.
    Stored,
    /// A view's.
    View(String),
}

/// Which states are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// Weights and optimizer states.
    All,
    /// Weights alone.
    Weights,
}

/// What to make of a bound checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The format.
    pub format: Format,
    /// The mesh that a format that is cut is cut for; an axis that is left out has one rank.
    pub mesh: Mesh,
    /// How many layers every pipeline stage gets, in the order of the model; empty for equal numbers.
    pub stages: Vec<u64>,
    /// Names.
    pub naming: Naming,
    /// The type of the weights; `None` leaves them as they are, or, in a format that has no masters,
    /// gives them the type of the model's own.
    pub dtype: Option<DType>,
    /// States.
    pub states: States,
    /// The most bytes of data in one file.
    pub max_file_bytes: u64,
}

/// A tensor of the target, in whatever states there are.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// The parameters that it is made of.
    pub(crate) terms: Vec<usize>,
    /// Indices that are in its name.
    pub(crate) unit: Vec<(String, u64)>,
    pub(crate) axes: Arc<[Expr]>,
    pub(crate) shape: Vec<u64>,
    /// The dims of its shape where they have names.
    pub(crate) dims: Vec<String>,
    /// stored = universal * scale + shift, by state; for views with value rules.
    pub(crate) values: Vec<(String, f64, f64)>,
    /// Where it stands among the others.
    pub(crate) order: Vec<u64>,
    /// Whether it repeats another parameter under a name of its own: a tied head.
    pub(crate) copy: bool,
    /// Another name of it, that it has in the tied state alone.
    pub(crate) tied_name: Option<String>,
    /// Whether it is summed up over ranks of which another has the whole: its weights are zero here.
    pub(crate) elsewhere: bool,
}

/// All tensors of the target.
///
/// What belongs to adapters follows the model, if it is not `merged` into it.
pub(crate) fn items(
    bound: &Bound<'_>,
    naming: &Naming,
    merged: bool,
) -> Result<Vec<Item>, Vec<Diagnostic>> {
    if *naming != Naming::Stored && !bound.missing.is_empty() {
        return Err(vec![missing(bound)]);
    }
    let mut items = match (naming, bound.spec) {
        // Without a spec a view is only asked for where its names are the source's already.
        (Naming::Universal, _) | (Naming::Stored | Naming::View(_), None) => universal(bound),
        (Naming::Stored, Some((program, view))) => of_view(bound, program, view, true)?,
        (Naming::View(name), Some((program, _))) => {
            of_view(bound, program, usable_view(program, name)?, false)?
        }
    };
    items.sort_by(|a, b| a.order.cmp(&b.order));
    let spelled = bound.spec.is_some() && *naming != Naming::Universal;
    let adapters = universal(bound).into_iter().filter(|item| bound.is_adapters(item.terms[0]));
    if merged {
        items.retain(|item| !bound.is_adapters(item.terms[0]));
    } else if spelled {
        items.extend(adapters);
    }
    Ok(items)
}

/// A view that can spell the whole model.
///
/// # Errors
/// There is no such view, or it lacks parameters; says which.
pub fn usable_view<'a>(program: &'a Program, name: &str) -> Result<&'a View, Vec<Diagnostic>> {
    match program.views.get(name) {
        Some(view) if view.lacking.is_empty() => Ok(view),
        Some(view) => Err(vec![
            Diagnostic::new(
                "ucl::cover",
                format!(
                    "view `{name}` does not spell {} of `{}`",
                    view.lacking.join(", "),
                    program.model.name
                ),
            )
            .at(view.span, "this view")
            .help(format!(
                "what it lacks, a `view {name} {{ … }}` in the model's file can add; {}",
                views_of(program)
            )),
        ]),
        None => Err(vec![
            Diagnostic::new("ucl::match", format!("`{}` has no view `{name}`", program.model.name))
                .help(views_of(program)),
        ]),
    }
}

/// The views that spell a model.
fn views_of(program: &Program) -> String {
    let views = program.views.values().filter(|view| view.lacking.is_empty());
    let names: Vec<&str> = views.map(|view| view.name.as_str()).collect();
    format!("its views: universal, stored, {}", names.join(", "))
}

fn missing(bound: &Bound<'_>) -> Diagnostic {
    let listed: Vec<&str> = bound.missing.iter().take(40).map(String::as_str).collect();
    let more = bound.missing.len() - listed.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    // A Hugging Face folder has the names of one already.
    let there = match bound.inventory.is_of_hugging_face() {
        true => "`--view stored` writes what there is",
        false => {
            "`--to universal --view stored` writes what there is, which is no model for transformers"
        }
    };
    Diagnostic::new(
        "ucl::cover",
        format!(
            "the checkpoint lacks {} parameter{} of the model: {}{more}",
            bound.missing.len(),
            if bound.missing.len() == 1 { "" } else { "s" },
            listed.join(", ")
        ),
    )
    .help(format!(
        "they may have been frozen and left out when it was saved, or it is a base model that never had a head; {there}"
    ))
}

pub(crate) fn universal(bound: &Bound<'_>) -> Vec<Item> {
    let mut items = Vec::new();
    let mut block = 0_u64;
    for (number, param) in bound.params.iter().enumerate() {
        let each =
            |p: &Param| p.dims[..p.each].iter().map(|dim| dim.name.clone()).collect::<Vec<_>>();
        if number > 0 && each(param) != each(&bound.params[number - 1]) {
            block += 1;
        }
        let (shape, dims) = param.shape();
        let axes: Vec<Expr> = groups(param);
        let axes: Arc<[Expr]> = axes.into();
        let extents: Vec<u64> = param.dims[..param.each].iter().map(|dim| dim.extent).collect();
        for indices in every(&extents) {
            if !bound.own.contains_key(&(number, indices.clone())) {
                continue;
            }
            items.push(Item {
                name: param.name(&indices),
                terms: vec![number],
                unit: param
                    .dims
                    .iter()
                    .map(|dim| dim.name.clone())
                    .zip(indices.iter().copied())
                    .collect(),
                axes: axes.clone(),
                shape: shape.clone(),
                dims: if bound.spec.is_some() { dims.clone() } else { Vec::new() },
                values: Vec::new(),
                order: [&[block], &indices[..], &[number as u64]].concat(),
                copy: false,
                tied_name: None,
                elsewhere: false,
            });
        }
    }
    items
}

/// The universal shape of a parameter as expressions.
fn groups(param: &Param) -> Vec<Expr> {
    let mut rest = &param.dims[param.each..];
    let mut axes = Vec::new();
    for group in &param.groups {
        let (these, others) = rest.split_at(*group);
        let dims = these.iter().map(|dim| Expr::Dim {
            dim: dim.name.as_str().into(),
            lo: 0,
            hi: dim.extent,
        });
        axes.push(Expr::Prod(dims.collect()));
        rest = others;
    }
    axes
}

/// The tensors of a view on one rank that holds everything.
///
/// `as_stored` takes the source's own spellings, and leaves out what it lacks.
pub(crate) fn of_view(
    bound: &Bound<'_>,
    program: &Program,
    view: &View,
    as_stored: bool,
) -> Result<Vec<Item>, Vec<Diagnostic>> {
    let (mesh, padded) = (Mesh::new(), BTreeMap::new());
    let prefix = match as_stored {
        true => bound.without_base.clone(),
        false => bound.without_prefix().shift_remove(&view.name),
    };
    let speller = Speller {
        program,
        view,
        cuts: Cuts { layout: None, mesh: &mesh, stages: &[] },
        sizes: &bound.sizes,
        padded: &padded,
        sets: &bound.sets,
        params: &bound.params,
        tied: bound.tied,
        copy_tied: false,
        rank: &mesh,
        spellings: as_stored.then_some(&bound.spellings),
        // In the source's own view names without the base's prefix stay without it.
        without_base: prefix.as_deref(),
    };
    let mut items = speller.items()?;
    for item in &mut items {
        let paths: Vec<String> =
            item.terms.iter().map(|term| bound.params[*term].path.clone()).collect();
        item.values = bound.target_values(program, view, &paths);
    }
    if as_stored {
        items.retain(|item| {
            item.terms.iter().all(|term| {
                let indices = item.indices(&bound.params[*term]);
                bound.own.contains_key(&(*term, indices))
            })
        });
    }
    Ok(items)
}

impl Item {
    /// The indices of a parameter's name that the item's name fixes.
    pub(crate) fn indices(&self, param: &Param) -> Vec<u64> {
        let each = param.dims[..param.each].iter();
        each.map(|dim| self.unit.iter().find(|unit| unit.0 == dim.name).map_or(0, |unit| unit.1))
            .collect()
    }
}
