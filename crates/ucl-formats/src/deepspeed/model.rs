//! `mp_rank_XX_model_states.pt` and `layer_LL-model_TT-model_states.pt`: weights, shapes, what the
//! run knew of itself.

use super::experts::{Stacked, stacks};
use super::unsharded::Whole;
use crate::inventory::Problem;
use crate::named::{Weight, bare, weights};
use crate::ranks::unchecked;
use crate::torch::json;
use crate::torch::{TorchFile, Value};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// Whole, or under ZeRO-3 this rank's pieces.
    pub(super) frozen: Vec<Weight>,
    pub(super) frozen_shapes: Shapes,
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
    /// `ds_config`'s `use_data_before_expert_parallelism`: consecutive ranks hold the same experts.
    pub(super) data_before_experts: bool,
    /// How many experts its mixtures have.
    pub(super) num_experts: Option<NumExperts>,
    /// The mixtures whose experts AutoEP keeps in stacks.
    pub(super) autoep: Vec<Stacked>,
    pub(super) args: Option<Map<String, Json>>,
    pub(super) universal: Option<Map<String, Json>>,
    pub(super) checkpoint_version: Option<Json>,
    /// The whole optimizer, if ZeRO is off.
    pub(super) optimizer: Option<Whole>,
    /// Whether a script put random states in.
    pub(super) random: bool,
    /// Whether names had wrapper prefixes.
    pub(super) wrapped: bool,
    /// Whether data has no checksum in the file.
    pub(super) unchecked: bool,
    /// Checksums of the file's storages, by key.
    pub(super) checksums: HashMap<String, u32>,
}

/// `num_experts`, over all ranks.
#[derive(Clone, Debug, Default)]
pub(super) struct NumExperts {
    /// By the number in the names of expert files; old releases have one number for all mixtures.
    pub(super) by_layer: BTreeMap<Option<u64>, u64>,
    /// As it is written.
    pub(super) text: String,
}

impl ModelFile {
    /// What any file tells.
    fn of(file: &TorchFile) -> ModelFile {
        let sums = file.storages.iter().filter_map(|(key, s)| Some((key.clone(), s.crc32?)));
        let checksums = sums.collect();
        ModelFile { unchecked: unchecked(file), checksums, ..ModelFile::default() }
    }

    /// Reads an `mp_rank` file.
    pub(super) fn read(file: &TorchFile, problems: &mut Vec<Problem>) -> ModelFile {
        let root = file.value.root();
        let mut model = ModelFile::of(file);
        if root.get("module").is_none() {
            problems.push(
                Problem::new(&file.path, format!("it has no `module`: it holds {}", root.kind()))
                    .help("It may be of another program than DeepSpeed's engine."),
            );
        }
        for (key, value) in root.pairs().into_iter().flatten() {
            model.entry(file, key.as_str().unwrap_or_default(), value, problems);
        }
        model.routers();
        model
    }

