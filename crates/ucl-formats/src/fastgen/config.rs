//! `ds_model_config.pkl`: the model's config as an object of transformers.
//!
//! FastGen pickles the object, whose class and attributes change with the version of transformers. Here
//! the pickle says how transformers itself makes one of the values of `config.json`:
//! `CONFIG_MAPPING[model_type].from_dict(values)`. Any version that knows the type reads it.

use crate::huggingface::torch_name;
use crate::target::{Draft, Run, RunFile, WriteError};
use crate::torch::{Made, Node, Object, emit};
use serde_json::{Map, Value};
use ucl_tensor::DType;

const FILE: &str = "ds_model_config.pkl";

/// The config that it is made of.
pub(super) const NAME: &str = "config.json";

/// The file, and what it says otherwise than the source's config, a sentence each.
pub(super) fn file(run: &Run<'_>, dtype: DType) -> Result<(RunFile, Vec<String>), WriteError> {
    let config = run.source.documents.get("config").ok_or_else(|| missing("there is none"))?;
    let model_type = config.get("model_type").and_then(Value::as_str);
    let model_type = model_type.ok_or_else(|| missing("it says no `model_type`"))?;
    let values = values(config, dtype, run.positions)?;
    let changed = values.iter().filter_map(|(key, value)| match config.get(key) {
        Some(was) if was == value => None,
        Some(was) => Some(format!("{FILE}: `{key}` is {value}, in {NAME} it is {was}")),
        None => Some(format!("{FILE}: `{key}` is {value}, {NAME} does not say it")),
    });
    let changed = changed.collect();
    let mut draft = Draft::default();
    let values = draft.json(&Value::Object(values));
    let pickle = &mut draft.pickle;
    let known = pickle.global("transformers", "CONFIG_MAPPING");
    let (model_type, maker) = (pickle.str(model_type), pickle.str("from_dict"));
    let class = pickle.call("operator", "getitem", &[known, model_type]);
    let maker = pickle.call("builtins", "getattr", &[class, maker]);
    let arguments = pickle.tuple(&[values]);
    let made = Object::new(maker, arguments, Made::Call);
    let root = pickle.push(Node::Object(Box::new(made)));
    pickle.set_root(root);
    Ok((RunFile::text(FILE, emit(&draft.pickle)?), changed))
}

/// What the object is made of: FastGen computes in the type that the config says, and adds the length
/// of a sequence under a name of its own when it reads a folder of Hugging Face's.
fn values(
    config: &Map<String, Value>,
    dtype: DType,
    positions: Option<u64>,
) -> Result<Map<String, Value>, WriteError> {
    const LENGTH: &str = "max_seq_length";
    let mut values = config.clone();
    let said = ["dtype", "torch_dtype"].into_iter().filter(|key| config.contains_key(*key));
    let mut said: Vec<&str> = said.collect();
    if said.is_empty() {
        said.push("torch_dtype");
    }
    for key in said {
        values.insert(key.to_owned(), torch_name(dtype).into());
    }
    if !values.contains_key(LENGTH) {
        let length = config.get("max_position_embeddings").cloned();
        let length = length.or_else(|| positions.map(Value::from));
        let length = length.ok_or_else(|| missing("it says no `max_position_embeddings`"))?;
        values.insert(LENGTH.to_owned(), length);
    }
    Ok(values)
}

fn missing(what: &str) -> WriteError {
    WriteError::refused(
        format!("FastGen needs the model's {NAME}, and {what}"),
        "--config DIR takes it from the folder of the model that was trained; or write `--to hf`, which FastGen loads too",
    )
}
