//! How the layers are spread over stages: what the arguments say against what the files hold.
//!
//! `megatron/core/transformer/transformer_block.py`, `get_num_layers_to_build`, and
//! `pipeline_parallel_layer_layout.py`. The files alone decide the numbers of layers; the arguments are a
//! second witness, so that a file of another run or a layer that is gone is noticed.

use super::mesh::Step;
use super::rank::RankFile;
use crate::inventory::Problem;
use crate::ranks::{MIXED, count};
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// A repetition in a layout that gives more layers than this is no layout.
const MOST_LAYERS: usize = 1 << 16;

/// Compares each chunk with what the arguments say of it.
pub(super) fn check(step: &Step<'_>, problems: &mut Vec<Problem>) {
    let degrees = step.degrees;
    let said = step.contents().find_map(|rank| Layers::said(rank, degrees.pp, degrees.vpp));
    for held in &step.ranks {
        let content = &held.file.content;
        for (chunk, weights) in content.chunks.iter().enumerate() {
            let found: BTreeSet<u64> =
                weights.iter().filter_map(|weight| layer(&weight.name)).collect();
            let chunk_name = match content.chunks.len() {
                1 => String::new(),
                _ => format!(" of virtual stage {chunk}"),
            };
            let number = found.len() as u64;
            if let Some(gap) = (0..number).find(|local| !found.contains(local)) {
                let message =
                    format!("layer {gap}{chunk_name} is missing: layers count from 0 in it");
                problems.push(Problem::new(&held.file.path, message));
                continue;
            }
            let Some(expected) = said.as_ref().map(|said| said.of(held.rank.pp, chunk as u64))
            else {
                continue;
            };
            if expected != Some(number) {
                let message = format!(
                    "it holds {}{chunk_name}, its arguments give stage {} {}",
                    count(number, "layer"),
                    held.rank.pp,
                    expected.map_or("none".to_owned(), |expected| expected.to_string())
                );
                problems.push(Problem::new(&held.file.path, message).help(MIXED));
            }
        }
    }
}

/// The number in `decoder.layers.3.mlp…`; heads of several tokens have layers of their own.
fn layer(name: &str) -> Option<u64> {
    let (before, rest) = name.split_once("layers.")?;
    if before.split('.').any(|part| part == "mtp") {
        return None;
    }
    rest.split('.').next()?.parse().ok()
}

/// How many layers each chunk has, by the arguments.
struct Layers {
    pp: u64,
    /// By virtual stage, then stage.
    counts: Vec<u64>,
}

impl Layers {
    fn of(&self, stage: u64, chunk: u64) -> Option<u64> {
        let index = chunk.checked_mul(self.pp)?.checked_add(stage)?;
        self.counts.get(usize::try_from(index).ok()?).copied()
    }

    /// Nothing where the arguments do not say, or say what does not divide.
    fn said(rank: &RankFile, pp: u64, vpp: u64) -> Option<Layers> {
        let args = rank.args.as_ref()?;
        let layout = args.get("pipeline_model_parallel_layout");
        let counts = match layout.and_then(Json::as_str) {
            Some(text) => stages_of(text)?,
            None if layout.is_some_and(|layout| !layout.is_null()) => return None,
            None => Layers::spread(rank, pp, vpp)?,
        };
        (counts.len() as u64 == pp * vpp).then_some(Layers { pp, counts })
    }

