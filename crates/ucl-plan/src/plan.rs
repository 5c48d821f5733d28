//! The plan: which bytes go where, proven before any is read.

use crate::algebra::{Component, clip, flat_components};
use crate::bind::{Bound, Piece, PieceRole, is_weight};
use crate::cast::castable;
use crate::class::of_class;
use crate::cover::Cover;
use crate::cut::{Cut, cut, cut_at_load};
use crate::laid::LaidOut;
use crate::lora::{Merge, Merging, unmergeable};
use crate::params::Param;
use crate::step::strided;
use crate::target::{Item, States, Target, items};
use crate::work::{Check, Move, MoveRole, Product, TargetFile, TargetTensor, Work};
use indexmap::IndexMap;
use std::ops::Range;
use std::path::PathBuf;
use ucl_formats::inventory::Role;
use ucl_formats::target::{Part, Wanted};
use ucl_ir::Diagnostic;
use ucl_tensor::DType;

/// A conversion, planned and proven.
pub struct Plan<'a> {
    /// What is converted.
    pub bound: Bound<'a>,
    /// Into what.
    pub target: Target,
    /// Counts for a person.
    pub totals: Totals,
    sources: Vec<PathBuf>,
    pub(crate) laid: LaidOut,
    pub(crate) items: Vec<Item>,
    /// The ranks of a target that is cut; one that has everything in others.
    pub(crate) cut: Cut,
    /// For each tensor of a target that is not cut, the state of the source that it is made from.
    pub(crate) from: Vec<String>,
    /// For each item of a target that is cut, what its weights are made from.
    pub(crate) weights: Vec<Weights>,
    /// What of the source's carried files goes along in the files that are laid out, by name.
    pub(crate) along: Vec<String>,
    /// What the format of a target that is cut could not keep, a sentence each.
    pub(crate) unkept: Vec<String>,
    pub(crate) merging: Option<Merging>,
    /// Items whose weights are merged, by the states of the optimizer that they had: these are left out.
    pub(crate) outdated: Vec<(usize, String)>,
}

/// An item that is written, and from which state.
struct Chosen {
    item: usize,
    tensor: TargetTensor,
    from: String,
}

/// What the weights of an item of a target that is cut are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    /// Whether the source has masters of them.
    pub(crate) masters: bool,
    /// Whether it has the model's own in the type that is written.
    pub(crate) own: bool,
}

impl Weights {
    /// The state of the source that a state of the target is made from.
    pub(crate) fn from(self, state: &str) -> &str {
        match state {
            "fp32" | "param" if self.own && (state == "param" || !self.masters) => "param",
            "fp32" | "param" if self.masters => "fp32",
            "fp32" | "param" => "param",
            state => state,
        }
    }
}

/// What a plan adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Boxes that are moved.
    pub moves: u64,
    /// Boxes that are compared only.
    pub compared: u64,
    /// Bytes of the source that are moved or compared.
    pub bytes_read: u64,
    /// Bytes of tensors that are written.
    pub bytes_written: u64,
    /// Stored elements that are padding and dropped.
    pub padding: u64,
    /// Tensors written, over all states.
    pub tensors: u64,
}

impl<'a> Plan<'a> {
    /// Plans, and proves that every element of every target tensor is written exactly once and that no
    /// element of a state that is written goes nowhere.
    ///
    /// # Errors
    /// What cannot be written, or would be lost; names the tensor and the first element.
    pub fn new(bound: Bound<'a>, target: Target) -> Result<Plan<'a>, Vec<Diagnostic>> {
        Plan::merging(bound, target, None)
    }

    /// The same, with the low-rank pairs of the checkpoint added to their weights, if that is wished.
    ///
    /// # Errors
    /// As above; and pairs that do not fit, or a target that does not know them.
    pub fn merging(
        bound: Bound<'a>,
        mut target: Target,
        merge: Option<&Merge>,
    ) -> Result<Plan<'a>, Vec<Diagnostic>> {
        castable(&bound, &target)?;
        let merging = merge.map(|merge| Merging::of(&bound, merge)).transpose()?;
        if merging.is_none()
            && target.format.is_of_transformers()
            && let Some(refused) = unmergeable(&bound)
        {
            return Err(vec![refused]);
        }
        let mut mesh = target.mesh.clone();
        mesh.retain(|axis, _| !(axis == "ep" && target.format.shares_experts_out()));
        let ranks = (&mesh, target.stages.as_slice());
        let (items, cut) = match target.format.is_cut() {
            true if target.format.is_cut_at_load() => cut_at_load(&bound, &target.naming, ranks)?,
            true => cut(&bound, &target.naming, ranks, target.format.is_whole())?,
            false => {
                let whole = Cut { ranks: vec![(ucl_ir::Mesh::new(), 0)], ..Cut::default() };
                (items(&bound, &target.naming, merging.is_some())?, whole)
            }
        };
        if let Some(dtype) = of_class(&cut, &target)? {
            target.dtype = Some(dtype);
            castable(&bound, &target)?;
        }
        let sources = bound.inventory.files.iter().map(|file| file.path.clone()).collect();
        let mut plan = Plan {
            bound,
            target,
            totals: Totals::default(),
            sources,
            laid: LaidOut::default(),
            items,
            cut,
            from: Vec::new(),
            weights: Vec::new(),
            along: Vec::new(),
            unkept: Vec::new(),
            merging,
            outdated: Vec::new(),
        };
        if plan.target.format.is_cut() {
            plan.lay_out_run()?;
        } else {
            plan.choose()?;
        }
        plan.nothing_lost()?;
        plan.count();
        Ok(plan)
    }

