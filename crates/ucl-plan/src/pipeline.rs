//! A pipeline that no spec describes: its layers are numbered over all stages, and so can be shared out anew.

use crate::bind::Bound;
use crate::cut::Cut;
use crate::target::{Item, universal};
use indexmap::IndexSet;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use ucl_formats::inventory::{is_shared, module_of_pipeline};
use ucl_formats::target::Held;
use ucl_ir::{Diagnostic, Mesh};

/// The items of every stage. `typed` are the numbers of layers that the stages are said to have; as many
/// stages as the source had have its layers where nothing is said.
///
/// # Errors
/// Nobody says which layers a stage has, or what is said does not fit.
pub(crate) fn cut(
    bound: &Bound<'_>,
    pp: u64,
    typed: &[u64],
) -> Result<(Vec<Item>, Cut), Vec<Diagnostic>> {
    let source = bound.inventory.stages.as_slice();
    let pipeline = Pipeline {
        source,
        stages: stages(source, pp, typed).map_err(|wrong| vec![wrong])?,
        own: ranges_of(source),
        kept: typed.is_empty(),
        layers: shared_layers(bound),
    };
    let items = universal(bound);
    let (mut hosts, mut wrong, mut notes) = (BTreeMap::new(), IndexSet::new(), Vec::new());
    for item in &items {
        let Some(module) = module_of_pipeline(&item.name) else {
            wrong.insert(format!("{:?} is in no layer of a pipeline", item.name));
            continue;
        };
        if !hosts.contains_key(module) {
            match pipeline.hosts(module, &mut notes) {
                Ok(of) => _ = hosts.insert(module.to_owned(), of),
                Err(message) => _ = wrong.insert(message),
            }
        }
    }
    if !wrong.is_empty() {
        let diagnostic = |message| Diagnostic::new("ucl::fit", message).help(HELP);
        return Err(wrong.into_iter().map(diagnostic).collect());
    }
    let mut cut = Cut { notes, keeps_args: true, shared_in_order: true, ..Cut::default() };
    let mut all = Vec::new();
    for stage in 0..pipeline.stages.len() {
        let mut held = Vec::new();
        for item in &items {
            let Some(module) = module_of_pipeline(&item.name) else { continue };
            if let Some(of) = hosts.get(module).filter(|of| of.contains(&stage)) {
                let copy = of.first() != Some(&stage);
                held.push((pipeline.turn(module, stage), Item { copy, ..item.clone() }));
            }
        }
        held.sort_by_key(|(turn, _)| *turn);
        cut.ranks.push((Mesh::from([("pp".to_owned(), stage as u64)]), all.len()));
        all.extend(held.into_iter().map(|(_, item)| item));
    }
    Ok((all, cut))
}

/// Gives what the layers of a stage share the places in the optimizer's groups that its modules have by their
/// order on the stage, where such stand in front of all else: the order of `held`.
pub(crate) fn order_shared(held: &mut [Held]) {
    let mut groups: BTreeMap<usize, (Vec<usize>, usize)> = BTreeMap::new();
    for (number, one) in held.iter().enumerate() {
        let Some((group, place)) = one.place else { continue };
        let (shared, first) = groups.entry(group).or_insert((Vec::new(), usize::MAX));
        if is_shared(&one.name) {
            shared.push(number);
        } else {
            *first = place.min(*first);
        }
    }
    for (shared, first) in groups.into_values() {
        let places = shared.iter().filter_map(|number| held.get(*number)?.place);
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        if places.last().is_none_or(|(_, last)| *last < first) {
            for (number, place) in shared.into_iter().zip(places) {
                if let Some(one) = held.get_mut(number) {
                    one.place = Some(place);
                }
            }
        }
    }
}

const HELP: &str = "DeepSpeed prints how it shares the layers of a pipeline out as it starts (`stage=0 layers=3`): \
                    say these numbers, `--stages 3,5`";

/// The layers of every stage that is written.
fn stages(
    source: &[IndexSet<String>],
    pp: u64,
    typed: &[u64],
) -> Result<Vec<Range<u64>>, Diagnostic> {
    let message = if !typed.is_empty() && typed.len() as u64 != pp {
        format!("{} stages are said, and pp = {pp}", typed.len())
    } else if typed.is_empty() && source.len() as u64 != pp {
        format!(
            "nobody says which layers each of {pp} pipeline stages has: the source has {}",
            source.len()
        )
    } else if typed.is_empty() {
        return Ok(ranges_of(source));
    } else {
        let ends = typed.iter().scan(0_u64, |end, layers| {
            let start = *end;
            *end = end.saturating_add(*layers);
            Some(start..*end)
        });
        return Ok(ends.collect());
    };
    Err(Diagnostic::new("ucl::fit", message).help(HELP))
}

