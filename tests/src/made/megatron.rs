//! Writes what Megatron-LM saves in its `torch` format, by the simplest loops: the test's own idea of the
//! format, to hold the reader's against.

use super::pt::Pt;
use super::run::STATES;
use super::whole::{Cut, Whole, expected};
use crate::oracle::Tensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use ucl_formats::torch::NodeId;
use ucl_tensor::DType;

/// How tensors are called and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Megatron-core with Transformer Engine.
    Engine,
    /// Megatron-core with its own layers.
    Local,
    /// Megatron-core's experts in one tensor, whose header shows another order than the bytes have.
    Gemm,
    /// Megatron-core's experts with a number at the end of the name.
    Grouped,
    /// Before Megatron-core: nested dicts.
    Legacy,
    /// The same before attention was called `self_attention`, and the stack `encoder`.
    Oldest,
}

/// A model, a mesh, and how it was saved.
#[derive(Clone, Debug)]
pub struct Mlm {
    /// Spelling.
    pub names: Names,
    /// Layers of each chunk: by virtual stage, then stage.
    pub layers: Vec<Vec<usize>>,
    /// Tensor ranks.
    pub tp: usize,
    /// Expert ranks.
    pub ep: usize,
    /// Tensor ranks of experts.
    pub etp: usize,
    /// Experts; none for a dense model.
    pub experts: usize,
    /// A GPT: biases, learned positions, no gate, tied embeddings.
    pub gpt: bool,
    /// Weights in bf16 with masters beside them, or in fp32 without.
    pub half: bool,
    /// `checkpoint_version`.
    pub version: Option<f64>,
    /// Whether the second expert rank's final norm is another than the first's.
    pub drift: bool,
    /// Whether matrices are in two groups that nothing tells apart.
    pub foreign: bool,
    /// Whether states are those of the distributed optimizer, in flat buffers.
    pub distributed: bool,
    /// Whether rotary pairs are neighbours; heads are then of more than one pair.
    pub interleaved: bool,
    /// Whether the two largest tensors of a buffer are in each other's place.
    pub swapped: bool,
    /// More arguments, or others.
    pub args: Value,
}

/// Width, heads, key heads, rows per head, feed-forward, vocabulary, positions.
const SIZES: [usize; 7] = [6, 8, 4, 2, 12, 13, 5];
/// The table's rows are a multiple of this times tp.
const MULTIPLE: usize = 2;

impl Default for Mlm {
    fn default() -> Mlm {
        Mlm {
            names: Names::Local,
            layers: vec![vec![2]],
            tp: 1,
            ep: 1,
            etp: 1,
            experts: 0,
            gpt: false,
            half: true,
            version: Some(3.0),
            drift: false,
            foreign: false,
            distributed: false,
            interleaved: false,
            swapped: false,
            args: json!({}),
        }
    }
}

/// Adds a parameter: its name; layer, expert, and whether it is of the first stage; rows; columns; its cut.
type Add<'a> =
    dyn FnMut(&str, (Option<usize>, Option<usize>, bool), usize, Option<usize>, Cut) + 'a;

/// A tensor and where it lies.
struct Placed {
    whole: Whole,
    /// Its layer by global number.
    layer: Option<usize>,
    /// Its expert by global number.
    expert: Option<usize>,
    first: bool,
}

impl Mlm {
    fn sizes(&self) -> [usize; 7] {
        let [h, n, k, d, f, v, c] = SIZES;
        [h, n, k, if self.interleaved { 3 * d } else { d }, f, v, c]
    }

    fn is_legacy(&self) -> bool {
        matches!(self.names, Names::Legacy | Names::Oldest)
    }

    /// Stages.
    pub fn pp(&self) -> usize {
        self.layers[0].len()
    }

    fn total(&self) -> usize {
        self.layers.iter().flatten().sum()
    }

    /// Writes a step's folder.
    pub fn write(&self, folder: &Path) {
        let stage_ranks = (self.etp * self.ep).max(self.tp);
        for stage in 0..self.pp() {
            for index in 0..stage_ranks {
                let (t, x) = (index % self.tp, index / self.etp % self.ep);
                self.write_rank(folder, [stage, t, x, index % self.etp], index);
            }
        }
    }