    /// Which items are written in which states.
    fn choose(&mut self) -> Result<(), Vec<Diagnostic>> {
        let states = self.bound.states();
        let own_types = self.own_types();
        let mut wrong = Vec::new();
        let mut chosen: IndexMap<String, Vec<Chosen>> = IndexMap::new();
        let mut outdated = Vec::new();
        for state in &states {
            let weights = is_weight(state);
            if self.target.states == States::Weights && !weights {
                continue;
            }
            for (number, item) in self.items.iter().enumerate() {
                if state == "param" && self.covered(item, "fp32") == Cover::Whole {
                    continue;
                }
                match self.covered(item, state) {
                    Cover::None => {}
                    _ if !weights && self.is_merged(item) => outdated.push((number, state.clone())),
                    Cover::Whole => {
                        let tensor = self.tensor(item, state, own_types[number]);
                        let master = self.kept_master(item, state, &tensor);
                        for tensor in std::iter::once(tensor).chain(master) {
                            let series = chosen.entry(tensor.state.clone()).or_default();
                            series.push(Chosen { item: number, tensor, from: state.clone() });
                        }
                    }
                    Cover::Part(_) if state == "fp32" && self.covered(item, "param") == Cover::Whole => {}
                    Cover::Part(why) => wrong.push(
                        Diagnostic::new("ucl::cover", format!("{:?} ({state}): {why}", item.name))
                            .help("the checkpoint is incomplete, or the spec is not the one that it was written by"),
                    ),
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        self.outdated = outdated;
        for of_state in chosen.values_mut() {
            of_state.sort_by_key(|one| one.item);
        }
        let mut chosen: Vec<Chosen> = chosen.into_values().flatten().collect();
        let places = self.saved_order();
        if let Some(places) = &places {
            chosen.sort_by(|a, b| {
                let by_state = a.tensor.state.cmp(&b.tensor.state);
                by_state.then_with(|| places[a.item].cmp(&places[b.item]))
            });
        }
        let joined = chosen.iter().enumerate().map(|(number, one)| {
            let place = |one: &Chosen| places.as_ref().map(|places| &places[one.item]);
            let before = number.checked_sub(1).map(|before| &chosen[before]);
            before.is_some_and(|before| {
                place(one).is_some()
                    && place(one) == place(before)
                    && one.tensor.state == before.tensor.state
            })
        });
        let joined: Vec<bool> = joined.collect();
        self.arrange(chosen, &joined).map_err(|diagnostic| vec![diagnostic])
    }

    /// Whether a product is added to a part of an item.
    fn is_merged(&self, item: &Item) -> bool {
        let touched = |merging: &Merging| {
            let boxes = self.boxes(item, 0..item.shape.iter().product());
            boxes.iter().any(|(param, component)| merging.touches(*param, &component.bounds))
        };
        self.merging.as_ref().is_some_and(touched)
    }

    /// Lays the tensors out over files.
    fn arrange(&mut self, tensors: Vec<Chosen>, joined: &[bool]) -> Result<(), Diagnostic> {
        let wanted: Vec<Wanted> = tensors
            .iter()
            .zip(joined)
            .map(|(one, joined)| Wanted {
                name: one.tensor.name.clone(),
                state: one.tensor.state.clone(),
                dtype: one.tensor.dtype,
                shape: one.tensor.shape.clone(),
                role: self.own(&self.items[one.item]).map_or(Role::Trained, |own| own.role),
                joined: *joined,
            })
            .collect();
        let metadata = &self.bound.inventory.metadata;
        let laid = self.target.format.files(&wanted, self.target.max_file_bytes, metadata);
        let laid = laid.map_err(|wrong| Diagnostic::new("ucl::write", wrong.to_string()))?;
        for file in laid {
            for (number, offset) in file.tensors {
                let one = &tensors[number];
                let number = self.laid.files.len();
                let part =
                    Part { rank: 0, tensor: one.item, first: 0, len: one.tensor.len(), start: 0 };
                self.laid.tensors.push(TargetTensor { file: number, offset, ..one.tensor.clone() });
                self.laid.parts.push(std::sync::Arc::new([part]));
                self.from.push(one.from.clone());
            }
            self.laid.file(file.path, file.len, file.fixed, file.seal);
        }
        Ok(())
    }

    /// `own` is the type of the model's own weights.
    pub(crate) fn tensor(&self, item: &Item, state: &str, own: Option<DType>) -> TargetTensor {
        let stored = self.counted_type(item, state).or(own).unwrap_or(DType::F32);
        let dtype = match (self.target.dtype, self.target.format) {
            _ if !is_weight(state) || !stored.is_float() => stored,
            (Some(dtype), _) => dtype,
            (None, format) if format.is_of_transformers() => {
                own.filter(|own| own.is_float()).unwrap_or(stored)
            }
            (None, _) => stored,
        };
        // Masters that are rounded are masters no more, and some formats know none.
        let rounded = dtype != stored || self.target.format.is_of_transformers();
        let state = if state == "fp32" && rounded { "param" } else { state };
        TargetTensor {
            name: item.name.clone(),
            state: state.to_owned(),
            dtype,
            shape: item.shape.clone(),
            file: 0,
            offset: 0,
        }
    }

    /// The type of what counts of an item in a state; what is put together of several gets one that
    /// holds them all, and what is padding alone that of the whole parameter.
    pub(crate) fn counted_type(&self, item: &Item, state: &str) -> Option<DType> {
        let counts = |piece: &&Piece| piece.role != PieceRole::Replica;
        let common = |a: DType, b: DType| a.common(b).unwrap_or(a);
        let boxes = self.boxes(item, 0..item.shape.iter().product());
        let met = boxes.iter().flat_map(|(param, component)| {
            self.bound.atlas.meeting(*param, state, &component.bounds).map(|(piece, _)| piece)
        });
        match met.filter(counts).map(|piece| piece.dtype).reduce(common) {
            None if boxes.is_empty() => {
                let all = item.terms.iter().flat_map(|param| self.bound.atlas.all(*param, state));
                all.filter(counts).map(|piece| piece.dtype).reduce(common)
            }
            found => found,
        }
    }

    /// The boxes of a range of an item's elements, clipped: by parameter.
    pub(crate) fn boxes(&self, item: &Item, elements: Range<u64>) -> Vec<(usize, Component)> {
        let params: Vec<&Param> = item.terms.iter().map(|term| &self.bound.params[*term]).collect();
        let unit: Vec<(&str, u64)> =
            item.unit.iter().map(|(dim, at)| (dim.as_str(), *at)).collect();
        flat_components(&item.axes, &unit, &params, (elements.start, elements.end))
            .into_iter()
            .filter_map(|component| {
                let param = item.terms[component.term];
                Some((param, clip(component, &self.bound.params[param])?))
            })
            .collect()
    }

    /// The coordinates of the model-parallel ranks of a target that is cut, in order; one rank of no
    /// axes in others.
    pub fn ranks(&self) -> impl Iterator<Item = &ucl_ir::Mesh> {
        self.cut.ranks.iter().map(|(at, _)| at)
    }

    /// Whether a carried file goes along in the files that are laid out.
    pub fn goes_along(&self, name: &str) -> bool {
        self.along.iter().any(|along| along == name)
    }

    /// The item that a part is of.
    pub(crate) fn item_of(&self, part: &Part) -> usize {
        self.cut.ranks[part.rank].1 + part.tensor
    }

    /// The tensors of a target that is not cut, each with its item and the state that it is made from.
    pub(crate) fn wholes(&self) -> impl Iterator<Item = (&TargetTensor, usize, &String)> {
        let parts = self.laid.parts.iter().filter_map(|parts| parts.first());
        let items = parts.map(|part| self.item_of(part));
        self.laid
            .tensors
            .iter()
            .zip(items)
            .zip(&self.from)
            .map(|((tensor, item), from)| (tensor, item, from))
    }

    /// The state of the source that a part of a tensor is made from.
    pub(crate) fn source_state(&self, tensor: usize, item: usize) -> &str {
        match self.weights.get(item) {
            Some(weights) => weights.from(&self.laid.tensors[tensor].state),
            None => &self.from[tensor],
        }
    }

    fn count(&mut self) {
        let mut totals = Totals { tensors: self.tensors().len() as u64, ..Totals::default() };
        for (number, tensor) in self.tensors().iter().enumerate() {
            totals.bytes_written += tensor.len() * tensor.dtype.size_bytes();
            for step in self.window(number, 0..tensor.len()) {
                if matches!(step.role, MoveRole::Product(_)) {
                    totals.moves += 1;
                    continue;
                }
                let elements: u64 = step.loops.iter().map(|one| one.count).product();
                totals.bytes_read += elements * step.dtype.size_bytes();
                match step.role {
                    MoveRole::Equal(_) | MoveRole::Rounded(_) => totals.compared += 1,
                    _ => totals.moves += 1,
                }
            }
        }
        totals.bytes_read += self.merging.as_ref().map_or(0, Merging::bytes);
        totals.padding = self.bound.padding.values().sum();
        self.totals = totals;
    }

    fn moves(
        &self,
        item: &Item,
        state: &str,
        (elements, window): (&Range<u64>, i64),
        rounded: bool,
        out: &mut Vec<Move>,
    ) {
        let values = item.values.iter().find(|(of, _, _)| of == state);
        let (target_scale, target_shift) =
            values.map_or((1.0, 0.0), |(_, scale, shift)| (*scale, *shift));
        let merging = self.merging.as_ref().filter(|_| !rounded && is_weight(state));
        for (param, component) in self.boxes(item, elements.clone()) {
            let products = merging.into_iter().flat_map(|m| m.meeting(param, &component.bounds));
            for (number, piece, shared) in products {
                let role = MoveRole::Product(number);
                let scale = piece.scale / target_scale;
                out.push(strided(piece, &component, &shared, window, role, scale, 0.0));
            }
            for (piece, shared) in self.bound.atlas.meeting(param, state, &component.bounds) {
                let role = match piece.role {
                    PieceRole::Primary if rounded => MoveRole::Rounded(piece.check),
                    PieceRole::Replica if rounded => MoveRole::Rounded(piece.check),
                    PieceRole::Average(_) | PieceRole::Sum if rounded => continue,
                    PieceRole::Primary => MoveRole::Write,
                    PieceRole::Replica => MoveRole::Equal(piece.check),
                    PieceRole::Average(of) => MoveRole::Average(of, piece.check),
                    PieceRole::Sum => MoveRole::Sum,
                };
                let scale = piece.scale / target_scale;
                let shift = piece.shift - target_shift * scale;
                out.push(strided(piece, &component, &shared, window, role, scale, shift));
            }
        }
    }
}

impl Work for Plan<'_> {
    fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    fn files(&self) -> &[TargetFile] {
        &self.laid.files
    }

    fn tensors(&self) -> &[TargetTensor] {
        &self.laid.tensors
    }

    fn checks(&self) -> &[Check] {
        &self.bound.checks
    }

    fn products(&self) -> &[Product] {
        self.merging.as_ref().map_or(&[], |merging| &merging.products)
    }

    fn seal(&self, file: usize, sums: &[u32]) -> Vec<(u64, Vec<u8>)> {
        self.laid.seal(file, sums)
    }

    fn window(&self, tensor: usize, elements: Range<u64>) -> Vec<Move> {
        let mut out = Vec::new();
        for (part, elements, before) in self.laid.meeting(tensor, &elements) {
            let number = self.item_of(&part);
            let (item, state) = (&self.items[number], self.source_state(tensor, number));
            if item.elsewhere && is_weight(state) {
                continue;
            }
            let mut own = Vec::new();
            self.moves(item, state, (&elements, before), false, &mut own);
            if state == "fp32" {
                // A cast target can only be held against a copy of its own type; what products are
                // added to is held against it before.
                let merged = own.iter().any(|step| matches!(step.role, MoveRole::Product(_)));
                let dtype = if merged { DType::F32 } else { self.laid.tensors[tensor].dtype };
                let cast = own.iter().any(|step| step.dtype != dtype);
                let mut copies = Vec::new();
                self.moves(item, "param", (&elements, before), true, &mut copies);
                own.extend(copies.into_iter().filter(|step| !cast || step.dtype == dtype));
            }
            out.extend(own);
        }
        let order = |step: &Move| matches!(step.role, MoveRole::Equal(_) | MoveRole::Rounded(_));
        out.sort_by_key(order);
        out
    }
}