    fn spread(rank: &RankFile, pp: u64, vpp: u64) -> Option<Vec<u64>> {
        let flag = |key: &str| rank.args.as_ref()?.get(key)?.as_bool();
        let layers = rank.arg("num_layers")?;
        // A stage that holds the embedding alone, or encoders beside decoders: not counted here.
        let alone = flag("standalone_embedding_stage") == Some(true);
        if alone || rank.arg("pipeline_model_parallel_split_rank").is_some() {
            return None;
        }
        let known = |keys: [&str; 2]| keys.into_iter().find_map(|key| rank.arg(key));
        let first =
            known(["decoder_first_pipeline_num_layers", "num_layers_in_first_pipeline_stage"]);
        let last = known(["decoder_last_pipeline_num_layers", "num_layers_in_last_pipeline_stage"]);
        let embedding = flag("account_for_embedding_in_pipeline_split") == Some(true);
        let loss = flag("account_for_loss_in_pipeline_split") == Some(true);
        let stages = usize::try_from(pp).ok()?;
        let mut of_stage: Vec<u64> = Vec::with_capacity(stages);
        let share = |total: u64, by: u64| (by > 0 && total.is_multiple_of(by)).then(|| total / by);
        if first.is_some() || last.is_some() {
            let rest = layers.checked_sub(first.unwrap_or(0))?.checked_sub(last.unwrap_or(0))?;
            let middle = pp.checked_sub(u64::from(first.is_some()) + u64::from(last.is_some()))?;
            let each = if middle == 0 { 0 } else { share(rest, middle)? };
            of_stage.resize(stages, each);
            if let (Some(count), Some(stage)) = (first, of_stage.first_mut()) {
                *stage = count;
            }
            if let (Some(count), Some(stage)) = (last, of_stage.last_mut()) {
                *stage = count;
            }
            of_stage = of_stage.into_iter().map(|n| share(n, vpp)).collect::<Option<_>>()?;
            return Some((0..vpp).flat_map(|_| of_stage.clone()).collect());
        }
        // The embedding and the loss take the place of a layer each.
        let places = layers.checked_add(u64::from(embedding) + u64::from(loss))?;
        let each = share(share(places, pp)?, vpp)?;
        let mut counts = vec![each; usize::try_from(pp.checked_mul(vpp)?).ok()?];
        if embedding {
            let first = counts.first_mut()?;
            *first = first.checked_sub(1)?;
        }
        if loss {
            let last = counts.last_mut()?;
            *last = last.checked_sub(1)?;
        }
        Some(counts)
    }
}

/// The layers of each part of a layout: `Et*3|(tt|)*2,m|L`. `t` is a layer, `|` ends a part, `*3`
/// repeats what stands before it, commas mean nothing.
fn stages_of(text: &str) -> Option<Vec<u64>> {
    let text: Vec<char> = text.chars().filter(|c| *c != ',' && !c.is_whitespace()).collect();
    let (flat, rest) = unrolled(&text, 0)?;
    rest.is_empty().then_some(())?;
    Some(
        flat.split(|c| *c == '|')
            .map(|part| part.iter().filter(|c| **c == 't').count() as u64)
            .collect(),
    )
}

/// The text without repetitions, up to a bracket that closes, and what follows it.
fn unrolled(mut text: &[char], depth: u32) -> Option<(Vec<char>, &[char])> {
    let mut flat: Vec<char> = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        let (unit, rest) = match first {
            ')' => return (depth > 0).then_some((flat, rest)),
            '(' if depth < 8 => unrolled(rest, depth + 1)?,
            '(' => return None,
            other => (vec![*other], rest),
        };
        let (times, rest) = match rest.split_first() {
            Some(('*', rest)) => {
                let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
                let number: String = rest[..digits].iter().collect();
                (number.parse::<usize>().ok()?, &rest[digits..])
            }
            _ => (1, rest),
        };
        if times > MOST_LAYERS
            || unit.len().checked_mul(times).is_none_or(|more| more + flat.len() > MOST_LAYERS)
        {
            return None;
        }
        for _ in 0..times {
            flat.extend(&unit);
        }
        text = rest;
    }
    (depth == 0).then_some((flat, text))
}

#[cfg(test)]
mod tests {
    use super::stages_of;

    #[test]
    fn layouts_unroll() {
        assert_eq!(stages_of("Ettt|(tt|)*2,m|L"), Some(vec![3, 2, 2, 0, 0]));
        assert_eq!(stages_of("Et*3|tL"), Some(vec![3, 1]));
        assert_eq!(stages_of("E|(t|)*2L"), Some(vec![0, 1, 1, 0]));
        for text in ["(t", "t)", "t*", "(((((((((t)))))))))", "(t*60000)*60000"] {
            assert_eq!(stages_of(text), None, "{text}");
        }
    }
}
