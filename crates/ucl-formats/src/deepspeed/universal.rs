//! Universal folders of DeepSpeed's own converter (`checkpoint/ds_to_universal.py`): a folder for each
//! parameter, in it a file for each state, whole; beside them model files of the run that was converted.
//!
//! From stages 1 and 2 a file is a dict with the tensor under `param`. From stage 3 it is a bare flat
//! tensor, whose shape only the model files tell. What was never trained is there from some versions
//! on, as one tensor rank held it, so it is taken from the model files instead. AutoEP's stacks have all experts.

mod entry;
mod train;

use super::experts::Experts;
use super::mesh::Step;
use super::model::{ModelFile, Shapes};
use super::names::Files;
use super::{Rank, carried};
use super::{laid, story, weights};
use crate::inventory::{Carried, Data, Inventory, Mesh, Problem, Role, Stored, Survey, row_major};
use crate::listed::listed;
use crate::ranks::{Opened, open_all};
use entry::{Content, Entries};
use indexmap::{IndexMap, IndexSet};
use std::path::{Path, PathBuf};

/// The state of masters.
const MASTER: &str = "fp32";

/// Reads the headers of all files of a universal folder.
pub(crate) fn survey(root: &Path) -> Survey {
    let mut inventory = Inventory { root: root.to_owned(), ..Inventory::default() };
    let mut problems = Vec::new();
    let (paths, stage3) = model_files(root, &mut problems);
    let paths: Vec<_> = paths.into_iter().map(|(mp, path)| ((mp, 0), path)).collect();
    let mut models = open_all(&paths, &mut inventory, &mut problems, ModelFile::read);
    let entries = Entries::read(&root.join("zero"), &mut inventory, &mut problems);
    let files = Files::default();
    let step = Step { root, files: &files, models: &models, shards: &[], partitioned: false };
    story::tell(&step, &[], &mut inventory, &mut problems);
    let stage3 = stage3 || entries.of_stage3();
    let of = if stage3 { "of ZeRO-3" } else { "of ZeRO-1 or ZeRO-2" };
    inventory.kind = format!("DeepSpeed's universal form, {of}");
    if let Some((_, tp)) = models.iter().find_map(|(_, model)| model.content.degrees) {
        inventory.stages = super::stages::stages(&models, tp);
    }
    // Tensor ranks were put together, so no axis says anything about a tensor.
    inventory.mesh = Mesh::new();
    // That of a pipeline has none of its weights.
    let whole = models.len() == 1 && !stage3 && !models[0].1.content.weights.is_empty();
    let recorded: Vec<_> = models.iter_mut().map(|(_, model)| model.content.unstack()).collect();
    if whole {
        let one = super::mesh::Degrees { dp: 1, tp: 1, pp: 1 };
        let experts = Experts::default();
        let laid = laid::lay(&models, &[], &experts, one, &mut problems);
        let read = weights::Read { models: &models, layers: &[], files: &[], experts: &experts };
        weights::collect(&laid, &read, one, &mut inventory, &mut problems);
    }
    for ((_, model), shapes) in models.iter_mut().zip(recorded) {
        model.content.shapes = shapes;
    }
    let folder = Folder { models: &models, entries: &entries, whole };
    folder.states(&mut inventory, &mut problems);
    for weight in models.iter().flat_map(|(_, model)| &model.content.weights) {
        inventory.own_types.entry(weight.name.clone()).or_insert(weight.extent.dtype);
    }
    inventory.optimizer = train::optimizer(&models, &entries, &mut problems);
    if models.is_empty() {
        inventory.notes.push(
            "There are no model files beside `zero`: the step, buffers and 16-bit weights are not known."
                .to_owned(),
        );
    }
    inventory.carried = carried(&models, &[]);
    if let Some(path) = &entries.optimizer {
        let states: &[&[&str]] = &[&["optimizer_state_dict", "state"], &["fp32_flat_groups"]];
        inventory.carried.push(Carried::of(path, states));
    }
    Survey { inventory, problems }
}

