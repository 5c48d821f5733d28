//! Megatron-DeepSpeed's arguments: they say the mesh, and have to say that of what is written.

use super::Source;
use super::size;
use crate::deepspeed::story::{MEGATRONS, PATTERNS};
use crate::target::{Draft, Run};
use crate::torch::{NodeId, Value};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

/// Where Megatron's arguments stand in a model file.
const ARGS: &str = "args";

/// Of which version of Megatron's layouts they are.
const VERSION: &str = "checkpoint_version";

/// What a run says of itself to the converters.
const INFO: &str = "universal_checkpoint_info";

/// Makes the arguments that go along fit the mesh, or makes those that a reader needs where none do.
pub(super) fn fit(draft: &mut Draft, run: &Run<'_>, entries: &mut IndexMap<String, NodeId>) {
    let (tp, pp, dp) = (size(run, "tp"), size(run, "pp"), size(run, "dp"));
    let mut said = Map::new();
    let numbers = [
        ("tensor_model_parallel_size", Some(tp)),
        ("pipeline_model_parallel_size", Some(pp)),
        ("data_parallel_size", Some(dp)),
        ("world_size", Some(tp * pp * dp)),
        ("padded_vocab_size", run.padded_vocab),
    ];
    said.extend(numbers.into_iter().filter_map(|(key, n)| Some((key.to_owned(), n?.into()))));
    if !run.keeps_args {
        for key in foreign(|key| entries.get(key).map(|node| draft.pickle.value(*node))) {
            entries.shift_remove(key);
        }
    }
    match (entries.get(ARGS).copied(), &run.args) {
        (Some(args), _) => draft.set(args, &said),
        (None, Some(args)) => {
            let mut args = args.clone();
            args.extend(said.clone());
            made(draft, run, &args, entries);
        }
        (None, None) => {}
    }
    let Some(info) = entries.get(INFO).copied() else { return };
    let own = run.source.universal.as_ref().map_or(&run.source.mesh, |made| &made.source.mesh);
    if draft.pickle.value(info).get("padded_vocab_size").is_some() {
        said.retain(|key, _| key == "padded_vocab_size");
        draft.set(info, &said);
    } else if own.get("tp").copied().unwrap_or(1) != tp {
        // It tells how the source's own ranks were cut.
        entries.shift_remove(INFO);
    }
}

/// What is Megatron's own among the entries of a model file: by the same signs as when it is read.
fn foreign<'v>(entry: impl Fn(&str) -> Option<Value<'v>>) -> Vec<&'static str> {
    let has = |of: &str, key: &str| {
        let attribute = |of: Value<'v>| of.get(key).or_else(|| of.state()?.get(key));
        entry(of).and_then(attribute).is_some()
    };
    let args = MEGATRONS.iter().all(|key| has(ARGS, key));
    let info = has(INFO, PATTERNS.0) && !has(INFO, PATTERNS.1);
    let found = [(ARGS, args), (VERSION, args), (INFO, info)];
    found.into_iter().filter(|(_, found)| *found).map(|(key, _)| key).collect()
}

/// What is said of Megatron's arguments where they do not go along.
pub(super) fn left_out(run: &Run<'_>, source: &Source) -> Option<String> {
    let file = source.model(0).filter(|_| !run.keeps_args)?;
    let found = foreign(|key| file.value.root().get(key));
    (!found.is_empty()).then(|| {
        format!(
            "{} of Megatron's, which are of its names: these are another view's",
            found.join(", ")
        )
    })
}

/// The entries of a run that had no arguments.
fn made(
    draft: &mut Draft,
    run: &Run<'_>,
    args: &Map<String, Json>,
    entries: &mut IndexMap<String, NodeId>,
) {
    let attributes: Vec<(String, NodeId)> =
        args.iter().map(|(key, value)| (key.clone(), draft.json(value))).collect();
    entries.insert(ARGS.to_owned(), draft.namespace(attributes));
    let sizes = ["original_vocab_size", "padded_vocab_size"];
    let sizes = sizes.into_iter().filter_map(|key| Some((key.to_owned(), args.get(key)?.clone())));
    let mut info: Map<String, Json> = sizes.collect();
    info.insert("universal_checkpoint_version".to_owned(), json!(0.2));
    let made = json!({
        VERSION: 3.0, "iteration": run.step.unwrap_or(0), INFO: info,
    });
    for (key, value) in made.as_object().into_iter().flatten() {
        let node = draft.json(value);
        entries.insert(key.clone(), node);
    }
}
