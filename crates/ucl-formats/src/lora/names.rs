//! What a name says: a half of a pair, something else of an adapter, or the model's own.

use super::Convention;

/// What PEFT puts in front of all names.
pub(super) const WRAPPED: &str = "base_model.model.";

/// What a tensor is by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// The model's own, under this name.
    Own(String),
    /// One of a pair.
    Half(Half),
    /// An adapter's, and no half of a pair.
    Other,
}

/// A half of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Half {
    /// The module that it belongs to.
    pub(super) module: String,
    /// The adapter's name; empty where there is none in the name.
    pub(super) adapter: String,
    /// Whether it meets the input.
    pub(super) down: bool,
    pub(super) convention: Convention,
    /// Whether it is an embedding's.
    pub(super) embedding: bool,
}

/// Reads a name that [`bare`] took the wrapper off.
pub(super) fn named(name: &str) -> Named {
    let parts: Vec<&str> = name.split('.').collect();
    let Some(at) = parts.iter().rposition(|part| part.starts_with("lora_")) else {
        return own(&parts);
    };
    let (convention, down, embedding) = match parts[at] {
        "lora_right_weight" => (Convention::DeepspeedChat, true, false),
        "lora_left_weight" => (Convention::DeepspeedChat, false, false),
        "lora_A" => (Convention::Peft, true, false),
        "lora_B" => (Convention::Peft, false, false),
        "lora_embedding_A" => (Convention::Peft, true, true),
        "lora_embedding_B" => (Convention::Peft, false, true),
        _ => return Named::Other,
    };
    let adapter = match (convention, embedding, &parts[at + 1..]) {
        (Convention::DeepspeedChat, _, []) | (_, true, []) | (_, false, ["weight"]) => "",
        (Convention::Peft, true, [adapter]) | (Convention::Peft, false, [adapter, "weight"]) => {
            adapter
        }
        _ => return Named::Other,
    };
    let module = parts[..at].join(".");
    Named::Half(Half { module, adapter: adapter.to_owned(), down, convention, embedding })
}

/// A name without a pair in it: PEFT calls the layer that it wraps `base_layer`, and the module of
/// which it trains a copy `original_module`.
fn own(parts: &[&str]) -> Named {
    if parts.contains(&"modules_to_save") || parts.contains(&"token_adapter") {
        return Named::Other;
    }
    let wrapper = |part: &&&str| !matches!(**part, "base_layer" | "original_module");
    Named::Own(parts.iter().filter(wrapper).copied().collect::<Vec<_>>().join("."))
}

/// A name without what PEFT puts in front of it.
pub(super) fn bare(name: &str) -> &str {
    name.strip_prefix(WRAPPED).unwrap_or(name)
}

/// Whether a name is that of a half of a low-rank pair, wrapped or not.
pub fn is_half(name: &str) -> bool {
    matches!(named(bare(name)), Named::Half(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_told_by_their_last_parts() {
        let half = |name: &str| match named(name) {
            Named::Half(half) => (half.module, half.adapter, half.down, half.embedding),
            other => panic!("{name}: {other:?}"),
        };
        let module = "layers.0.q_proj".to_owned();
        let of =
            |adapter: &str, down, embedding| (module.clone(), adapter.to_owned(), down, embedding);
        assert_eq!(half("layers.0.q_proj.lora_right_weight"), of("", true, false));
        assert_eq!(half("layers.0.q_proj.lora_left_weight"), of("", false, false));
        assert_eq!(half("layers.0.q_proj.lora_A.weight"), of("", true, false));
        assert_eq!(half("layers.0.q_proj.lora_B.default.weight"), of("default", false, false));
        assert_eq!(half("layers.0.q_proj.lora_embedding_A"), of("", true, true));
        assert_eq!(half("layers.0.q_proj.lora_embedding_B.x"), of("x", false, true));
    }

    #[test]
    fn other_names_are_an_adapters_or_the_models() {
        for name in [
            "layers.0.q_proj.lora_magnitude_vector.default.weight",
            "layers.0.q_proj.lora_B.default.bias",
            "layers.0.q_proj.lora_A.default.more.weight",
            "lm_head.modules_to_save.default.weight",
        ] {
            assert_eq!(named(name), Named::Other, "{name}");
        }
        let own = |name: &str| Named::Own(name.to_owned());
        assert_eq!(named("layers.0.q_proj.base_layer.weight"), own("layers.0.q_proj.weight"));
        assert_eq!(named("lm_head.original_module.weight"), own("lm_head.weight"));
        assert_eq!(named("layers.0.q_proj.bias"), own("layers.0.q_proj.bias"));
        assert_eq!(bare("base_model.model.lm_head.weight"), "lm_head.weight");
    }
}
