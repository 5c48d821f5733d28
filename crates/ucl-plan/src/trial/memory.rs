//! A checkpoint in memory, made by a view and a layout from addresses.

use super::code::{PADDING, STATES, first, value};
use crate::bind::{Cuts, is_under, is_weight, said_numbers, stored_value};
use crate::shard::{Shards, shard_by};
use crate::work::{Loop, Move, MoveRole};
use std::collections::BTreeMap;
use std::path::PathBuf;
use ucl_formats::Inventory;
use ucl_formats::inventory::{Data, Framework, Role, SourceFile, Stored, row_major};
use ucl_ir::{Diagnostic, Layout, MergeOp, Mesh, Program, View};
use ucl_tensor::DType;

/// How a checkpoint is stored.
#[derive(Clone, Copy)]
pub(super) struct Way<'p> {
    pub(super) program: &'p Program,
    pub(super) view: &'p View,
    pub(super) layout: Option<&'p Layout>,
    pub(super) mesh: &'p Mesh,
    /// Sizes of dims, other numbers, and which optional parameters are there.
    pub(super) set: &'p BTreeMap<String, u64>,
    pub(super) tied: bool,
}

/// A checkpoint; each tensor and state of each rank is a file.
pub(super) struct Memory {
    pub(super) inventory: Inventory,
    pub(super) files: Vec<Vec<f64>>,
    pub(super) shards: Shards,
}

impl Memory {
    /// What every rank stores, in all states.
    ///
    /// # Errors
    /// The mesh does not fit, or a size does not follow.
    pub(super) fn new(way: Way<'_>) -> Result<Memory, Vec<Diagnostic>> {
        let shards = shard_by(way.program, way.view, way.layout, way.set, way.mesh, way.tied)?;
        let inventory = Inventory {
            framework: Framework::Files,
            mesh: way.mesh.clone(),
            ..Inventory::default()
        };
        let mut memory = Memory { inventory, files: Vec::new(), shards };
        for rank in 0..memory.shards.ranks.len() {
            for tensor in 0..memory.shards.ranks[rank].tensors.len() {
                for state in STATES {
                    memory.store(way, (rank, tensor), state);
                }
            }
        }
        Ok(memory)
    }

    fn store(&mut self, way: Way<'_>, (rank, tensor): (usize, usize), state: &str) {
        let at = self.shards.ranks[rank].at.clone();
        let (name, shape) = self.shards.ranks[rank].tensors[tensor].clone();
        let len: u64 = shape.iter().product();
        let mut cells = vec![PADDING; usize::try_from(len).unwrap_or(0)];
        let seed = |path: &str| {
            self.shards.params.iter().position(|param| param.path == path).unwrap_or(0) as u64
        };
        for step in self.shards.synthesise((rank, tensor), 0..len, 0, DType::U8, &seed) {
            let MoveRole::Synth(param) = step.role else { continue };
            let param = usize::try_from(param).unwrap_or(0);
            let mut stored = Value::new(way, &self.shards.params[param].path, state, &at);
            // What a stage repeats of another is held against what they come to together.
            if self.shards.ranks[rank].items[tensor].copy {
                stored.apart = 0.0;
            }
            each(&step, |from, to| cells[to] = stored.of(from as u64));
        }
        self.add(&name, state, &shape, at, cells);
    }

    /// Adds a tensor in one state.
    pub(super) fn add(
        &mut self,
        name: &str,
        state: &str,
        shape: &[u64],
        at: Mesh,
        cells: Vec<f64>,
    ) {
        let file = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        self.inventory.tensors.push(Stored {
            name: name.to_owned(),
            state: state.to_owned(),
            dtype: DType::U8,
            shape: shape.to_vec(),
            at,
            role: Role::Trained,
            data: Data::Strided { file, offset: 0, strides: row_major(shape) },
        });
        self.inventory.files.push(SourceFile {
            path: PathBuf::from(format!("{file}")),
            bytes: cells.len() as u64,
            header_bytes: 0,
        });
        self.files.push(cells);
    }

    /// Every tensor of a checkpoint of one rank, by name and state.
    pub(super) fn tensors(self) -> Tensors {
        let names = self.inventory.tensors.into_iter().map(|stored| (stored.name, stored.state));
        names.zip(self.files).collect()
    }
}

/// Cells by name and state.
pub(super) type Tensors = BTreeMap<(String, String), Vec<f64>>;

/// What a rank stores of a parameter: its value, shifted, scaled, or one part of a mean or a sum.
struct Value {
    /// The number of element 0.
    first: u64,
    scale: f64,
    shift: f64,
    /// The rank's part of a mean: it adds up to nothing over all ranks.
    apart: f64,
    /// The rank's own number where parts are summed.
    part: Option<f64>,
}

impl Value {
    fn new(way: Way<'_>, param: &str, state: &str, at: &Mesh) -> Value {
        let cuts = Cuts { layout: way.layout, mesh: way.mesh, stages: &[] };
        let numbers = said_numbers(way.program, way.view, way.set, cuts);
        let (scale, shift) = stored_value(way.view, param, state, &numbers);
        let first = first(way.program, param, state);
        let mut value = Value { first, scale, shift, apart: 0.0, part: None };
        let merges = way.layout.map_or(&[][..], |layout| &layout.merges);
        let mine = merges.iter().filter(|m| m.params.iter().any(|path| is_under(param, path)));
        for merge in mine {
            let ranks = f64::from(u32::try_from(cuts.size(&merge.over)).unwrap_or(1));
            let rank = cuts.coordinate(at, &merge.over).unwrap_or(0);
            let rank = f64::from(u32::try_from(rank).unwrap_or(0));
            match merge.op {
                MergeOp::Average => value.apart += 2.0 * rank - (ranks - 1.0),
                // Every part saw the same gradient, so moments are replicas.
                MergeOp::Sum if !is_weight(state) => {}
                MergeOp::Sum if rank == 0.0 => value.apart -= ranks * (ranks - 1.0) / 2.0,
                MergeOp::Sum => value.part = Some(rank),
            }
        }
        value
    }

    fn of(&self, address: u64) -> f64 {
        let whole = value(self.first + address);
        self.part.unwrap_or((whole + self.apart) * self.scale + self.shift)
    }
}

/// Calls `out` with the source and target number of every element of a move.
pub(super) fn each(step: &Move, mut out: impl FnMut(usize, usize)) {
    fn inner(loops: &[Loop], from: i64, to: i64, out: &mut dyn FnMut(usize, usize)) {
        match loops.split_first() {
            None => {
                if let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) {
                    out(from, to);
                }
            }
            Some((first, rest)) => {
                for at in 0..i64::try_from(first.count).unwrap_or(0) {
                    inner(rest, from + at * first.from, to + at * first.to, out);
                }
            }
        }
    }
    let start = |number: u64| i64::try_from(number).unwrap_or(-1);
    inner(&step.loops, start(step.from), start(step.to), &mut out);
}
