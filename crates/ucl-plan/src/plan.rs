//! The plan: which bytes go where, proven before any is read.

use crate::algebra::{Component, clip, flat_components};
use crate::bind::{Bound, PieceRole, is_weight};
use crate::cast::castable;
use crate::cover::Cover;
use crate::lora::{Merge, Merging, unmergeable};
use crate::params::Param;
use crate::step::{signed, strided};
use crate::target::{Item, States, Target, items};
use crate::work::{Check, Move, MoveRole, Product, TargetFile, TargetTensor, Work};
use indexmap::IndexMap;
use std::ops::Range;
use std::path::PathBuf;
use ucl_formats::Format;
use ucl_formats::inventory::Role;
use ucl_formats::target::Wanted;
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
    files: Vec<TargetFile>,
    tensors: Vec<TargetTensor>,
    pub(crate) items: Vec<Item>,
    /// For each tensor, its item.
    pub(crate) item_of: Vec<usize>,
    /// For each tensor, the state of the source that it is made from.
    pub(crate) from: Vec<String>,
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
        target: Target,
        merge: Option<&Merge>,
    ) -> Result<Plan<'a>, Vec<Diagnostic>> {
        castable(&bound, &target)?;
        let merging = merge.map(|merge| Merging::of(&bound, merge)).transpose()?;
        if merging.is_none()
            && target.format == Format::HuggingFace
            && let Some(refused) = unmergeable(&bound)
        {
            return Err(vec![refused]);
        }
        let items = items(&bound, &target.naming, merging.is_some())?;
        let sources = bound.inventory.files.iter().map(|file| file.path.clone()).collect();
        let mut plan = Plan {
            bound,
            target,
            totals: Totals::default(),
            sources,
            files: Vec::new(),
            tensors: Vec::new(),
            items,
            item_of: Vec::new(),
            from: Vec::new(),
            merging,
            outdated: Vec::new(),
        };
        plan.choose()?;
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
                        let series = chosen.entry(tensor.state.clone()).or_default();
                        series.push(Chosen { item: number, tensor, from: state.clone() });
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
        match self.target.format {
            Format::Universal => {}
            Format::HuggingFace => chosen.sort_by_key(|one| one.item),
        }
        let places = self.saved_order();
        if let Some(places) = &places {
            chosen.sort_by(|a, b| places[a.item].cmp(&places[b.item]));
        }
        let joined = chosen.iter().enumerate().map(|(number, one)| {
            let place = |one: &Chosen| places.as_ref().map(|places| &places[one.item]);
            number > 0 && place(one).is_some() && place(one) == place(&chosen[number - 1])
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
                self.tensors.push(TargetTensor {
                    file: self.files.len(),
                    offset,
                    ..one.tensor.clone()
                });
                self.item_of.push(one.item);
                self.from.push(one.from.clone());
            }
            self.files.push(TargetFile {
                path: file.path,
                len: file.len,
                fixed: vec![(0, file.header)],
            });
        }
        Ok(())
    }

    /// `own` is the type of the model's own weights.
    fn tensor(&self, item: &Item, state: &str, own: Option<DType>) -> TargetTensor {
        let boxes = self.boxes(item, 0..item.shape.iter().product());
        let pieces = boxes.iter().flat_map(|(param, component)| {
            let found = self.bound.atlas.meeting(*param, state, &component.bounds);
            found
                .filter(|(piece, _)| piece.role != PieceRole::Replica)
                .map(|(piece, _)| piece.dtype)
        });
        // What is put together of several types gets one that holds them all.
        let common = pieces.reduce(|a, b| a.common(b).unwrap_or(a));
        let stored = common.or(own).unwrap_or(DType::F32);
        let dtype = match (self.target.dtype, self.target.format) {
            _ if !is_weight(state) || !stored.is_float() => stored,
            (Some(dtype), _) => dtype,
            (None, Format::HuggingFace) => own.filter(|own| own.is_float()).unwrap_or(stored),
            (None, Format::Universal) => stored,
        };
        // Masters that are rounded are masters no more, and some formats know none.
        let rounded = dtype != stored || self.target.format == Format::HuggingFace;
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

    fn count(&mut self) {
        let mut totals = Totals { tensors: self.tensors.len() as u64, ..Totals::default() };
        for tensor in 0..self.tensors.len() {
            totals.bytes_written +=
                self.tensors[tensor].len() * self.tensors[tensor].dtype.size_bytes();
            for step in self.window(tensor, 0..self.tensors[tensor].len()) {
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
        elements: &Range<u64>,
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
                let (role, window) = (MoveRole::Product(number), signed(elements.start));
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
                out.push(strided(
                    piece,
                    &component,
                    &shared,
                    signed(elements.start),
                    role,
                    scale,
                    shift,
                ));
            }
        }
    }
}

impl Work for Plan<'_> {
    fn sources(&self) -> &[PathBuf] {
        &self.sources
    }

    fn files(&self) -> &[TargetFile] {
        &self.files
    }

    fn tensors(&self) -> &[TargetTensor] {
        &self.tensors
    }

    fn checks(&self) -> &[Check] {
        &self.bound.checks
    }

    fn products(&self) -> &[Product] {
        self.merging.as_ref().map_or(&[], |merging| &merging.products)
    }

    fn window(&self, tensor: usize, elements: Range<u64>) -> Vec<Move> {
        let mut out = Vec::new();
        let item = &self.items[self.item_of[tensor]];
        let state = &self.from[tensor];
        self.moves(item, state, &elements, false, &mut out);
        if state == "fp32" {
            // A cast target can only be held against a copy of its own type; what products are added to
            // is held against it before.
            let merged = out.iter().any(|step| matches!(step.role, MoveRole::Product(_)));
            let dtype = if merged { DType::F32 } else { self.tensors[tensor].dtype };
            let cast = out.iter().any(|step| step.dtype != dtype);
            let mut copies = Vec::new();
            self.moves(item, "param", &elements, true, &mut copies);
            out.extend(copies.into_iter().filter(|step| !cast || step.dtype == dtype));
        }
        let order = |step: &Move| matches!(step.role, MoveRole::Equal(_) | MoveRole::Rounded(_));
        out.sort_by_key(order);
        out
    }
}
