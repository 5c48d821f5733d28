//! What the ranks of a target that is cut hold, in which states, and the files that they become.

use crate::bind::is_weight;
use crate::cover::Cover;
use crate::laid::LaidOut;
use crate::pipeline::order_shared;
use crate::plan::{Plan, Weights};
use crate::target::{Item, States};
use indexmap::IndexMap;
use std::collections::{BTreeSet, HashMap};
use ucl_formats::inventory::{Group, Role};
use ucl_formats::target::{Held, Rank, Run, Uncut, WriteError};
use ucl_ir::Diagnostic;
use ucl_tensor::DType;

/// What is written of each item in each state: the first element and how many, for each range.
type Written<'a> = HashMap<usize, HashMap<&'a str, Vec<(u64, u64)>>>;

impl Plan<'_> {
    /// Lays out the files of a target that is cut.
    ///
    /// # Errors
    /// What is held in part, what the format cannot hold.
    pub(crate) fn lay_out_run(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut places = Places::of(self);
        let own_types = self.own_types();
        let (mut held, mut wrong) = (Vec::with_capacity(self.items.len()), Vec::new());
        for (number, own) in own_types.into_iter().enumerate() {
            match self.held(number, own) {
                Ok(found) => {
                    let (mut one, weights) = found;
                    let item = &self.items[number];
                    one.place = places.place(number, item, &one).map_err(|why| vec![why])?;
                    one.step = places.step(self, number, &one);
                    self.weights.push(weights);
                    held.push(one);
                }
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let starts = self.cut.ranks.iter().map(|(_, start)| *start);
        let ends = starts.skip(1).chain([self.items.len()]);
        let ranks = self.cut.ranks.iter().zip(ends);
        if self.cut.shared_in_order {
            for ((_, start), end) in ranks.clone() {
                order_shared(held.get_mut(*start..end).unwrap_or_default());
            }
        }
        let mut held = held.into_iter();
        let ranks = ranks.map(|((at, start), end)| Rank {
            at: at.clone(),
            tensors: held.by_ref().take(end - start).collect(),
            aliases: self.second_names(*start..end),
        });
        let mut ranks: Vec<Rank> = ranks.collect();
        let splits = self.splits()?;
        let uncut = splits.and_then(|splits| Some(Uncut { rank: ranks.pop()?, splits }));
        let run = Run {
            mesh: self.target.mesh.clone(),
            stages: self.target.stages.clone(),
            step: self.bound.inventory.step,
            ranks,
            groups: places.groups,
            padded_vocab: self.cut.padded_vocab,
            args: self.cut.args.clone(),
            keeps_args: self.cut.keeps_args,
            class: self.cut.class.as_ref().map(|class| class.name.clone()),
            positions: self.cut.positions,
            source: self.bound.inventory,
            uncut,
        };
        let laid = self.target.format.lay_out(&run).map_err(|error| vec![unwritable(error)])?;
        let mut notes = places.notes;
        notes.append(&mut self.cut.notes);
        notes.extend(laid.notes);
        notes.extend(self.trains_masters());
        notes.extend(self.refused_by_class());
        notes.extend(self.cast_for_class());
        self.laid = LaidOut::of_run(laid.files);
        self.along = laid.along;
        self.unkept = laid.lossy;
        self.bound.notes.extend(notes);
        self.filled()
    }

    /// Says what type the weights have where these are the masters of a run that computes in another.
    fn trains_masters(&self) -> Option<String> {
        let own_types = self.own_types();
        let master = |number: usize| {
            let item = &self.items[number];
            let master = self.stored_type(item, "fp32").filter(|_| self.weights[number].masters)?;
            own_types[number].filter(|own| *own != master).map(|own| (own, master))
        };
        let trains = self.target.format.trains_its_weights() && self.target.dtype.is_none();
        let (own, master) = (0..self.items.len()).filter(|_| trains).find_map(master)?;
        Some(format!(
            "FSDP trains one copy of the weights: it is that of the masters, in {master}. The run computed in {own}, for which `MixedPrecisionPolicy(param_dtype=…)` is to be set."
        ))
    }

    /// Second names of what a rank holds: tied parameters by the view, and what the source says.
    fn second_names(&self, items: std::ops::Range<usize>) -> IndexMap<String, String> {
        let mut aliases = IndexMap::new();
        for item in &self.items[items] {
            let path = &self.bound.params[item.terms[0]].path;
            let whole = item.terms.len() == 1 && !item.copy;
            let tied = self.cut.aliases.iter().filter(|(_, of)| whole && of == path);
            aliases.extend(tied.map(|(alias, _)| (alias.clone(), item.name.clone())));
            // Elsewhere the source's names are the target's where nothing was renamed.
            let of = self.bound.inventory.aliases.iter().filter(|(_, of)| **of == item.name);
            aliases.extend(of.map(|(alias, _)| (alias.clone(), item.name.clone())));
        }
        aliases
    }

    /// An item in all its states, and what its weights are made from.
    fn held(&self, number: usize, own: Option<DType>) -> Result<(Held, Weights), Diagnostic> {
        let item = &self.items[number];
        let role = self.own(item).map_or(Role::Trained, |own| own.role);
        let mut states: IndexMap<String, DType> = IndexMap::new();
        let mut weights = Weights { masters: false, own: false };
        let (mut master, mut stored) = (None, None);
        let mut broken: Option<(String, String)> = None;
        for state in self.bound.states() {
            let dtype = match self.covered(item, &state) {
                Cover::Whole => self.tensor(item, &state, own).dtype,
                Cover::None => continue,
                Cover::Part(why) => {
                    broken = Some((state, why));
                    continue;
                }
            };
            match state.as_str() {
                "fp32" => master = Some(self.stored_type(item, "fp32").unwrap_or(DType::F32)),
                "param" => stored = self.stored_type(item, "param"),
                _ if self.target.states == States::All => {
                    states.insert(state, dtype);
                }
                _ => {}
            }
        }
        // A part of the masters is no loss where the model's own weights are whole.
        let lost = broken.filter(|(state, _)| !(state == "fp32" && stored.is_some()));
        if let Some((state, why)) =
            lost.filter(|(state, _)| is_weight(state) || self.target.states == States::All)
        {
            let message = format!("{:?} ({state}): {why}", item.name);
            return Err(Diagnostic::new("ucl::cover", message).help(
                "the checkpoint is incomplete, or the spec is not the one that it was written by",
            ));
        }
        let Some(found) = stored.or(own).or(master) else {
            let message = format!("{:?} is in no state of the checkpoint", item.name);
            return Err(Diagnostic::new("ucl::cover", message)
                .help("it may have been left out when the checkpoint was saved"));
        };
        // Where the weights are the masters there is no place for others.
        let trains = self.target.format.trains_its_weights();
        let dtype = master.filter(|_| trains).or(own).unwrap_or(found);
        let dtype = self.target.dtype.filter(|_| found.is_float()).unwrap_or(dtype);
        weights.masters = master.is_some();
        // Masters of the weights' own type are the weights, and a format may know no others.
        let same = master == Some(dtype);
        weights.own = stored == Some(dtype) && !(trains && master.is_some()) && !same;
        let trained = self.target.states == States::All
            && role == Role::Trained
            && (master.is_some() || !states.is_empty());
        if trained {
            let master = master.unwrap_or(DType::F32);
            states.shift_insert(0, "fp32".to_owned(), master);
        } else {
            states.clear();
        }
        let held = Held {
            name: item.name.clone(),
            shape: item.shape.clone(),
            dtype,
            role,
            copy: item.copy,
            place: None,
            states,
            tied_name: item.tied_name.clone(),
            step: None,
        };
        Ok((held, weights))
    }

    /// The type that holds all of an item's pieces in a state.
    fn stored_type(&self, item: &Item, state: &str) -> Option<DType> {
        let boxes = self.boxes(item, 0..item.shape.iter().product());
        let pieces = boxes.iter().flat_map(|(param, component)| {
            self.bound.atlas.meeting(*param, state, &component.bounds)
        });
        pieces.map(|(piece, _)| piece.dtype).reduce(|a, b| a.common(b).unwrap_or(a))
    }

    /// The first of the items that proofs are made on: what ranks cut as they load it is proven where it
    /// is whole, and that comes last.
    pub(crate) fn first_proven(&self) -> usize {
        self.cut.ranks.last().filter(|_| self.cut.uncut).map_or(0, |(_, start)| *start)
    }

    /// Every element of every state that a rank holds has to be in a file.
    fn filled(&self) -> Result<(), Vec<Diagnostic>> {
        let mut written: Written<'_> = HashMap::new();
        for (tensor, parts) in self.laid.tensors.iter().zip(&self.laid.parts) {
            let mut end = 0;
            for part in parts.iter() {
                let item = self.item_of(part);
                if part.start < end || part.start + part.len > tensor.len() {
                    return Err(vec![Diagnostic::new(
                        "ucl::cover",
                        format!("{:?} would be written over another tensor", self.items[item].name),
                    )]);
                }
                end = part.start + part.len;
                let of_item = written.entry(item).or_default();
                of_item.entry(&tensor.state).or_default().push((part.first, part.len));
            }
        }
        let mut wrong = Vec::new();
        let first = self.first_proven();
        for (number, item) in self.items.iter().enumerate().skip(first) {
            let elements: u64 = item.shape.iter().product();
            let states = self.bound.states();
            let states = states.iter().filter(|state| !is_weight(state));
            let of_weights = ["fp32", "param"].into_iter();
            let complete =
                |state: &str| {
                    let mut ranges = written.get(&number)?.get(state)?.clone();
                    ranges.sort_unstable();
                    let end = ranges.iter().fold(0, |end, (first, len)| {
                        if *first > end { end } else { end.max(first + len) }
                    });
                    Some(end == elements)
                };
            // Weights are there as masters or as the model's own, all else as it is.
            let weights: Vec<bool> = of_weights.filter_map(complete).collect();
            let kept = self.target.states == States::All;
            let mut lost: Vec<&str> = states
                .filter(|state| kept && self.covered(item, state) == Cover::Whole)
                .filter(|state| complete(state) != Some(true))
                .map(String::as_str)
                .collect();
            if !weights.iter().any(|complete| *complete) && elements > 0 {
                lost.push("weights");
            }
            if !lost.is_empty() {
                let message = format!("{:?}: {} would not be written", item.name, lost.join(", "));
                wrong.push(Diagnostic::new("ucl::cover", message));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The items that are written, each with the states of the source that it is made from.
    pub(crate) fn moved(&self) -> BTreeSet<(usize, &str)> {
        let parts = self.laid.parts.iter().enumerate();
        let items = parts.flat_map(|(tensor, parts)| parts.iter().map(move |part| (tensor, part)));
        items
            .map(|(tensor, part)| {
                let item = self.item_of(part);
                (item, self.source_state(tensor, item))
            })
            .collect()
    }
}

/// Where each stored tensor stands in the optimizer's groups.
struct Places {
    groups: Vec<Group>,
    /// For each item the group and place there of what it is made of, as far as a group names it.
    known: Vec<Vec<(usize, usize)>>,
    /// By the names that the run itself has: places, where these are the target's names too.
    saved: Option<HashMap<String, usize>>,
    /// By stored name: its step, where that is not its group's.
    steps: HashMap<String, serde_json::Value>,
    /// What a person should know of it.
    notes: Vec<String>,
}

impl Places {
    fn of(plan: &Plan<'_>) -> Places {
        let (mut groups, mut steps) = (Vec::new(), HashMap::new());
        let (mut named, mut saved) = (HashMap::new(), HashMap::new());
        let optimizer = plan.bound.inventory.optimizer.as_ref();
        for (number, group) in optimizer.iter().flat_map(|o| &o.groups).enumerate() {
            for (place, name) in group.params.iter().enumerate() {
                named.entry(name.as_str()).or_insert((number, place));
            }
            for (place, name) in group.saved().iter().enumerate() {
                saved.entry(name.clone()).or_insert(place);
            }
            steps.extend(group.steps.clone());
            let (hyper, step) = (group.hyper.clone(), group.step.clone());
            groups.push(Group { hyper, step, ..Group::default() });
        }
        if groups.is_empty() {
            groups.push(Group::default());
        }
        let known = plan.items.iter().map(|item| {
            let owns = plan.owns(item);
            owns.iter().filter_map(|own| named.get(own.name.as_str()).copied()).collect()
        });
        let known: Vec<Vec<(usize, usize)>> = known.collect();
        let its_own =
            plan.items.iter().zip(&known).all(|(item, known)| {
                known.is_empty() || item.copy || saved.contains_key(&item.name)
            });
        let ordered = optimizer.is_some_and(|optimizer| !optimizer.unordered);
        let saved = (ordered && its_own).then_some(saved);
        Places { groups, known, saved, steps, notes: Vec::new() }
    }

    /// The group of an item and its place there: the run's own under the names that it has, in which its
    /// framework counts parameters; under others their order in the view, which is that of the framework
    /// that has them.
    fn place(
        &mut self,
        number: usize,
        item: &Item,
        held: &Held,
    ) -> Result<Option<(usize, usize)>, Diagnostic> {
        if !held.is_trained() {
            return Ok(None);
        }
        let known = &self.known[number];
        let groups: BTreeSet<usize> = known.iter().map(|(group, _)| *group).collect();
        match (groups.len(), known.iter().min()) {
            (1, Some((group, first))) => {
                let place = match &self.saved {
                    Some(saved) => saved.get(&item.name).copied().unwrap_or(*first),
                    None => number,
                };
                Ok(Some((*group, place)))
            }
            (0, _) => {
                // Behind all that are named by the run, in the order of the model.
                let behind = if self.saved.is_some() { usize::MAX / 2 } else { 0 };
                Ok(Some((self.likely(held), behind + number)))
            }
            _ => {
                let message = format!(
                    "{:?} is made of parameters that the optimizer has in different groups",
                    held.name
                );
                Err(Diagnostic::new("ucl::write", message).help(
                    "a fused tensor can only be in one: write a view that keeps them apart, or `--states weights`",
                ))
            }
        }
    }

    /// The step of an item, where that is not its group's.
    fn step(&mut self, plan: &Plan<'_>, number: usize, held: &Held) -> Option<serde_json::Value> {
        held.place?;
        let owns = plan.owns(&plan.items[number]);
        let steps: Vec<_> = owns.iter().map(|own| self.steps.get(&own.name)).collect();
        let first = steps.first().copied().flatten();
        if steps.iter().any(|step| *step != first) {
            let note = format!(
                "{:?} is made of parameters that were at different steps: it gets one of them.",
                held.name
            );
            self.notes.push(note);
            return steps.into_iter().flatten().next().cloned();
        }
        first.cloned()
    }

    /// The group of a tensor that none names: the only one, or by whether matrices and vectors decay.
    fn likely(&mut self, held: &Held) -> usize {
        if self.groups.len() == 1 {
            return 0;
        }
        let decays = |group: &Group| {
            group.hyper.get("weight_decay").and_then(serde_json::Value::as_f64).unwrap_or(0.0) > 0.0
        };
        let wanted = held.shape.len() > 1;
        let found = self.groups.iter().position(|group| decays(group) == wanted).unwrap_or(0);
        let note = "The checkpoint does not say which parameters are in which group of the \
                    optimizer: matrices are put where weights decay, vectors where they do not.";
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
        found
    }
}

fn unwritable(error: WriteError) -> Diagnostic {
    let message = error.to_string();
    let help = match error {
        WriteError::Refused { help, .. } => Some(help),
        WriteError::Carried(problem) => problem.help,
        _ => None,
    };
    let diagnostic = Diagnostic::new("ucl::write", message);
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}
