//! From names and shapes to parameters: who every stored tensor is, and how large every dim is.

mod atlas;
mod buffers;
mod composite;
mod cut;
mod facts;
mod identity;
mod lower;
mod made;
mod names;
mod number;
mod oblige;
mod pad;
mod program;
mod role;
mod sets;
mod size;
mod tied;
mod uneven;
mod unfit;
mod value;

pub(crate) use atlas::{Atlas, Piece, PieceRole};
pub(crate) use composite::Composites;
pub(crate) use cut::{Cuts, interval, is_under};
pub(crate) use facts::{bound_number, evaluate, said_numbers, scope_numbers, target_numbers};
pub(crate) use identity::bind_identity;
pub(crate) use lower::Lowering;
pub(crate) use made::params_of;
pub(crate) use names::{claim, claims_of};
pub(crate) use number::Scope;
pub(crate) use oblige::obligations;
pub(crate) use program::bind_program;
pub(crate) use sets::{Members, exists, told};
pub(crate) use size::Sizes;
pub(crate) use unfit::{UNKNOWN_SIZE, unfit_diagnostic};
pub(crate) use value::{is_weight, stored_value};

use crate::params::Param;
use crate::recognise::Sure;
use crate::work::Check;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use ucl_formats::Inventory;
use ucl_formats::inventory::Role;
use ucl_ir::{Program, View};
use ucl_tensor::DType;

/// An inventory whose every tensor is a parameter, or part of some, with numbers.
pub struct Bound<'a> {
    /// The checkpoint.
    pub inventory: &'a Inventory,
    /// The spec and the view that it was stored in; `None` for the identity model.
    pub spec: Option<(&'a Program, &'a View)>,
    /// How it is known which model it is; `None` where nobody asked.
    pub sure: Option<Sure>,
    /// The layout that served the view, by name.
    pub layout: Option<String>,
    /// The parameters that the checkpoint has, in the order of the model; then what belongs to adapters,
    /// each tensor a parameter of its own.
    pub params: Vec<Param>,
    /// How many of them are the model's.
    pub(crate) own_params: usize,
    /// Whether the checkpoint is in the tied state.
    pub tied: bool,
    /// Names of parameters, with their indices, that the model has and the checkpoint lacks.
    pub missing: Vec<String>,
    /// Stored names that the view drops.
    pub ignored: Vec<String>,
    /// Sentences for a person: padding kept, sizes not known, copies averaged.
    pub notes: Vec<String>,
    /// Stored elements that are padding and dropped, by parameter.
    pub padding: IndexMap<String, u64>,
    /// What the user set.
    pub(crate) set: BTreeMap<String, u64>,
    pub(crate) sizes: Sizes,
    pub(crate) padded: BTreeMap<String, u64>,
    /// Which indices are in the model's sets.
    pub(crate) sets: Members,
    /// Which spelling of each rule the checkpoint uses.
    pub(crate) spellings: BTreeMap<usize, usize>,
    pub(crate) without_base: Option<String>,
    pub(crate) atlas: Atlas,
    pub(crate) buffers: buffers::Buffers,
    pub(crate) checks: Vec<Check>,
    /// Roles and own dtypes by parameter and indices of its name.
    pub(crate) own: IndexMap<(usize, Vec<u64>), Own>,
}

/// What the model itself knows of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) role: Role,
    /// The type of the model's own weights, where they are stored.
    pub(crate) dtype: Option<DType>,
    /// The stored name.
    pub(crate) name: String,
}

impl Bound<'_> {
    /// Whether a parameter belongs to an adapter.
    pub(crate) fn is_adapters(&self, param: usize) -> bool {
        param >= self.own_params
            || self.spec.is_none() && self.inventory.adapters.has(&self.params[param].path)
    }

    /// The sizes of all dims that are known one by one, by name.
    pub fn dims(&self) -> IndexMap<String, u64> {
        let mut dims: IndexMap<String, u64> = self
            .sizes
            .atoms()
            .filter(|(name, _)| !name.ends_with('+'))
            .map(|(name, size)| (name.to_owned(), size))
            .collect();
        if let Some((program, _)) = self.spec {
            let composites = Composites::new(&program.model, None);
            for dim in &program.model.dims {
                if composites.get(&dim.name).is_some_and(|sum| sum.alternatives.len() == 1)
                    && let Some(size) = self.sizes.value(&composites.atoms(&dim.name))
                {
                    dims.insert(dim.name.clone(), size);
                }
            }
        }
        dims
    }

    /// The prefix that names come without, by view: the source's own, or what a universal folder
    /// remembers of it.
    pub(crate) fn without_prefix(&self) -> IndexMap<String, String> {
        let remembered = self.inventory.universal.iter().flat_map(|m| m.without_prefix.clone());
        let own = self.spec.zip(self.without_base.clone());
        remembered.chain(own.map(|((_, view), prefix)| (view.name.clone(), prefix))).collect()
    }

    /// stored = universal * scale + shift for a target's tensor, by state.
    pub(crate) fn target_values(
        &self,
        program: &Program,
        view: &View,
        terms: &[String],
    ) -> Vec<(String, f64, f64)> {
        let [term] = terms else { return Vec::new() };
        if !view.values.iter().any(|rule| rule.param == *term) {
            return Vec::new();
        }
        let mesh = ucl_ir::Mesh::new();
        let cuts = Cuts { layout: None, mesh: &mesh, stages: &[] };
        let number =
            |name: &str| bound_number(program, view, self.inventory, cuts, &self.set, name);
        self.states()
            .into_iter()
            .map(|state| {
                let (scale, shift) = stored_value(view, term, &state, &number);
                (state, scale, shift)
            })
            .collect()
    }

    /// The numbers that the spec's lines take from the checkpoint's documents beside dims (`m`, `c1`):
    /// what is written of it later may need them.
    pub(crate) fn numbers(&self) -> IndexMap<String, i64> {
        let Some((program, _)) = self.spec else { return IndexMap::new() };
        let mesh = ucl_ir::Mesh::new();
        let cuts = Cuts { layout: None, mesh: &mesh, stages: &[] };
        let layouts = program.layouts.values();
        let axes: Vec<&str> =
            layouts.flat_map(|layout| &layout.axes).map(|axis| axis.name.as_str()).collect();
        let is_dim = |name: &str| program.model.dims.iter().any(|dim| dim.name == name);
        let mut numbers = IndexMap::new();
        for view in program.views.values() {
            for line in program.model.bindings.iter().chain(&view.bindings) {
                let name = line.name.as_str();
                if name == "tied" || is_dim(name) || axes.contains(&name) {
                    continue;
                }
                let number = bound_number(program, view, self.inventory, cuts, &self.set, name);
                if let Some(number) = number {
                    numbers.insert(name.to_owned(), number);
                }
            }
        }
        numbers
    }

    /// The states that the checkpoint has, in the order of their first appearance.
    pub fn states(&self) -> Vec<String> {
        self.atlas.states()
    }
}