/// The model files that tell most: one for each `mp` rank. Whether they are of stage 3.
fn model_files(root: &Path, problems: &mut Vec<Problem>) -> (Vec<(u64, PathBuf)>, bool) {
    let listing = match std::fs::read_dir(root) {
        Ok(listing) => listing,
        Err(error) => {
            problems.push(Problem::new(root, format!("the folder can't be read: {error}")));
            return (Vec::new(), false);
        }
    };
    let (mut plain, mut stage3) = (Vec::new(), Vec::new());
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix("_model_states.pt") else { continue };
        if let Some(mp) = stem.strip_prefix("mp_rank_").and_then(|mp| mp.parse().ok()) {
            plain.push((mp, entry.path()));
        } else if let Some((dp, mp)) =
            stem.strip_prefix("zero_pp_rank_").and_then(|rest| rest.split_once("_mp_rank_"))
            && let (Ok(0_u64), Ok(mp)) = (dp.parse(), mp.parse())
        {
            stage3.push((mp, entry.path()));
        }
    }
    let of_stage3 = plain.is_empty() && !stage3.is_empty();
    let mut paths = if of_stage3 { stage3 } else { plain };
    paths.sort();
    (paths, of_stage3)
}

struct Folder<'a> {
    models: &'a [(Rank, Opened<ModelFile>)],
    entries: &'a Entries,
    /// Whether the one model file holds all weights.
    whole: bool,
}

