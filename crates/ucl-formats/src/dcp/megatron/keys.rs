//! What Megatron-core calls the entries of a folder.

/// An entry's name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// A tensor of the model.
    Model(&'a str),
    /// A state of a tensor of the model: the state, the tensor.
    State(&'a str, &'a str),
    /// A buffer of the distributed optimizer, which has no names of parameters.
    Bucket(&'a str),
    /// What a layer of Transformer Engine keeps beside its weights: scaling factors of fp8.
    Extra,
    /// Anything else.
    Other(&'a str),
}

/// States of the optimizer by parameter.
const STATE: &str = "optimizer.state.";

/// Flat buffers of the distributed optimizer.
const BUCKET: &str = "optimizer.distributed.";

/// Takes a name apart. Several optimizers may put `chained_{i}.` in front of theirs.
pub(super) fn key(name: &str) -> Key<'_> {
    let own = without_chain(name);
    if let Some(rest) = own.strip_prefix(STATE) {
        return match rest.split_once('.') {
            // The two optimizers call the master copy differently.
            Some(("fp32_param" | "param", tensor)) => Key::State("fp32", tensor),
            Some((state, tensor)) => Key::State(state, tensor),
            None => Key::Other(name),
        };
    }
    if own.starts_with(BUCKET) {
        return Key::Bucket(own);
    }
    if own.len() != name.len() || own.starts_with("optimizer.") || name.starts_with("rng_state") {
        return Key::Other(name);
    }
    if name.contains("._extra_state") {
        return Key::Extra;
    }
    Key::Model(name)
}

fn without_chain(name: &str) -> &str {
    let Some(rest) = name.strip_prefix("chained_") else { return name };
    match rest.split_once('.') {
        Some((number, rest)) if number.parse::<u32>().is_ok() => rest,
        _ => name,
    }
}

/// The name of an object without the shard's place: `rng_state/shard_0.1_2.4` is a part of `rng_state`.
pub(super) fn object(name: &str) -> &str {
    name.split_once("/shard_").map_or(name, |(key, _)| key)
}

/// Objects that are spoken of elsewhere.
pub(super) fn is_known_object(name: &str) -> bool {
    name == super::common::COMMON_STATE || matches!(key(name), Key::Bucket(_))
}

#[cfg(test)]
mod tests {
    use super::{Key, key, object};

    #[test]
    fn names() {
        assert_eq!(
            key("decoder.final_layernorm.weight"),
            Key::Model("decoder.final_layernorm.weight")
        );
        assert_eq!(key("optimizer.state.exp_avg.a.b"), Key::State("exp_avg", "a.b"));
        assert_eq!(key("optimizer.state.fp32_param.a.b"), Key::State("fp32", "a.b"));
        assert_eq!(key("chained_1.optimizer.state.param.a.b"), Key::State("fp32", "a.b"));
        assert_eq!(key("chained_x.a"), Key::Model("chained_x.a"));
        let bucket = "optimizer.distributed.dp_group_idx_0.gbuf_idx_0.dtype_x.bucket_idx_0.param";
        assert_eq!(key(bucket), Key::Bucket(bucket));
        assert_eq!(key("optimizer.state.exp_avg"), Key::Other("optimizer.state.exp_avg"));
        assert_eq!(key("decoder.layers.mlp.linear_fc1._extra_state"), Key::Extra);
        assert_eq!(object("rng_state/shard_0.1_2.4"), "rng_state");
    }
}