    fn write_rank(&self, folder: &Path, [stage, t, x, et]: [usize; 4], index: usize) {
        let mut name = format!("mp_rank_{t:02}");
        for (size, number) in [(self.pp(), stage), (self.ep, x)] {
            if size > 1 {
                name += &format!("_{number:03}");
            }
        }
        let mut pt = Pt::default();
        let mut args = self.arguments();
        let stage_ranks = (self.etp * self.ep).max(self.tp);
        args["rank"] = json!(stage * stage_ranks + index);
        args["world_size"] = json!(self.pp() * stage_ranks);
        for (key, value) in self.args.as_object().expect("a dict") {
            args[key] = value.clone();
        }
        let attrs = args.as_object().expect("a dict").iter().map(|(key, value)| {
            let value = pt.json(value);
            (pt.pickle.str(key), value)
        });
        let attrs = attrs.collect();
        let mut entries = vec![("args", pt.pickle.namespace(attrs))];
        if let Some(version) = self.version {
            entries.push(("checkpoint_version", pt.pickle.float(version)));
        }
        entries.push(("iteration", pt.pickle.int(7)));
        let tensors = self.tensors();
        let mut chunks: Vec<Vec<Piece>> = Vec::new();
        let keys: Vec<String> = (0..self.layers.len()).map(|u| format!("model{u}")).collect();
        for (chunk, key) in keys.iter().enumerate() {
            let held = self.chunk(&tensors, [chunk, stage, t, x, et]);
            let model = self.module(&mut pt, &held);
            entries.push((if keys.len() > 1 { key.as_str() } else { "model" }, model));
            chunks.push(held);
        }
        entries.push(("optimizer", self.optimizer(&mut pt, &chunks)));
        let root = pt.dict(entries);
        fs::create_dir_all(folder.join(&name)).expect("a folder");
        pt.save(root, &folder.join(&name).join("model_optim_rng.pt"));
        if self.distributed {
            self.write_buffers(
                &folder.join(&name).join("distrib_optim.pt"),
                &chunks,
                index < self.tp,
            );
        }
    }

