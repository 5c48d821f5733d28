//! What is in a checkpoint, in numbers.

use crate::show::{self, Table};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::HashSet;
use ucl_formats::Inventory;
use ucl_formats::inventory::{Chunk, Data, Role, Stored};
use ucl_plan::Plan;

/// Counts of everything.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Overview {
    files: u64,
    bytes: u64,
    header_bytes: u64,
    parameters: Parameters,
    states: Vec<State>,
    /// Elements of flat buffers and of tensors that are padding.
    padding: u64,
}

#[derive(Debug, Default, Serialize)]
struct Parameters {
    tensors: u64,
    elements: u64,
    trained: u64,
    frozen: u64,
    buffers: u64,
    aliases: u64,
}

/// What is stored of a state, over all ranks.
#[derive(Debug, Serialize)]
struct State {
    state: String,
    dtype: &'static str,
    stored: u64,
    elements: u64,
    bytes: u64,
}

impl Overview {
    /// Counts; parameters are those of the plan, or what the names tell where there is none.
    pub(crate) fn of(inventory: &Inventory, plan: Option<&Plan<'_>>) -> Overview {
        let gaps: u64 =
            inventory.buffers.iter().flat_map(|buffer| &buffer.padding).map(|gap| gap.1).sum();
        let dropped: u64 = plan.map_or(0, |plan| plan.bound.padding.values().sum());
        let mut parameters = match plan {
            Some(plan) => Parameters::of_plan(plan),
            None => Parameters::of_names(inventory),
        };
        parameters.aliases = inventory.aliases.len() as u64;
        Overview {
            files: inventory.files.len() as u64,
            bytes: inventory.files.iter().map(|file| file.bytes).sum(),
            header_bytes: inventory.files.iter().map(|file| file.header_bytes).sum(),
            parameters,
            states: states(inventory),
            padding: gaps + dropped,
        }
    }

    /// `12 files, 1.2 GB; 34 kB of headers were read`
    pub(crate) fn files_line(&self) -> Option<String> {
        (self.files > 0).then(|| {
            format!(
                "{}, {}; {} of headers were read",
                show::count(self.files, "file"),
                show::bytes(self.bytes),
                show::bytes(self.header_bytes),
            )
        })
    }

    /// `tensors, elements, roles`
    pub(crate) fn parameters_line(&self) -> String {
        let Parameters { tensors, elements, trained, frozen, buffers, aliases } = self.parameters;
        let of =
            |count: u64, what: &str| (count > 0).then(|| format!("{} {what}", show::number(count)));
        let parts = [
            Some(format!(
                "{}, {}",
                show::count(tensors, "tensor"),
                show::count(elements, "element")
            )),
            of(trained, "trained"),
            of(frozen, "frozen"),
            of(buffers, show::plural(buffers, "buffer").as_str()),
            of(aliases, "with a second name"),
            of(self.padding, "elements of padding beside them"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// A line for each state and type.
    pub(crate) fn state_lines(&self) -> Vec<String> {
        let mut table = Table::default();
        for state in &self.states {
            table.row([
                show::name(&state.state),
                state.dtype.to_owned(),
                format!("{} stored", show::count(state.stored, "slice")),
                show::bytes(state.bytes),
            ]);
        }
        if table.is_empty() { vec!["none could be read".to_owned()] } else { table.lines(&[2, 3]) }
    }
}

impl Parameters {
    fn of_plan(plan: &Plan<'_>) -> Parameters {
        let entries = plan.manifest(&[], None, Vec::new()).tensors;
        let mut parameters = Parameters::default();
        for entry in entries {
            parameters.add(entry.role, entry.shape.iter().product());
        }
        parameters
    }

    fn of_names(inventory: &Inventory) -> Parameters {
        let mut names: IndexMap<&str, Role> = IndexMap::new();
        for stored in &inventory.tensors {
            names.entry(&stored.name).or_insert(stored.role);
        }
        let mut parameters = Parameters::default();
        let of_state = |state| inventory.tensors.iter().filter(move |stored| stored.state == state);
        let own: HashSet<&str> = of_state("param").map(|stored| stored.name.as_str()).collect();
        // Where nothing else is stored the masters are the weights.
        let masters = of_state("fp32").filter(|stored| !own.contains(stored.name.as_str()));
        let elements = of_state("param").chain(masters).map(elements).sum();
        names.into_values().for_each(|role| parameters.add(role, 0));
        parameters.elements = elements;
        parameters
    }

    fn add(&mut self, role: Role, elements: u64) {
        self.tensors += 1;
        self.elements += elements;
        match role {
            Role::Trained => self.trained += 1,
            Role::Frozen => self.frozen += 1,
            Role::Buffer => self.buffers += 1,
        }
    }
}

fn states(inventory: &Inventory) -> Vec<State> {
    let mut states: IndexMap<(&str, &'static str), State> = IndexMap::new();
    for stored in &inventory.tensors {
        let dtype = stored.dtype.name();
        let state = states.entry((&stored.state, dtype)).or_insert_with(|| State {
            state: stored.state.clone(),
            dtype,
            stored: 0,
            elements: 0,
            bytes: 0,
        });
        let elements = elements(stored);
        state.stored += 1;
        state.elements += elements;
        state.bytes += elements * stored.dtype.size_bytes();
    }
    states.into_values().collect()
}

/// How many elements are stored; a shape that no memory could hold counts as all there is.
fn elements(stored: &Stored) -> u64 {
    match &stored.data {
        Data::Strided { .. } => {
            stored.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size))
        }
        Data::Runs(runs) => runs.iter().map(|run| run.len).sum(),
        Data::Boxes(chunks) => chunks.iter().map(Chunk::elements).sum(),
    }
}