impl Folder<'_> {
    /// Puts all states of all parameters into the inventory.
    fn states(&self, inventory: &mut Inventory, problems: &mut Vec<Problem>) {
        let shapes = self.shapes();
        let shared: IndexSet<&str> = self
            .models
            .iter()
            .flat_map(|(_, model)| &model.content.shared)
            .map(|(alias, _)| alias.as_str())
            .collect();
        let aliases: IndexSet<String> = inventory.aliases.keys().cloned().collect();
        let mut untrained = Vec::new();
        for (name, states) in &self.entries.params {
            let trained =
                shapes.contains_key(name.as_str()) || states.keys().any(|state| state != MASTER);
            if aliases.contains(name) || shared.contains(name.as_str()) && !trained {
                continue;
            }
            if !trained && !self.models.is_empty() {
                match self.entire(name, states).filter(|_| !self.whole) {
                    Some(stored) => inventory.tensors.push(stored),
                    None => untrained.push(name.clone()),
                }
                continue;
            }
            self.alike(name, states, problems);
            for (state, opened) in states {
                let Content::Tensor { extent, bare, vocabulary, .. } = &opened.content else {
                    continue;
                };
                let shape = match self.shape(name, &extent.shape, (*bare, *vocabulary), &shapes) {
                    Ok(shape) => shape,
                    Err(problem) => {
                        problems.push(Problem { file: opened.path.clone(), ..problem });
                        continue;
                    }
                };
                let strides = if *bare { row_major(&shape) } else { extent.strides.clone() };
                inventory.tensors.push(Stored {
                    name: name.clone(),
                    state: state.clone(),
                    dtype: extent.dtype,
                    at: Mesh::new(),
                    role: Role::Trained,
                    data: Data::Strided { file: opened.file, offset: extent.file_offset, strides },
                    shape,
                });
            }
        }
        self.absent(&shapes, problems);
        self.told(&untrained, inventory);
    }

    /// What was never trained, where it is said how a load cuts it: DeepSpeed's converter does not say, and
    /// has one rank's part of it.
    fn entire(&self, name: &str, states: &IndexMap<String, Opened<Content>>) -> Option<Stored> {
        let opened = states.get(MASTER)?;
        let Content::Tensor { extent, placed: true, .. } = &opened.content else { return None };
        let mut models = self.models.iter().map(|(_, model)| &model.content);
        let is_buffer = models.any(|model| model.buffers.iter().any(|buffer| buffer == name));
        let strides = extent.strides.clone();
        Some(Stored {
            name: name.to_owned(),
            state: weights::PARAM.to_owned(),
            dtype: extent.dtype,
            at: Mesh::new(),
            role: if is_buffer { Role::Buffer } else { Role::Frozen },
            data: Data::Strided { file: opened.file, offset: extent.file_offset, strides },
            shape: extent.shape.clone(),
        })
    }

    /// The shapes of the optimizer's record, where all ranks have the same.
    fn shapes(&self) -> IndexMap<&str, Option<&[u64]>> {
        let groups =
            self.models.iter().flat_map(|(_, model)| model.content.shapes.iter().flatten());
        let mut shapes: IndexMap<&str, Option<&[u64]>> = IndexMap::new();
        for (name, shape) in groups.flat_map(|group: &Shapes| group) {
            let known = shapes.entry(name).or_insert(Some(shape));
            *known = known.filter(|known| *known == shape.as_slice());
        }
        shapes
    }

    /// The shape of a state: its own, or that of the record for a flat one.
    fn shape(
        &self,
        name: &str,
        own: &[u64],
        (bare, vocabulary): (bool, bool),
        shapes: &IndexMap<&str, Option<&[u64]>>,
    ) -> Result<Vec<u64>, Problem> {
        let recorded = shapes.get(name).copied().flatten();
        let elements =
            |shape: &[u64]| shape.iter().try_fold(1_u64, |all, size| all.checked_mul(*size));
        match recorded {
            // Tensor ranks have parts of it, and what they record is the shape of those.
            _ if !bare && self.models.len() != 1 => Ok(own.to_vec()),
            None if !bare => Ok(own.to_vec()),
            // It came without the padding that it is trained with.
            Some(recorded) if vocabulary && recorded.get(1..) == own.get(1..) => Ok(own.to_vec()),
            Some(recorded) if !bare && recorded == own => Ok(own.to_vec()),
            Some(recorded) if bare && elements(recorded) == elements(own) && self.models.len() == 1 => {
                Ok(recorded.to_vec())
            }
            Some(recorded) => Err(Problem::new(
                name,
                format!("`{name}` has the shape {own:?}, the optimizer's record says {recorded:?}"),
            )
            .help("The file or the model file beside `zero` is of another run.")),
            None => Err(Problem::new(
                name,
                format!("`{name}` is flat, {own:?}, and no model file says which shape it has"),
            )
            .help(
                "The universal form of ZeRO-3 keeps shapes in the files zero_pp_rank_*_model_states.pt \
                 beside `zero` alone: bring them back, or give the step that it was made from.",
            )),
        }
    }

    /// All states of a parameter have one shape, and there is a master.
    fn alike(
        &self,
        name: &str,
        states: &IndexMap<String, Opened<Content>>,
        problems: &mut Vec<Problem>,
    ) {
        let shape = |opened: &Opened<Content>| match &opened.content {
            Content::Tensor { extent, .. } => Some(extent.shape.clone()),
            Content::Scalar(_) => None,
        };
        let Some(master) = states.get(MASTER) else {
            let file = states.values().next().map(|opened| opened.path.clone()).unwrap_or_default();
            let folder = file.parent().unwrap_or(&file);
            problems.push(
                Problem::new(folder, format!("`{name}` has no fp32.pt, its master weights"))
                    .help("The conversion may have been cut short: make it again."),
            );
            return;
        };
        for (state, opened) in states {
            if let Some(found) = shape(opened)
                && Some(&found) != shape(master).as_ref()
            {
                problems.push(Problem::new(
                    &opened.path,
                    format!(
                        "`{state}` of `{name}` has the shape {found:?}, its master {:?}",
                        shape(master).unwrap_or_default()
                    ),
                ));
            }
        }
        // A state that all others have is not missing from one alone.
        let lacks = self.entries.usual.iter().filter(|state| !states.contains_key(*state));
        for state in lacks {
            problems.push(
                Problem::new(
                    master.path.parent().unwrap_or(&master.path),
                    format!("`{name}` has no {state}.pt, which other parameters have"),
                )
                .help("The conversion may have been cut short: make it again."),
            );
        }
    }

    /// Every trained parameter has a folder.
    fn absent(&self, shapes: &IndexMap<&str, Option<&[u64]>>, problems: &mut Vec<Problem>) {
        let absent: Vec<String> = shapes
            .keys()
            .filter(|name| !self.entries.params.contains_key(**name))
            .map(|name| format!("`{name}`"))
            .collect();
        if !absent.is_empty() {
            problems.push(
                Problem::new(
                    &self.entries.root,
                    format!(
                        "the optimizer has {}, which have no folder here",
                        listed(&absent, ", ")
                    ),
                )
                .help("The conversion may have been cut short: make it again."),
            );
        }
    }

    /// What was never trained and where it comes from.
    fn told(&self, untrained: &[String], inventory: &mut Inventory) {
        let names =
            listed(&untrained.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>(), ", ");
        if !untrained.is_empty() {
            inventory.notes.push(match self.whole {
                true => format!("What was never trained is read from the model file, in its own type: {names}."),
                false => format!(
                    "Left out, as `zero` has only one tensor rank's part of what was never trained: {names}. The step that it was made from has all."
                ),
            });
        }
        let frozen: IndexSet<&str> = self
            .models
            .iter()
            .flat_map(|(_, model)| &model.content.frozen)
            .map(|weight| weight.name.as_str())
            .filter(|name| inventory.tensors.iter().all(|stored| stored.name != *name))
            .collect();
        if !self.whole && !frozen.is_empty() {
            inventory.notes.push(format!(
                "Left out: {} frozen parameters, of which a universal folder has only one rank's part. The step that it was made from has all.",
                frozen.len()
            ));
        }
    }
}