    /// Dense parameters and experts' have optimizers of their own where experts are spread.
    fn optimizers(&self) -> &'static [Option<bool>] {
        let apart = self.ep > 1 || self.etp != self.tp;
        if apart { &[Some(false), Some(true)] } else { &[None] }
    }

    /// The states of all data ranks together; those of dense parameters only where a rank is the first
    /// of these.
    fn write_buffers(&self, path: &Path, chunks: &[Vec<Piece>], dense: bool) {
        let mut pt = Pt::default();
        let mut parts = Vec::new();
        for expert in self.optimizers() {
            if *expert == Some(false) && !dense {
                parts.push(pt.pickle.none());
                continue;
            }
            let mut pairs = vec![(pt.pickle.str("buckets_coalesced"), pt.pickle.bool(true))];
            let of = |chunk: &'_ Vec<Piece>| -> Vec<usize> {
                let wanted = |index: &usize| expert.is_none_or(|e| chunk[*index].expert == e);
                (0..chunk.len()).filter(wanted).collect()
            };
            let held =
                chunks.iter().map(|chunk| (chunk, of(chunk))).filter(|(_, of)| !of.is_empty());
            for (number, (chunk, of)) in held.enumerate() {
                let mut entries = Vec::new();
                let mut len = 0;
                for (state, name) in ["param", "exp_avg", "exp_avg_sq"].iter().enumerate() {
                    let values = self.buffer(chunk, &of, state);
                    len = values.len() as i64;
                    entries.push((*name, pt.floats(&[values.len() as u64], &values)));
                }
                entries.push(("numel_unpadded", pt.pickle.int(len)));
                let states = pt.dict(entries);
                let types = [DType::BF16, DType::F32].map(|t| pt.pickle.dtype(t).expect("a type"));
                let types = (pt.pickle.tuple(&types), states);
                let types = pt.pickle.dict(vec![types]);
                pairs.push((pt.pickle.int(number as i64), types));
            }
            parts.push(pt.pickle.dict(pairs));
        }
        let root = if parts.len() == 1 { parts[0] } else { pt.pickle.list(parts) };
        pt.save(root, path);
    }

    /// From the last parameter to the first, each at a multiple of 64; a table that stages share begins
    /// anew and ends without a gap.
    fn buffer(&self, chunk: &[Piece], of: &[usize], state: usize) -> Vec<f32> {
        let mut order: Vec<usize> = of.iter().rev().copied().collect();
        if self.swapped {
            let longest = |order: &[usize]| {
                let len = |place: &usize| chunk[order[*place]].states[0].len();
                (0..order.len()).max_by_key(len).expect("a parameter")
            };
            let one = longest(&order);
            let len = chunk[order[one]].states[0].len();
            let other =
                (0..order.len()).find(|i| *i != one && chunk[order[*i]].states[0].len() == len);
            order.swap(one, other.expect("another of its size"));
        }
        let (mut closed, mut open): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
        for index in order {
            let piece = &chunk[index];
            while open.len() % 64 != 0 {
                open.push(0.0);
            }
            let table =
                piece.name.contains("word_embeddings") || piece.name.contains("output_layer");
            let shared = self.gpt && self.pp() > 1 && table;
            if shared {
                closed.append(&mut open);
            }
            open.extend(&piece.states[state]);
            if shared {
                closed.append(&mut open);
            }
        }
        closed.append(&mut open);
        closed
    }

    fn arguments(&self) -> Value {
        let [h, n, k, d, f, v, c] = self.sizes();
        let virtual_stages = (self.layers.len() > 1).then_some(self.layers.len());
        json!({
            "num_layers": self.total(), "hidden_size": h, "ffn_hidden_size": f,
            "num_attention_heads": n, "group_query_attention": !self.gpt,
            "num_query_groups": if self.gpt { 1 } else { k }, "kv_channels": d,
            "max_position_embeddings": c, "make_vocab_size_divisible_by": MULTIPLE,
            "padded_vocab_size": v.next_multiple_of(MULTIPLE * self.tp),
            "tokenizer_type": "NullTokenizer", "vocab_size": v - 1,
            "swiglu": !self.gpt, "untie_embeddings_and_output_weights": !self.gpt,
            "rotary_interleaved": self.interleaved, "rotary_percent": 1.0,
            "num_experts": (self.experts > 0).then_some(self.experts),
            "tensor_model_parallel_size": self.tp, "pipeline_model_parallel_size": self.pp(),
            "virtual_pipeline_model_parallel_size": virtual_stages,
            "expert_model_parallel_size": self.ep, "expert_tensor_parallel_size": self.etp,
        })
    }

    /// All tensors of the model under names with global numbers, in forward order.
    fn tensors(&self) -> Vec<Placed> {
        let [h, n, k, d, f, v, c] = self.sizes();
        let k = if self.gpt { n } else { k };
        let legacy = self.is_legacy();
        let mut list: Vec<Placed> = Vec::new();
        let mut add = |name: &str, at: (Option<usize>, Option<usize>, bool), rows, columns, cut| {
            let seed = list.len() as u64 + 1;
            let whole = Whole { name: name.to_owned(), rows, columns, cut, seed };
            list.push(Placed { whole, layer: at.0, expert: at.1, first: at.2 });
        };
        let table = Cut::Padded { multiple: MULTIPLE };
        let top = if legacy { "language_model." } else { "" };
        let first = (None, None, true);
        add(&format!("{top}embedding.word_embeddings.weight"), first, v, Some(h), table);
        if self.gpt {
            let name = format!("{top}embedding.position_embeddings.weight");
            add(&name, first, c, Some(h), Cut::Nowhere);
        }
        let stack = match self.names {
            Names::Legacy => "language_model.encoder",
            Names::Oldest => "language_model.transformer",
            _ => "decoder",
        };
        for l in 0..self.total() {
            let here = (Some(l), None, false);
            let p = format!("{stack}.layers.{l}");
            let both =
                |add: &mut Add<'_>, name: &str, rows: usize, columns: Option<usize>, cut: Cut| {
                    add(&format!("{p}.{name}weight"), here, rows, columns, cut);
                    if self.gpt {
                        let cut = if cut == Cut::Columns { Cut::Nowhere } else { cut };
                        add(&format!("{p}.{name}bias"), here, rows, None, cut);
                    }
                };
            let [norm1, qkv, proj, norm2, fc1, fc2] = match self.names {
                Names::Legacy => [
                    "input_norm.",
                    "self_attention.query_key_value.",
                    "self_attention.dense.",
                    "post_attention_norm.",
                    "mlp.dense_h_to_4h.",
                    "mlp.dense_4h_to_h.",
                ],
                Names::Oldest => [
                    "input_layernorm.",
                    "attention.query_key_value.",
                    "attention.dense.",
                    "post_attention_layernorm.",
                    "mlp.dense_h_to_4h.",
                    "mlp.dense_4h_to_h.",
                ],
                Names::Local => [
                    "input_layernorm.",
                    "self_attention.linear_qkv.",
                    "self_attention.linear_proj.",
                    "pre_mlp_layernorm.",
                    "mlp.linear_fc1.",
                    "mlp.linear_fc2.",
                ],
                _ => [
                    "self_attention.linear_qkv.layer_norm_",
                    "self_attention.linear_qkv.",
                    "self_attention.linear_proj.",
                    if self.experts > 0 {
                        "pre_mlp_layernorm."
                    } else {
                        "mlp.linear_fc1.layer_norm_"
                    },
                    "mlp.linear_fc1.",
                    "mlp.linear_fc2.",
                ],
            };
            both(&mut add, norm1, h, None, Cut::Nowhere);
            both(&mut add, proj, h, Some(n * d), Cut::Columns);
            both(&mut add, qkv, (n + 2 * k) * d, Some(h), Cut::Rows);
            both(&mut add, norm2, h, None, Cut::Nowhere);
            if self.experts == 0 {
                let (rows, cut) = if self.gpt { (f, Cut::Rows) } else { (2 * f, Cut::Halves) };
                both(&mut add, fc1, rows, Some(h), cut);
                both(&mut add, fc2, h, Some(f), Cut::Columns);
                continue;
            }
            add(&format!("{p}.mlp.router.weight"), here, self.experts, Some(h), Cut::Nowhere);
            for e in 0..self.experts {
                let of = (Some(l), Some(e), false);
                let name =
                    |fc: &str| format!("{p}.mlp.experts.local_experts.{e}.linear_{fc}.weight");
                add(&name("fc1"), of, 2 * f, Some(h), Cut::Halves);
                add(&name("fc2"), of, h, Some(f), Cut::Columns);
            }
        }
        let last = (None, None, false);
        let norm = match self.names {
            Names::Legacy => format!("{stack}.final_norm"),
            _ => format!("{stack}.final_layernorm"),
        };
        add(&format!("{norm}.weight"), last, h, None, Cut::Nowhere);
        if self.gpt {
            add(&format!("{norm}.bias"), last, h, None, Cut::Nowhere);
        } else {
            add(&format!("{top}output_layer.weight"), last, v, Some(h), table);
        }
        list
    }

    /// What a rank's chunk holds, under local names, in the order of the module.
    fn chunk(&self, tensors: &[Placed], [chunk, stage, t, x, et]: [usize; 5]) -> Vec<Piece> {
        let before: usize = self.layers[..chunk].iter().flatten().sum();
        let start = before + self.layers[chunk][..stage].iter().sum::<usize>();
        let layers = start..start + self.layers[chunk][stage];
        let local = self.experts / self.ep;
        let experts = x * local..(x + 1) * local;
        let is_first = chunk == 0 && stage == 0;
        let is_last = chunk + 1 == self.layers.len() && stage + 1 == self.pp();
        let mut held: Vec<Piece> = Vec::new();
        for one in tensors {
            let here = match one.layer {
                Some(layer) => layers.contains(&layer),
                None if one.first => is_first,
                None => is_last,
            };
            if !here || one.expert.is_some_and(|expert| !experts.contains(&expert)) {
                continue;
            }
            let piece = match one.expert {
                Some(_) => one.whole.piece(et, self.etp),
                None => one.whole.piece(t, self.tp),
            };
            let mut name = piece.name.clone();
            if let Some(layer) = one.layer {
                let to = format!(".layers.{}.", layer - start);
                name = name.replace(&format!(".layers.{layer}."), &to);
            }
            if let Some(expert) = one.expert {
                let from = format!("local_experts.{expert}.");
                let to = format!("local_experts.{}.", expert - experts.start);
                name = name.replace(&from, &to);
                if self.names == Names::Grouped {
                    let rest = name.replace(&to, "");
                    name = format!("{rest}{}", expert - experts.start);
                }
            }
            held.push(Piece {
                name,
                shape: piece.shape,
                states: piece.states,
                expert: one.expert.is_some(),
            });
        }
        let norms = held.iter_mut().filter(|piece| piece.name.ends_with("final_layernorm.weight"));
        if self.drift && x == 1 {
            norms.for_each(|norm| norm.states[0][0] += 1.0);
        }
        if self.names == Names::Gemm {
            held = gemm(held, local);
        }
        if self.gpt && is_last && !is_first {
            let table = &tensors[0].whole.piece(t, self.tp);
            let name = match self.names {
                Names::Legacy | Names::Oldest => "word_embeddings_for_head.weight",
                _ => "output_layer.weight",
            };
            let (shape, states) = (table.shape.clone(), table.states.clone());
            held.push(Piece { name: name.to_owned(), shape, states, expert: false });
        }
        held
    }

    /// A flat dict, or dicts in dicts.
    fn module(&self, pt: &mut Pt, held: &[Piece]) -> NodeId {
        let tensor = |pt: &mut Pt, piece: &Piece| match self.half {
            true => pt.halves(&piece.shape, &piece.states[0]),
            false => pt.floats(&piece.shape, &piece.states[0]),
        };
        if !self.is_legacy() {
            let mut entries = Vec::new();
            for piece in held {
                entries.push((piece.name.as_str(), tensor(pt, piece)));
            }
            let none = pt.pickle.none();
            entries.push(("decoder.layers.0.mlp.linear_fc1._extra_state", none));
            return pt.ordered(entries);
        }
        let below = |pt: &mut Pt, prefix: &str| {
            let of =
                held.iter().filter_map(|piece| Some((piece.name.strip_prefix(prefix)?, piece)));
            let mut entries = Vec::new();
            for (name, piece) in of {
                entries.push((name, tensor(pt, piece)));
            }
            (!entries.is_empty()).then(|| pt.ordered(entries))
        };
        let mut embedding = Vec::new();
        for table in ["word_embeddings", "position_embeddings"] {
            let found = below(pt, &format!("language_model.embedding.{table}."));
            embedding.extend(found.map(|found| (table, found)));
        }
        let mut model = Vec::new();
        if !embedding.is_empty() {
            model.push(("embedding", pt.dict(embedding)));
        }
        for part in ["encoder", "transformer", "output_layer"] {
            model.extend(below(pt, &format!("language_model.{part}.")).map(|found| (part, found)));
        }
        let mut root = vec![("language_model", pt.dict(model))];
        let head = below(pt, "word_embeddings_for_head.");
        root.extend(head.map(|head| ("word_embeddings_for_head", head)));
        pt.dict(root)
    }

    /// One optimizer, or a list of them.
    fn optimizer(&self, pt: &mut Pt, chunks: &[Vec<Piece>]) -> NodeId {
        let mut parts = Vec::new();
        for expert in self.optimizers() {
            let pieces = chunks.iter().flatten();
            let of: Vec<&Piece> =
                pieces.filter(|piece| expert.is_none_or(|e| piece.expert == e)).collect();
            parts.push(self.part(pt, &of, *expert == Some(true)));
        }
        if parts.len() == 1 { parts[0] } else { pt.pickle.list(parts) }
    }

    fn part(&self, pt: &mut Pt, pieces: &[&Piece], expert: bool) -> NodeId {
        let (mut states, mut groups, mut masters) = (Vec::new(), Vec::new(), Vec::new());
        let kinds: &[usize] = if self.foreign { &[0, 1, 2] } else { &[0, 2] };
        for kind in kinds {
            let decay = *kind < 2;
            let own_kind = |index: usize| match *kind {
                1 => index % 2 == 1,
                _ => !self.foreign || !decay || index.is_multiple_of(2),
            };
            let numbered = pieces.iter().enumerate();
            let of = numbered.filter(|(i, p)| (p.shape.len() > 1) == decay && own_kind(*i));
            let of: Vec<_> = of.map(|(_, piece)| piece).collect();
            if of.is_empty() && expert {
                continue;
            }
            let mut own = Vec::new();
            let mut numbers = Vec::new();
            for piece in of {
                let step = pt.floats(&[], &[7.0]);
                let mut entries = vec![("step", step)];
                for (state, values) in STATES.iter().zip(&piece.states).skip(1) {
                    entries.push((*state, pt.floats(&piece.shape, values)));
                }
                let number = states.len() as i64;
                let key = pt.pickle.int(number);
                let held = pt.dict(entries);
                states.push((key, held));
                numbers.push(json!(number));
                own.push(pt.floats(&piece.shape, &piece.states[0]));
            }
            let factor = if decay { 1.0 } else { 0.0 };
            let mut group = json!({
                "is_expert_parallel": expert, "wd_mult": factor, "lr_mult": 1.0,
                "is_decoupled_lr": false, "lr": 0.25, "weight_decay": 0.1 * factor,
            });
            if self.distributed {
                group["step"] = json!(7);
            } else {
                group["params"] = numbers.into();
            }
            groups.push(pt.json(&group));
            masters.push(pt.pickle.list(own));
        }
        let (states, groups) = (pt.pickle.dict(states), pt.pickle.list(groups));
        if self.distributed {
            let inner = pt.dict(vec![("param_groups", groups)]);
            return pt.dict(vec![("optimizer", inner)]);
        }
        let inner = pt.dict(vec![("state", states), ("param_groups", groups)]);
        if !self.half {
            return inner;
        }
        let masters = pt.pickle.list(masters);
        pt.dict(vec![("optimizer", inner), ("fp32_from_fp16_params", masters)])
    }

    /// What a conversion holds: under Hugging Face's names, or a GPT under universal ones.
    pub fn expected(&self) -> BTreeMap<String, Tensors> {
        let [h, n, k, d, f, v, c] = self.sizes();
        let k = if self.gpt { n } else { k };
        let q = n / k;
        let size = |n: usize| n as u64;
        let tensors = self.tensors();
        let mut parts: Vec<(String, Vec<u64>, &Whole, Vec<usize>)> = Vec::new();
        for one in &tensors {
            let whole = &one.whole;
            let all = |rows: usize| (0..rows).collect::<Vec<_>>();
            let mut add = |name: String, shape: &[usize], rows| {
                parts.push((name, shape.iter().map(|n| size(*n)).collect(), whole, rows));
            };
            let (name, end) = whole.name.rsplit_once(['.', '_']).expect("a name");
            let bias = end == "bias";
            let Some(l) = one.layer else {
                let gpt = self.gpt;
                let to = |own: &str, hf: &str| if gpt { own.to_owned() } else { hf.to_owned() };
                if name.ends_with("word_embeddings") {
                    add(to("embed", "model.embed_tokens.weight"), &[v, h], all(v));
                } else if name.ends_with("position_embeddings") {
                    add("pos".to_owned(), &[c, h], all(c));
                } else if name.ends_with("output_layer") {
                    add("lm_head.weight".to_owned(), &[v, h], all(v));
                } else {
                    let own = if bias { "norm.bias" } else { "norm" };
                    add(to(own, "model.norm.weight"), &[h], all(h));
                }
                continue;
            };
            // In a group of the fused rows: q queries, a key, a value; `d` rows each.
            let fused = |group: usize, part: usize| {
                (0..d).map(move |row| (group * (q + 2) + part) * d + row)
            };
            // Row r of a head is half r / (d / 2) of pair r % (d / 2): its halves are neighbours, or all
            // firsts come before all seconds.
            let turned = |group: usize, part: usize| {
                let half = d / 2;
                let place = move |r: usize| if self.interleaved { 2 * (r % half) + r / half } else { r };
                (0..d).map(move |row| (group * (q + 2) + part) * d + place(row))
            };
            let rows_of = |what: usize| -> Vec<usize> {
                match what {
                    0 => (0..n).flat_map(|head| turned(head / q, head % q)).collect(),
                    1 => (0..k).flat_map(|group| turned(group, q)).collect(),
                    _ => (0..k).flat_map(|group| fused(group, q + 1)).collect(),
                }
            };
            let first_norm = name.ends_with("input_norm")
                || name.ends_with("input_layernorm")
                || name.ends_with("linear_qkv.layer_norm");
            let second_norm = name.ends_with("post_attention_norm")
                || name.ends_with("post_attention_layernorm")
                || name.ends_with("pre_mlp_layernorm")
                || name.ends_with("linear_fc1.layer_norm");
            let qkv = name.ends_with("query_key_value") || name.ends_with("linear_qkv");
            let proj = name.ends_with("attention.dense") || name.ends_with("linear_proj");
            let up = name.ends_with("dense_h_to_4h") || name.ends_with("linear_fc1");
            if self.gpt {
                let to = |own: &str| format!("l.{l}.{own}{}", if bias { ".bias" } else { "" });
                let with =
                    |shape: &[usize]| if bias { shape.to_vec() } else { [shape, &[h]].concat() };
                if first_norm {
                    add(to("attn.norm"), &[h], all(h));
                } else if second_norm {
                    add(to("mlp.norm"), &[h], all(h));
                } else if qkv {
                    for (what, own) in ["attn.q", "attn.k", "attn.v"].into_iter().enumerate() {
                        add(to(own), &with(&[n, d]), rows_of(what));
                    }
                } else if proj {
                    let shape = if bias { vec![h] } else { vec![h, n, d] };
                    add(to("attn.o"), &shape, all(h));
                } else if up {
                    add(to("mlp.up"), &with(&[f]), all(f));
                } else {
                    let shape = if bias { vec![h] } else { vec![h, f] };
                    add(to("mlp.down"), &shape, all(h));
                }
                continue;
            }
            let to = |hf: &str| format!("model.layers.{l}.{hf}.weight");
            let experts = |part: &str| match one.expert {
                Some(e) => to(&format!("block_sparse_moe.experts.{e}.{part}")),
                None => to(match part {
                    "w1" => "mlp.gate_proj",
                    "w3" => "mlp.up_proj",
                    _ => "mlp.down_proj",
                }),
            };
            if first_norm {
                add(to("input_layernorm"), &[h], all(h));
            } else if second_norm {
                add(to("post_attention_layernorm"), &[h], all(h));
            } else if qkv {
                add(to("self_attn.q_proj"), &[n * d, h], rows_of(0));
                add(to("self_attn.k_proj"), &[k * d, h], rows_of(1));
                add(to("self_attn.v_proj"), &[k * d, h], rows_of(2));
            } else if proj {
                add(to("self_attn.o_proj"), &[h, n * d], all(h));
            } else if name.ends_with("router") {
                add(to("block_sparse_moe.gate"), &[self.experts, h], all(self.experts));
            } else if up {
                add(experts("w1"), &[f, h], all(f));
                add(experts("w3"), &[f, h], (f..2 * f).collect());
            } else {
                add(experts("w2"), &[h, f], all(h));
            }
        }
        let mut states = expected(&parts);
        if !self.half {
            let weights = states.remove("fp32").expect("weights");
            states.insert("param".to_owned(), weights);
        }
        states
    }
}

