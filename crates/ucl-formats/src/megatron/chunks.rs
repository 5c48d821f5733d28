//! The weights of a rank: `model`, or `model0`, `model1`, … where the pipeline is interleaved.

use super::rank::RankFile;
use crate::inventory::Problem;
use crate::named::{Weight, weights};
use crate::torch::{TorchFile, Value};

/// The weights of one virtual stage, in the order of the module.
pub(super) type Chunk = Vec<Weight>;

/// Reads all chunks, in order.
pub(super) fn chunks(file: &TorchFile, rank: &mut RankFile, problems: &mut Vec<Problem>) {
    let root = file.value.root();
    let mut found: Vec<(u64, String, Value<'_>)> = Vec::new();
    let mut whole = None;
    for (key, value) in root.pairs().into_iter().flatten() {
        let Some(key) = key.as_str() else { continue };
        if key == "model" {
            whole = Some(value);
        } else if let Some(number) = virtual_stage(key) {
            found.push((number, key.to_owned(), value));
        }
    }
    found.sort_by_key(|(number, ..)| *number);
    let in_order = found.iter().enumerate().all(|(index, (number, ..))| index as u64 == *number);
    match (whole, &found[..]) {
        (Some(value), []) => found = vec![(0, "model".to_owned(), value)],
        (None, []) => {
            let message = format!("it has no `model`: it holds {}", root.kind());
            problems.push(
                Problem::new(&file.path, message)
                    .help("It may be of another program than Megatron-LM."),
            );
        }
        (None, _) if in_order => {}
        _ => {
            let names: Vec<&str> = whole
                .iter()
                .map(|_| "model")
                .chain(found.iter().map(|(_, name, _)| name.as_str()))
                .collect();
            let message = format!(
                "its virtual stages are {}: `model` alone or `model0`, `model1`, … were expected",
                names.join(", ")
            );
            problems.push(Problem::new(&file.path, message));
        }
    }
    for (_, key, value) in found {
        let mut others = Vec::new();
        rank.chunks.push(weights(file, value, &mut rank.wrapped, &mut others, problems));
        // What TE keeps beside the weights is opaque, and mostly empty.
        rank.others.extend(others.into_iter().filter(|name| !name.contains("_extra_state")));
        rank.taken.push(vec![key]);
    }
}

/// The number in `model0`; some forks write `model_0`.
fn virtual_stage(key: &str) -> Option<u64> {
    let rest = key.strip_prefix("model")?;
    crate::ranks::number(rest.strip_prefix('_').unwrap_or(rest))
}
