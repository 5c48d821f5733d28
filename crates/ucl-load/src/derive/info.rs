//! `universal_checkpoint_info` as data: what DeepSpeed's engine and Megatron-DeepSpeed write into a
//! checkpoint so that their own converter can merge tensor ranks.

use super::pattern::Patterns;
use serde_json::{Map, Value};

/// The latest version that is known. Since 0.4 the widths of sub-parameters are recorded.
const LATEST: f64 = 0.4;
/// The latest version of affine maps that is known.
const LATEST_MAP: f64 = 1.0;

/// What a checkpoint says of how its tensor ranks fit together.
#[derive(Debug, Default)]
pub(super) struct Info {
    pub(super) version: f64,
    pub(super) vocab: Option<u64>,
    pub(super) vocabulary: Patterns,
    /// Of these the first pipeline stage's copy counts.
    pub(super) first_stage: Patterns,
    pub(super) replicated: Patterns,
    pub(super) average: Patterns,
    pub(super) rows: Patterns,
    pub(super) halves: Patterns,
    pub(super) subs: Vec<SubParams>,
    pub(super) affine: Patterns,
    /// For each pattern of `affine` its map.
    pub(super) maps: Vec<Value>,
    pub(super) unsupported: Patterns,
    /// For each pattern of `unsupported` the reason.
    pub(super) reasons: Vec<String>,
}

/// A fused parameter whose parts are cut one by one.
#[derive(Debug)]
pub(super) struct SubParams {
    pub(super) patterns: Patterns,
    /// The logical shape without what lies at `dim`; `None` is what follows from the rest.
    pub(super) shape: Vec<Option<u64>>,
    /// The logical dim that is cut.
    pub(super) dim: usize,
    pub(super) parts: Parts,
    /// For each pattern, for each part, its width on each rank.
    pub(super) widths: Vec<Option<Vec<Vec<u64>>>>,
}

/// What a cut dim of a fused parameter is made of.
#[derive(Clone, Debug)]
pub(super) enum Parts {
    /// So many of one size.
    Equal(u64),
    /// Their sizes.
    Sizes(Vec<u64>),
}

impl Info {
    /// Reads the dict.
    ///
    /// # Errors
    /// Everything in it that cannot be read, a sentence each.
    pub(super) fn read(info: &Map<String, Value>) -> Result<Info, Vec<String>> {
        let mut wrong = Vec::new();
        let version = match info.get("universal_checkpoint_version") {
            None | Some(Value::Null) => 0.0,
            Some(value) => value.as_f64().unwrap_or_else(|| {
                wrong.push(format!("`universal_checkpoint_version` is {value}, not a number"));
                0.0
            }),
        };
        if version > LATEST {
            return Err(vec![format!(
                "`universal_checkpoint_version` is {version}, and only versions up to {LATEST} are known"
            )]);
        }
        let mut read = Info { version, ..Info::default() };
        let mut list = |key: &str| {
            let mut patterns = Patterns::default();
            match info.get(key) {
                None | Some(Value::Null) => {}
                Some(value) => compile(key, value, &mut patterns, &mut wrong),
            }
            patterns
        };
        read.vocabulary = list("vocabulary_parameter_patterns");
        read.replicated = list("tp_replicated_parameter_patterns");
        read.average = list("parameter_to_average_patterns");
        read.rows = list("parameter_with_row_parallelism_patterns");
        read.halves = list("parameter_with_2_sub_params_cat_dim_0");
        read.first_stage = list("pipeline_replicated_parameter_patterns");
        match info.get("original_vocab_size") {
            None | Some(Value::Null) => {}
            Some(value) => match value.as_u64().filter(|size| *size > 0) {
                Some(size) => read.vocab = Some(size),
                None => wrong.push(format!("`original_vocab_size` is {value}, not a size")),
            },
        }
        read.subs(info, &mut wrong);
        read.maps(info, &mut wrong);
        for (pattern, reason) in entries(info, "autotp_unsupported_parameter_patterns", &mut wrong)
        {
            add(
                "autotp_unsupported_parameter_patterns",
                pattern,
                &mut read.unsupported,
                &mut wrong,
            );
            read.reasons.push(reason.as_str().map_or_else(|| reason.to_string(), str::to_owned));
        }
        if wrong.is_empty() { Ok(read) } else { Err(wrong) }
    }