    /// Reads the file of one pipeline layer: a dict of the layer's own names.
    pub(super) fn read_layer(file: &TorchFile, problems: &mut Vec<Problem>) -> ModelFile {
        let mut model = ModelFile::of(file);
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
            "frozen_param_shapes" => match shapes(value, key, &mut self.wrapped) {
                Ok(shapes) => self.frozen_shapes = shapes.into_iter().flatten().flatten().collect(),
                Err(message) => problems.push(Problem::new(&file.path, message)),
            },
            "buffer_names" => {
                let names = value.items().into_iter().flatten().filter_map(|name| name.as_str());
                self.buffers = names.map(|name| bare(name, &mut self.wrapped)).collect();
            }
            "param_shapes" => match shapes(value, key, &mut self.wrapped) {
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
            "optimizer" => self.optimizer = Whole::read(file, value, problems),
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
                self.zero = zero.and_then(|zero| json::object(file, zero)).unwrap_or_default();
                let order = value.get("use_data_before_expert_parallelism");
                self.data_before_experts = order.and_then(Value::as_bool) == Some(true);
            }
            key if is_random(key) => self.random = true,
            "num_experts" => match num_experts(file, value) {
                Ok(counts) => self.num_experts = counts,
                Err(message) => problems.push(Problem::new(&file.path, message)),
            },
            "ds_autoep_layers" | "autoep_layers" if !value.is_none() => match stacks(value) {
                Ok(stacks) => self.autoep = stacks,
                Err(message) => problems.push(Problem::new(&file.path, message)),
            },
            "folding" if !value.is_none() => problems.push(
                Problem::new(
                    &file.path,
                    "this version can't read AutoEP together with AutoTP (`folding`)",
                )
                .help("DeepSpeed's own `ds_to_universal.py` refuses it too: train with one of the two."),
            ),
            "args" => self.args = json::object(file, value),
            "universal_checkpoint_info" => self.universal = json::object(file, value),
            "checkpoint_version" => self.checkpoint_version = Some(json::json(file, value)),
            _ => {}
        }
    }

    /// Over how many data ranks MiCS cuts: fewer than there are.
    pub(super) fn shard_size(&self) -> Option<u64> {
        self.zero.get("mics_shard_size").and_then(Json::as_u64).filter(|size| *size > 0)
    }

    /// Takes the stacks out, of which the module has nothing; gives the shapes back as they were recorded, those of
    /// stacks over all ranks.
    pub(super) fn unstack(&mut self) -> Option<Vec<Shapes>> {
        let stacks = std::mem::take(&mut self.autoep);
        let experts = |name: &str| Some(stacks.iter().find(|stack| stack.holds(name))?.experts);
        let mut whole = self.shapes.clone();
        for (name, shape) in whole.iter_mut().flatten().flatten() {
            if let (Some(experts), Some(first)) = (experts(name), shape.first_mut()) {
                *first = experts;
            }
        }
        for group in self.shapes.iter_mut().flatten() {
            group.retain(|(name, _)| experts(name).is_none());
        }
        whole
    }

    /// Records the second names of AutoEP's routers, which the engine does not.
    fn routers(&mut self) {
        let names: BTreeSet<&str> =
            self.weights.iter().map(|weight| weight.name.as_str()).collect();
        let original = |name: &str| {
            let mut originals = self.autoep.iter().filter_map(|stack| stack.router(name));
            originals.find(|original| names.contains(original.as_str()))
        };
        let known = |name: &str| self.shared.iter().any(|(alias, _)| alias == name);
        let second: Vec<(String, String)> = names
            .iter()
            .filter(|name| !known(name))
            .filter_map(|name| Some(((*name).to_owned(), original(name)?)))
            .collect();
        self.shared.extend(second);
    }

    /// The stack of experts that a parameter is.
    pub(super) fn stacked(&self, name: &str) -> Option<&Stacked> {
        self.autoep.iter().find(|stack| stack.holds(name))
    }

    fn module(&mut self, file: &TorchFile, value: Value<'_>, problems: &mut Vec<Problem>) {
        self.weights = weights(file, value, &mut self.wrapped, &mut self.others, problems);
    }
}

/// Whether a script's key is that of random states: Megatron-DeepSpeed's are `torch_rng_state`, `rng_tracker_states`.
pub(super) fn is_random(key: &str) -> bool {
    key.split('_').any(|part| part == "rng")
}

/// `num_experts`: a list of numbers, or in old releases one.
fn num_experts(file: &TorchFile, value: Value<'_>) -> Result<Option<NumExperts>, String> {
    if value.is_none() {
        return Ok(None);
    }
    let text = json::json(file, value).to_string();
    let counts: Option<BTreeMap<_, _>> = match value.items() {
        Some(items) => items
            .enumerate()
            .map(|(layer, count)| Some((Some(layer as u64), count.as_u64()?)))
            .collect(),
        None => value.as_u64().map(|count| BTreeMap::from([(None, count)])),
    };
    match counts {
        Some(by_layer) => Ok(Some(NumExperts { by_layer, text })),
        None => Err(format!("`num_experts` is {text}, not a list with a number for each mixture")),
    }
}

/// `param_shapes`: a list of dicts, one per parameter group; a single dict in very old files.
fn shapes(value: Value<'_>, key: &str, wrapped: &mut bool) -> Result<Option<Vec<Shapes>>, String> {
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
            .ok_or_else(|| format!("a group of `{key}` is {}, not a dict", group.kind()))?;
        let mut shapes = Shapes::with_capacity(pairs.len());
        for (name, shape) in pairs {
            let name = name.as_str().ok_or_else(|| format!("a name in `{key}` is not text"))?;
            let shape =
                shape.as_shape().ok_or_else(|| format!("`{key}` has no shape for `{name}`"))?;
            shapes.push((bare(name, wrapped), shape));
        }
        all.push(shapes);
    }
    Ok(Some(all))
}