/// What a rank holds of a tensor: weight and moments in fp32.
struct Piece {
    name: String,
    shape: Vec<u64>,
    states: [Vec<f32>; 3],
    expert: bool,
}

/// All experts of a layer in two tensors: the bytes are `[expert, h, 2f]` and `[expert, f, h]`, the
/// headers show `[h, expert * 2f]` and `[expert * f, h]`.
fn gemm(held: Vec<Piece>, experts: usize) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in held {
        let Some((layer, _)) = piece.name.split_once("local_experts.") else {
            out.push(piece);
            continue;
        };
        let number = if piece.name.contains("fc1") { 1 } else { 2 };
        let name = format!("{layer}weight{number}");
        let [rows, columns] = [piece.shape[0], piece.shape[1]];
        let turned = piece.states.map(|state| {
            let mut turned = Vec::with_capacity(state.len());
            for column in 0..columns {
                turned.extend((0..rows).map(|row| state[(row * columns + column) as usize]));
            }
            turned
        });
        let position = out.iter().position(|known| known.name == name);
        match position {
            Some(position) => {
                for (known, more) in out[position].states.iter_mut().zip(turned) {
                    known.extend(more);
                }
            }
            None => {
                let count = experts as u64;
                let shape = match number {
                    1 => vec![columns, count * rows],
                    _ => vec![count * columns, rows],
                };
                out.push(Piece { name, shape, states: turned, expert: true });
            }
        }
    }
    out
}