    fn subs(&mut self, info: &Map<String, Value>, wrong: &mut Vec<String>) {
        const KEY: &str = "parameter_with_sub_params";
        let listed = match info.get(KEY) {
            None | Some(Value::Null) => return,
            Some(Value::Array(listed)) => listed,
            Some(other) => return wrong.push(format!("`{KEY}` is {other}, not a list")),
        };
        let widths = entries(info, "sub_param_shard_widths", wrong);
        for entry in listed {
            let mut patterns = Patterns::default();
            compile(KEY, entry.get("patterns").unwrap_or(&Value::Null), &mut patterns, wrong);
            let Some((shape, dim, parts)) = sub_shape(entry) else {
                wrong.push(format!(
                    "`{KEY}` has an entry whose `shape` and `partition_dim` do not fit together: {entry}"
                ));
                continue;
            };
            let of_pattern = |number: usize| {
                let text = patterns.text(number);
                let found = widths.iter().find(|(pattern, _)| *pattern == text)?;
                found.1.as_array()?.iter().map(sizes).collect::<Option<Vec<_>>>()
            };
            let widths = (0..patterns.len()).map(of_pattern).collect();
            self.subs.push(SubParams { patterns, shape, dim, parts, widths });
        }
    }

    fn maps(&mut self, info: &Map<String, Value>, wrong: &mut Vec<String>) {
        const KEY: &str = "affine_map";
        let map = match info.get(KEY) {
            None | Some(Value::Null) => return,
            Some(Value::Object(map)) => map,
            Some(other) => return wrong.push(format!("`{KEY}` is {other}, not a dict")),
        };
        let version = map.get("version").and_then(Value::as_f64).unwrap_or(LATEST_MAP);
        if version > LATEST_MAP {
            wrong.push(format!(
                "`{KEY}` is of version {version}, and only versions up to {LATEST_MAP} are known"
            ));
            return;
        }
        for (pattern, entry) in entries(map, "params", wrong) {
            add(KEY, pattern, &mut self.affine, wrong);
            self.maps.push(entry.clone());
        }
    }
}

/// The entries of a dict under a key.
fn entries<'a>(
    info: &'a Map<String, Value>,
    key: &str,
    wrong: &mut Vec<String>,
) -> Vec<(&'a str, &'a Value)> {
    match info.get(key) {
        None | Some(Value::Null) => Vec::new(),
        // An empty one may be a list.
        Some(Value::Array(none)) if none.is_empty() => Vec::new(),
        Some(Value::Object(map)) => map.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        Some(other) => {
            wrong.push(format!("`{key}` is {other}, not a dict"));
            Vec::new()
        }
    }
}

fn compile(key: &str, value: &Value, patterns: &mut Patterns, wrong: &mut Vec<String>) {
    let Some(texts) = value.as_array() else {
        return wrong.push(format!("`{key}` has {value} where a list of patterns belongs"));
    };
    for text in texts {
        match text.as_str() {
            Some(text) => add(key, text, patterns, wrong),
            None => wrong.push(format!("`{key}` holds {text}, which is no pattern")),
        }
    }
}

fn add(key: &str, text: &str, patterns: &mut Patterns, wrong: &mut Vec<String>) {
    if let Err(error) = patterns.add(text) {
        wrong.push(format!("`{key}`: the pattern {text:?} can't be used: {error}"));
        // Its number stays taken, so that what stands beside it keeps its own.
        let _ = patterns.add("^$");
    }
}

/// The logical shape, the dim that is cut, and its parts.
fn sub_shape(entry: &Value) -> Option<(Vec<Option<u64>>, usize, Parts)> {
    let shape = entry.get("shape")?.as_array()?;
    let dim = usize::try_from(entry.get("partition_dim")?.as_u64()?).ok()?;
    let parts = match shape.get(dim)? {
        Value::Array(_) => Parts::Sizes(sizes(shape.get(dim)?).filter(|sizes| !sizes.is_empty())?),
        value => Parts::Equal(value.as_u64().filter(|count| (1..=MOST_PARTS).contains(count))?),
    };
    let other = |value: &Value| match value {
        Value::Null => Some(None),
        Value::Array(_) => {
            Some(Some(sizes(value)?.iter().try_fold(0, |a: u64, b| a.checked_add(*b))?))
        }
        value if value.as_i64() == Some(-1) => Some(None),
        value => Some(Some(value.as_u64()?)),
    };
    let shape: Vec<Option<u64>> = shape.iter().map(other).collect::<Option<_>>()?;
    let open = shape.iter().enumerate().filter(|(at, size)| *at != dim && size.is_none());
    (open.count() <= 1).then_some((shape, dim, parts))
}

/// No parameter is fused of more.
const MOST_PARTS: u64 = 4096;

/// A list of sizes.
pub(super) fn sizes(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(Value::as_u64).collect()
}
