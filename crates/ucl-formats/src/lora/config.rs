//! `adapter_config.json`: what the product of a pair is multiplied by, and what makes an adapter more than
//! pairs.

use super::{Convention, Pair};
use crate::huggingface::read_config;
use crate::inventory::Problem;
use serde_json::{Map, Value};
use std::path::Path;

/// Reads the config of an adapter.
///
/// # Errors
/// It can't be read.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>, Problem> {
    read_config(path)
}

/// Tells the pairs of PEFT what the config says of them. Gives why merging them would not give the
/// trained model, a sentence each.
///
/// `base_is_here` says that the weights come from the training, and not from the model that it began with.
pub(super) fn apply(
    config: &Map<String, Value>,
    pairs: &mut [Pair],
    base_is_here: bool,
) -> Vec<String> {
    let mut obstacles = obstacles(config, base_is_here);
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    let number = |key: &str| config.get(key).and_then(Value::as_f64).filter(|n| n.is_finite());
    for pair in pairs.iter_mut().filter(|pair| pair.convention == Convention::Peft) {
        let module = pair.weight.strip_suffix(".weight").unwrap_or(&pair.weight);
        let by_name = |key: &str| pattern(config.get(key), module).and_then(Value::as_f64);
        pair.alpha = by_name("alpha_pattern").or_else(|| number("lora_alpha"));
        let rank = by_name("rank_pattern").or_else(|| number("r"));
        pair.rank = rank.filter(|rank| *rank >= 0.0 && rank.fract() == 0.0).map(|rank| rank as u64);
        pair.root = flag("use_rslora");
        // An embedding is always stored as rows, and is told by its halves.
        if pair.transposed.is_none() {
            pair.transposed = Some(flag("fan_in_fan_out"));
        }
    }
    obstacles.extend(unreadable_patterns(config));
    obstacles
}

/// Keys that make an adapter more than its pairs, if they say anything.
const MORE: [(&str, &str); 8] = [
    ("use_dora", "the weights have trained magnitudes too (DoRA)"),
    ("use_qalora", "inputs are pooled before the pair (QA-LoRA)"),
    ("lora_bias", "the pairs have biases"),
    ("modules_to_save", "whole modules were trained beside the pairs"),
    ("trainable_token_indices", "rows of the embedding were trained beside the pairs"),
    ("target_parameters", "pairs belong to parameters that are no module's weight"),
    ("layer_replication", "layers are repeated"),
    ("alora_invocation_tokens", "the pairs act on some tokens only"),
];

/// Keys that are looked at, or say nothing about the trained weights.
const HARMLESS: [&str; 28] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// What of a config makes an adapter more than its pairs.
fn obstacles(config: &Map<String, Value>, base_is_here: bool) -> Vec<String> {
    let mut found = Vec::new();
    let said = |key: &str| config.get(key).filter(|value| !empty(value));
    match config.get("peft_type").and_then(Value::as_str) {
        Some(kind) if kind.eq_ignore_ascii_case("lora") => {}
        Some(kind) => found.push(format!("adapter_config.json says peft_type {kind:?}, not LORA")),
        None => found.push("adapter_config.json says no peft_type".to_owned()),
    }
    for (key, value) in config.iter().filter(|(_, value)| !empty(value)) {
        let more = MORE.iter().find(|(known, _)| known == key);
        match more {
            Some((_, what)) => {
                found.push(format!("adapter_config.json says {key} {value}: {what}"));
            }
            None if HARMLESS.contains(&key.as_str()) => {}
            None => found.push(format!(
                "adapter_config.json says {key} {value}, which this version does not know"
            )),
        }
    }
    if let Some(bias) = said("bias").filter(|bias| bias.as_str() != Some("none")) {
        found.push(format!(
            "adapter_config.json says bias {bias}: the model's biases were trained too"
        ));
    }
    // Some ways to begin take the pairs' first product off the weights.
    let keeps = |way: &Value| {
        way.is_boolean() || matches!(way.as_str(), Some("gaussian" | "eva" | "orthogonal"))
    };
    if let Some(way) = config.get("init_lora_weights").filter(|way| !keeps(way))
        && !base_is_here
        && !way.is_null()
    {
        found.push(format!(
            "adapter_config.json says init_lora_weights {way}: the weights may have been changed before the training"
        ));
    }
    found
}

/// What says nothing.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// The value of the first key that is the module's name or its end, from a dot on.
fn pattern<'v>(patterns: Option<&'v Value>, module: &str) -> Option<&'v Value> {
    let patterns = patterns?.as_object()?;
    let fits = |key: &str| {
        let key = key.strip_prefix('^').unwrap_or(key);
        module.strip_suffix(key).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    patterns.iter().find(|(key, _)| fits(key)).map(|(_, value)| value)
}

/// Keys of patterns that are more than a part of a name.
fn unreadable_patterns(config: &Map<String, Value>) -> Vec<String> {
    let plain = |key: &str| {
        key.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
    };
    let patterns = ["rank_pattern", "alpha_pattern"].into_iter();
    let keys = patterns.flat_map(|name| {
        let patterns = config.get(name).and_then(Value::as_object);
        patterns.into_iter().flatten().map(move |(key, value)| (name, key, value))
    });
    keys.filter(|(_, key, value)| !plain(key) || !value.is_number())
        .map(|(name, key, value)| {
            format!("adapter_config.json has the {name} {key:?}: {value}, which is no part of a name with a number")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pair(weight: &str) -> Pair {
        Pair {
            weight: weight.to_owned(),
            down: "a".to_owned(),
            up: "b".to_owned(),
            convention: Convention::Peft,
            alpha: None,
            root: false,
            rank: None,
            transposed: None,
        }
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn patterns_are_ends_of_names() {
        let config = object(json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true,
            "rank_pattern": {"1.q_proj": 2}, "alpha_pattern": {"q_proj": 3},
        }));
        let mut pairs =
            ["layers.1.q_proj.weight", "layers.11.q_proj.weight", "layers.1.xq_proj.weight"]
                .map(pair);
        assert!(apply(&config, &mut pairs, false).is_empty());
        let found = pairs.map(|pair| (pair.rank, pair.alpha, pair.root));
        let of = |rank, alpha| (Some(rank), Some(alpha), true);
        assert_eq!(found, [of(2, 3.0), of(4, 3.0), of(4, 8.0)]);
    }

    #[test]
    fn what_is_more_than_pairs_is_an_obstacle() {
        for (more, told) in [
            (json!({"peft_type": "VERA"}), "VERA"),
            (json!({}), "no peft_type"),
            (json!({"peft_type": "LORA", "use_dora": true}), "DoRA"),
            (json!({"peft_type": "LORA", "bias": "all"}), "bias \"all\""),
            (json!({"peft_type": "LORA", "modules_to_save": ["lm_head"]}), "lm_head"),
            (json!({"peft_type": "LORA", "init_lora_weights": "pissa"}), "pissa"),
            (json!({"peft_type": "LORA", "use_bdlora": true}), "use_bdlora"),
            (json!({"peft_type": "LORA", "rank_pattern": {"^a(b|c)": 2}}), "rank_pattern"),
        ] {
            let found = apply(&object(more), &mut [], false);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(told), "{found:?}");
        }
        let harmless = json!({"peft_type": "LORA", "bias": "none", "modules_to_save": null,
            "use_dora": false, "init_lora_weights": true, "layer_replication": null});
        assert!(apply(&object(harmless), &mut [], false).is_empty());
    }
}
