//! A run in memory: each rank's tensors as their addresses, and the moves of a plan done one element at
//! a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use ucl_formats::inventory::{Data, Framework, Mesh, Role, SourceFile, Stored};
use ucl_formats::{Format, Inventory};
use ucl_ir::Program;
use ucl_parser::Library;
use ucl_plan::{Bound, MoveRole, Naming, Plan, Said, Shards, States, Target, Work, bind, shard};
use ucl_tensor::DType;

/// What a file of the simulation holds: which parameter (by seed) and which address. `None` is padding.
pub(crate) type Cells = Vec<Option<(u64, u64)>>;

/// The shipped specs.
pub(crate) fn programs() -> &'static [Program] {
    static PROGRAMS: LazyLock<Vec<Program>> = LazyLock::new(|| {
        let library: Library = ucl_specs::library();
        let compile = |model: &String| library.compile(model).expect("a shipped spec");
        library.models().iter().map(compile).collect()
    });
    &PROGRAMS
}

pub(crate) fn program<'a>(programs: &'a [Program], name: &str) -> &'a Program {
    programs.iter().find(|program| program.model.name == name).expect("a shipped model")
}

/// Sizes from `l=2 h=8`.
pub(crate) fn sizes(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').expect("name=number"));
    pairs.map(|(name, size)| (name.to_owned(), size.parse().expect("a number"))).collect()
}

pub(crate) fn mesh(text: &str) -> Mesh {
    sizes(text).into_iter().collect()
}

pub(crate) fn seed(param: &str) -> u64 {
    param.bytes().fold(17, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

/// A checkpoint whose every element is its own address.
pub(crate) struct Simulated {
    pub(crate) inventory: Inventory,
    pub(crate) files: Vec<Cells>,
    pub(crate) shards: Shards,
}

/// What `view` on `mesh` stores, one file per rank and tensor.
pub(crate) fn stored(
    program: &Program,
    view: &str,
    set: &str,
    mesh: &Mesh,
    tied: bool,
) -> Simulated {
    let shards = shard(program, view, &sizes(set), mesh, tied)
        .unwrap_or_else(|wrong| panic!("{view} on {mesh:?}: {wrong:#?}"));
    let mut inventory =
        Inventory { framework: Framework::Files, mesh: mesh.clone(), ..Inventory::default() };
    let mut files = Vec::new();
    for (number, rank) in shards.ranks.iter().enumerate() {
        for (tensor, (name, shape)) in rank.tensors.iter().enumerate() {
            let len: u64 = shape.iter().product();
            let mut cells: Cells = vec![None; len as usize];
            for step in shards.synthesise((number, tensor), 0..len, 0, DType::U8, &seed) {
                let MoveRole::Synth(seed) = step.role else { panic!("a synthetic move") };
                each(&step, |from, to| {
                    assert!(cells[to as usize].is_none(), "{name} is made once");
                    cells[to as usize] = Some((seed, from));
                });
            }
            inventory.tensors.push(Stored {
                name: name.clone(),
                state: "param".to_owned(),
                dtype: DType::U8,
                shape: shape.clone(),
                at: rank.at.clone(),
                role: Role::Trained,
                data: Data::Strided {
                    file: files.len() as u32,
                    offset: 0,
                    strides: row_major(shape),
                },
            });
            inventory.files.push(SourceFile {
                path: PathBuf::from(format!("{number}/{name}")),
                bytes: len,
                header_bytes: 0,
            });
            files.push(cells);
        }
    }
    Simulated { inventory, files, shards }
}

fn row_major(shape: &[u64]) -> Vec<i64> {
    let mut strides = vec![1_i64; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim] as i64;
    }
    strides
}

/// Calls `out` with the source and target number of every element of a move.
pub(crate) fn each(step: &ucl_plan::Move, mut out: impl FnMut(u64, u64)) {
    let mut pairs = vec![(step.from as i64, step.to as i64)];
    for one in &step.loops {
        pairs = pairs
            .into_iter()
            .flat_map(|(from, to)| {
                (0..one.count as i64).map(move |i| (from + i * one.from, to + i * one.to))
            })
            .collect();
    }
    for (from, to) in pairs {
        out(from as u64, to as u64);
    }
}

/// Binds by this view and plans to universal names.
pub(crate) fn planned<'a>(
    programs: &'a [Program],
    simulated: &'a Simulated,
    view: &str,
    set: &str,
    naming: &Naming,
) -> Plan<'a> {
    // What says that optional parameters are there is no size.
    let mut said = Said { view: Some(view.to_owned()), set: sizes(set), ..Said::default() };
    said.set.retain(|name, _| name != "pos" && !name.contains('.'));
    let bound: Bound<'_> = bind(programs, &simulated.inventory, &said, naming)
        .unwrap_or_else(|refusal| panic!("{view}: {refusal:#?}"));
    let target = Target {
        stages: Vec::new(),
        mesh: Mesh::new(),
        format: Format::Universal,
        naming: naming.clone(),
        dtype: None,
        states: States::All,
        max_file_bytes: u64::MAX,
    };
    Plan::new(bound, target).unwrap_or_else(|wrong| panic!("{view}: {wrong:#?}"))
}

/// The tensors that a plan makes of simulated files, by name, in windows of `window` elements.
pub(crate) fn executed(plan: &Plan<'_>, files: &[Cells], window: u64) -> BTreeMap<String, Cells> {
    let mut out = BTreeMap::new();
    for (number, tensor) in plan.tensors().iter().enumerate() {
        let mut cells: Cells = vec![None; tensor.len() as usize];
        let mut start = 0;
        while start < tensor.len() {
            let end = (start + window).min(tensor.len());
            for step in plan.window(number, start..end) {
                each(&step, |from, to| {
                    let value = files[step.source][from as usize];
                    let cell = &mut cells[(start + to) as usize];
                    match step.role {
                        MoveRole::Write => {
                            assert!(cell.is_none(), "{} is written once", tensor.name);
                            *cell = value;
                        }
                        MoveRole::Equal(_) => {
                            assert_eq!(*cell, value, "a replica of {}", tensor.name);
                        }
                        role => panic!("{role:?}"),
                    }
                });
            }
            start = end;
        }
        out.insert(tensor.name.clone(), cells);
    }
    out
}

/// Whether every tensor of universal names is its parameter, element by element.
pub(crate) fn assert_universal(plan: &Plan<'_>, made: &BTreeMap<String, Cells>) {
    let mut expected = 0;
    for param in &plan.bound.params {
        let each: u64 = param.dims[..param.each].iter().map(|dim| dim.extent).product();
        let rest: u64 = param.dims[param.each..].iter().map(|dim| dim.extent).product();
        for index in 0..each {
            let indices: Vec<u64> = if param.each == 0 { vec![] } else { vec![index] };
            let name = param.name(&indices);
            let cells = &made[&name];
            assert_eq!(cells.len() as u64, rest, "{name}");
            for (at, cell) in cells.iter().enumerate() {
                let address = index * rest + at as u64;
                assert_eq!(*cell, Some((seed(&param.path), address)), "{name} element {at}");
            }
            expected += 1;
        }
    }
    assert_eq!(made.len(), expected);
}
