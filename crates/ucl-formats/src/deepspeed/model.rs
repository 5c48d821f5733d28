//! `mp_rank_XX_model_states.pt` and `layer_LL-model_TT-model_states.pt`: weights, shapes, what the
//! run knew of itself.

use super::plain;
use crate::inventory::Problem;
use crate::named::{Weight, bare, weights};
use crate::torch::{TorchFile, Value};
use serde_json::{Map, Value as Json};

/// The shapes of a parameter group in the order of its flat buffer.
pub(super) type Shapes = Vec<(String, Vec<u64>)>;

/// What is wanted of a model file.
#[derive(Debug, Default)]
pub(super) struct ModelFile {
    /// The module's tensors, nested dicts joined by dots.
    pub(super) weights: Vec<Weight>,
    /// Entries of the module that are no tensors.
    pub(super) others: Vec<String>,
    pub(super) buffers: Vec<String>,
    /// One per parameter group; nothing if ZeRO is off.
    pub(super) shapes: Option<Vec<Shapes>>,
    pub(super) frozen: Vec<Weight>,
    /// Alias to original; only the first rank knows.
    pub(super) shared: Vec<(String, String)>,
    pub(super) step: Option<u64>,
    pub(super) skipped: u64,
    pub(super) dp: Option<u64>,
    pub(super) mp: Option<u64>,
    /// Pipeline and tensor degree; old files lack them.
    pub(super) degrees: Option<(u64, u64)>,
    pub(super) version: Option<String>,
    /// `ds_config`'s `zero_optimization`.
    pub(super) zero: Map<String, Json>,
    pub(super) args: Option<Map<String, Json>>,
    pub(super) universal: Option<Map<String, Json>>,
    pub(super) checkpoint_version: Option<Json>,
    /// Whether an optimizer's own state is in here: ZeRO is off.
    pub(super) optimizer: bool,
    /// Whether names had wrapper prefixes.
    pub(super) wrapped: bool,
    /// Whether data has no checksum in the file.
    pub(super) unchecked: bool,
}

impl ModelFile {
    /// Reads an `mp_rank` file.
    pub(super) fn read(file: &TorchFile, problems: &mut Vec<Problem>) -> ModelFile {
        let root = file.value.root();
        let mut model = ModelFile { unchecked: unchecked(file), ..ModelFile::default() };
        if root.get("module").is_none() {
            problems.push(
                Problem::new(&file.path, format!("it has no `module`: it holds {}", root.kind()))
                    .help("It may be of another program than DeepSpeed's engine."),
            );
        }
        for (key, value) in root.pairs().into_iter().flatten() {
            model.entry(file, key.as_str().unwrap_or_default(), value, problems);
        }
        model
    }

    /// Reads the file of one pipeline layer: a dict of the layer's own names.
    pub(super) fn read_layer(file: &TorchFile, problems: &mut Vec<Problem>) -> ModelFile {
        let mut model = ModelFile { unchecked: unchecked(file), ..ModelFile::default() };
        model.module(file, file.value.root(), problems);
        model
    }

    fn entry(
        &mut self,
        file: &TorchFile,
        key: &str,
        value: Value<'_>,
        problems: &mut Vec<Problem>,
    ) {
        match key {
            "module" => self.module(file, value, problems),
            "frozen_param_fragments" => {
                let mut ignored = Vec::new();
                self.frozen = weights(file, value, &mut self.wrapped, &mut ignored, problems);
            }
            "buffer_names" => {
                let names = value.items().into_iter().flatten().filter_map(|name| name.as_str());
                self.buffers = names.map(|name| bare(name, &mut self.wrapped)).collect();
            }
            "param_shapes" => match shapes(value, &mut self.wrapped) {
                Ok(shapes) => self.shapes = shapes,
                Err(message) => problems.push(Problem::new(&file.path, message)),
            },
            "shared_params" => {
                for (alias, original) in value.pairs().into_iter().flatten() {
                    if let (Some(alias), Some(original)) = (alias.as_str(), original.as_str()) {
                        let (alias, original) =
                            (bare(alias, &mut self.wrapped), bare(original, &mut self.wrapped));
                        self.shared.push((alias, original));
                    }
                }
            }
            "optimizer" => self.optimizer = !value.is_none(),
            "global_steps" => self.step = value.as_u64(),
            "skipped_steps" => self.skipped = value.as_u64().unwrap_or(0),
            "dp_world_size" => self.dp = value.as_u64(),
            "mp_world_size" => self.mp = value.as_u64(),
            "checkpoint_parallel_dimensions" => {
                let degree = |name| value.get(name).and_then(Value::as_u64);
                self.degrees = degree("pp_degree").zip(degree("tp_degree"));
            }
            "ds_version" => self.version = value.as_str().map(str::to_owned),
            "ds_config" => {
                let zero = value.get("zero_optimization");
                self.zero = zero.and_then(|zero| plain::object(file, zero)).unwrap_or_default();
            }
            "args" => self.args = plain::object(file, value),
            "universal_checkpoint_info" => self.universal = plain::object(file, value),
            "checkpoint_version" => self.checkpoint_version = Some(plain::json(file, value)),
            _ => {}
        }
    }

    fn module(&mut self, file: &TorchFile, value: Value<'_>, problems: &mut Vec<Problem>) {
        self.weights = weights(file, value, &mut self.wrapped, &mut self.others, problems);
    }
}

/// Whether some data in the file has no checksum.
pub(crate) fn unchecked(file: &TorchFile) -> bool {
    file.storages.values().any(|storage| storage.len > 0 && storage.crc32.is_none())
}

/// `param_shapes`: a list of dicts, one per parameter group; a single dict in very old files.
fn shapes(value: Value<'_>, wrapped: &mut bool) -> Result<Option<Vec<Shapes>>, String> {
    if value.is_none() {
        return Ok(None);
    }
    let groups: Vec<_> = match value.as_list() {
        Some(groups) => groups.collect(),
        None => vec![value],
    };
    let mut all = Vec::with_capacity(groups.len());
    for group in groups {
        let pairs = group
            .pairs()
            .ok_or_else(|| format!("a group of `param_shapes` is {}, not a dict", group.kind()))?;
        let mut shapes = Shapes::with_capacity(pairs.len());
        for (name, shape) in pairs {
            let name = name.as_str().ok_or("a name in `param_shapes` is not text")?;
            let shape = shape
                .as_shape()
                .ok_or_else(|| format!("`param_shapes` has no shape for `{name}`"))?;
            shapes.push((bare(name, wrapped), shape));
        }
        all.push(shapes);
    }
    Ok(Some(all))
}