/// The layers that the stages of the source may have: what is between those of two stages may be of both.
fn ranges_of(source: &[IndexSet<String>]) -> Vec<Range<u64>> {
    let layers = |stages: &[IndexSet<String>]| -> Vec<u64> {
        stages.iter().flatten().filter_map(|module| module.parse().ok()).collect()
    };
    let ranges = (0..source.len()).map(|stage| {
        let before = layers(source.get(..stage).unwrap_or_default());
        let behind = layers(source.get(stage + 1..).unwrap_or_default());
        let start = before.into_iter().max().map_or(0, |last| last.saturating_add(1));
        start..behind.into_iter().min().unwrap_or(u64::MAX)
    });
    ranges.collect()
}

/// The layers that a shared module itself is, by the module: those whose files hold it.
fn shared_layers(bound: &Bound<'_>) -> BTreeMap<String, BTreeSet<u64>> {
    let mut layers: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (alias, name) in bound.inventory.aliases.iter().filter(|(_, name)| is_shared(name)) {
        let layer = module_of_pipeline(alias).and_then(|module| module.parse().ok());
        if let Some((module, layer)) = module_of_pipeline(name).zip(layer) {
            layers.entry(module.to_owned()).or_default().insert(layer);
        }
    }
    layers
}

/// Who holds what.
struct Pipeline<'a> {
    /// The modules of the source's stages.
    source: &'a [IndexSet<String>],
    /// The layers of the source's stages.
    own: Vec<Range<u64>>,
    /// The layers of the stages that are written.
    stages: Vec<Range<u64>>,
    /// Whether these are the source's.
    kept: bool,
    /// The layers whose files hold a shared module.
    layers: BTreeMap<String, BTreeSet<u64>>,
}

impl Pipeline<'_> {
    /// The stages that hold a module.
    fn hosts(&self, module: &str, notes: &mut Vec<String>) -> Result<BTreeSet<usize>, String> {
        let known = self.source.iter().enumerate().filter(|(_, stage)| stage.contains(module));
        let known: BTreeSet<usize> = known.map(|(stage, _)| stage).collect();
        if self.kept && !known.is_empty() {
            return Ok(known);
        }
        match module.parse() {
            Ok(layer) => self.stage(layer).map(|stage| BTreeSet::from([stage])),
            Err(_) => self.sharing(module, &known, notes),
        }
    }

    /// When a stage comes to a module: first to those that it shares, in the order in which it uses them, then
    /// to its layers, which all have one turn.
    fn turn(&self, module: &str, stage: usize) -> (bool, u64) {
        if !is_shared(module) {
            return (true, 0);
        }
        if self.kept {
            let known = self.source.get(stage).and_then(|stage| stage.get_index_of(module));
            return (false, known.map_or(u64::MAX, |turn| turn as u64));
        }
        let layers = self.layers.get(module).into_iter().flatten();
        let used = layers
            .copied()
            .find(|layer| self.stages.get(stage).is_some_and(|stage| stage.contains(layer)));
        (false, used.unwrap_or(u64::MAX))
    }

    /// The stage of a layer.
    fn stage(&self, layer: u64) -> Result<usize, String> {
        self.stages.iter().position(|stage| stage.contains(&layer)).ok_or_else(|| {
            let last = self.stages.last().map_or(0, |stage| stage.end);
            format!("layer {layer} is behind the stages that are said, which have {last} layers")
        })
    }

    /// The stages that share a module, `known` those of the source. A layer that uses it by a function of its
    /// own has no file: of it only the source's stage is known.
    fn sharing(
        &self,
        module: &str,
        known: &BTreeSet<usize>,
        notes: &mut Vec<String>,
    ) -> Result<BTreeSet<usize>, String> {
        let none = BTreeSet::new();
        let layers = self.layers.get(module).unwrap_or(&none);
        let mut hosts = BTreeSet::new();
        let mut told = BTreeSet::new();
        for layer in layers {
            hosts.insert(self.stage(*layer)?);
            told.extend(known.iter().find(|stage| self.own[**stage].contains(layer)));
        }
        let (first, last) = (0, self.source.len().saturating_sub(1));
        let untold: Vec<usize> = known.difference(&told).copied().collect();
        for stage in &untold {
            match *stage {
                stage if stage == last && (stage != first || !layers.is_empty()) => {
                    hosts.insert(self.stages.len() - 1);
                }
                stage if stage == first => _ = hosts.insert(0),
                stage => {
                    return Err(format!(
                        "stage {stage} of the source uses `{module}` too, and no file says in which of its layers"
                    ));
                }
            }
        }
        // What is shared is used twice.
        if layers.len() + untold.len() < 2 {
            if known.iter().any(|stage| *stage != last) {
                return Err(format!(
                    "no file says which other layer than the first uses `{module}`"
                ));
            }
            hosts.insert(self.stages.len() - 1);
            notes.push(format!(
                "No file says which other layer than the first uses `{module}`: one of the last stage, as a head does, is taken for granted. A run where it is another refuses the sizes."
            ));
        }
        Ok(hosts)
    }
}
