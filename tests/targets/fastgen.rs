//! What FastGen serialises: every byte of every rank, from the folder that it was made of.
//!
//! Which rows a rank has is written down here as numbers of FastGen 0.19.8 (`sharding/utils.py`,
//! `get_shard_endpoints`); `tests/interop/fastgen_test.py` runs that code itself.

use crate::{commutes, files, same, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::tempdir;
use ucl_formats::torch::{Pickle, TorchFile};
use ucl_tests::command::{convert, ucl};
use ucl_tests::fixture;
use ucl_tests::written::{save, values};

pub(crate) const TO: [&str; 2] = ["--to", "fastgen"];

/// Heads `q` of queries and `kv` of keys, rows of the feed-forward part, rows of the head.
struct Share {
    q: Range<usize>,
    kv: Range<usize>,
    f: Range<usize>,
    v: Range<usize>,
}

fn share(q: Range<usize>, kv: Range<usize>, f: Range<usize>, v: Range<usize>) -> Share {
    Share { q, kv, f, v }
}

/// A model as Hugging Face has it: matrices of two-byte numbers by name.
struct Model(BTreeMap<String, (Vec<u64>, Vec<u8>)>);

impl Model {
    fn read(folder: &Path) -> Model {
        let tensors = values(folder).into_iter();
        Model(tensors.map(|(name, (known, bytes))| (name, (known.shape, bytes))).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn shape(&self, name: &str) -> &[u64] {
        &self.0[name].0
    }

    /// The numbers of these rows and columns; of a vector its elements are the rows.
    fn cells(
        &self,
        name: &str,
        rows: impl IntoIterator<Item = usize>,
        columns: Option<Range<usize>>,
    ) -> Vec<[u8; 2]> {
        let (shape, bytes) = &self.0[name];
        let width = shape.get(1).map_or(1, |width| *width as usize);
        let columns = columns.unwrap_or(0..width);
        let cell = |at: usize| [bytes[2 * at], bytes[2 * at + 1]];
        let columns = &columns;
        rows.into_iter()
            .flat_map(|row| columns.clone().map(move |c| cell(row * width + c)))
            .collect()
    }

    fn all(&self, name: &str) -> Vec<[u8; 2]> {
        self.cells(name, 0..self.shape(name)[0] as usize, None)
    }
}

/// A parameter: its name, its shape and its numbers.
type Parameter = (String, Vec<u64>, Vec<[u8; 2]>);

/// Rows of heads.
fn rows(heads: &Range<usize>, d: usize) -> Range<usize> {
    heads.start * d..heads.end * d
}

/// What a rank holds, in the order of FastGen's containers.
fn expected(model: &Model, layers: usize, d: usize, share: &Share) -> Vec<Parameter> {
    let h = model.shape("model.norm.weight")[0];
    let mut found = Vec::new();
    for l in 0..layers {
        let own = |name: &str| format!("model.layers.{l}.{name}");
        let mut add = |name: &str, shape: &[u64], cells| {
            found.push((format!("transformer_layer_{l}.{name}"), shape.to_vec(), cells));
        };
        let local = ((share.q.len() + 2 * share.kv.len()) * d) as u64;
        let qkv = |part: &str| {
            // One tensor of all three, or three.
            let fused = own("self_attn.qkv_proj.weight");
            if model.has(&fused) {
                let n = model.shape(&own("self_attn.o_proj.weight"))[1] as usize;
                let k = (model.shape(&fused)[0] as usize - n) / 2;
                let at = |rows: Range<usize>, start: usize| rows.start + start..rows.end + start;
                let (q, kv) = (rows(&share.q, d), rows(&share.kv, d));
                let all = q.chain(at(kv.clone(), n)).chain(at(kv, n + k));
                return model.cells(&fused, all, None);
            }
            let of = |name: &str, heads: &Range<usize>| {
                model.cells(&own(&format!("self_attn.{name}_proj.{part}")), rows(heads, d), None)
            };
            [of("q", &share.q), of("k", &share.kv), of("v", &share.kv)].concat()
        };
        add("qkv_w", &[local, h], qkv("weight"));
        if model.has(&own("self_attn.q_proj.bias")) {
            add("qkv_b", &[local], qkv("bias"));
        }
        let columns = rows(&share.q, d);
        let out = own("self_attn.o_proj.weight");
        add(
            "attn_out_w",
            &[h, columns.len() as u64],
            model.cells(&out, 0..h as usize, Some(columns)),
        );
        let f = share.f.len() as u64;
        let experts = (0..)
            .take_while(|e| model.has(&own(&format!("block_sparse_moe.experts.{e}.w1.weight"))));
        let experts: Vec<usize> = experts.collect();
        if !experts.is_empty() {
            let count = experts.len() as u64;
            let gate = own("block_sparse_moe.gate.weight");
            add("moe_gate", &[count, h], model.all(&gate));
            let weight =
                |e: &usize, w: &str| own(&format!("block_sparse_moe.experts.{e}.{w}.weight"));
            // Transposed: in front the columns, in each of them gate and up of every row.
            let first = experts.iter().flat_map(|e| {
                (0..h as usize).flat_map(move |column| {
                    share.f.clone().flat_map(move |row| {
                        ["w1", "w3"]
                            .map(|w| model.cells(&weight(e, w), [row], Some(column..column + 1))[0])
                    })
                })
            });
            add("moe_mlp_1", &[count, h, 2 * f], first.collect());
            let second = experts.iter().flat_map(|e| {
                let column = move |f| model.cells(&weight(e, "w2"), 0..h as usize, Some(f..f + 1));
                share.f.clone().flat_map(column)
            });
            add("moe_mlp_2", &[count, f, h], second.collect());
        } else {
            let fused = own("mlp.gate_up_proj.weight");
            let half = model.has(&fused).then(|| model.shape(&fused)[0] as usize / 2);
            let pair = |row: usize| match half {
                Some(half) => model.cells(&fused, [row, half + row], None),
                None => {
                    let of =
                        |name| model.cells(&own(&format!("mlp.{name}_proj.weight")), [row], None);
                    [of("gate"), of("up")].concat()
                }
            };
            add("mlp_1_w", &[2 * f, h], share.f.clone().flat_map(pair).collect());
            let down = own("mlp.down_proj.weight");
            add("mlp_2_w", &[h, f], model.cells(&down, 0..h as usize, Some(share.f.clone())));
        }
        add("attn_norm_gamma", &[h], model.all(&own("input_layernorm.weight")));
        add("mlp_norm_gamma", &[h], model.all(&own("post_attention_layernorm.weight")));
    }
    let embed = "model.embed_tokens.weight";
    let head = if model.has("lm_head.weight") { "lm_head.weight" } else { embed };
    let of_phi3 = model.has("model.layers.0.self_attn.qkv_proj.weight");
    let (unembed, norm) = if of_phi3 {
        ("word_unembed_w", "final_norm_gamma")
    } else {
        ("word_unembed", "final_norm")
    };
    let mut add = |name: &str, shape: Vec<u64>, cells| {
        found.push((format!("non_transformer.{name}"), shape, cells));
    };
    add("word_emb", model.shape(embed).to_vec(), model.all(embed));
    let rows = share.v.clone();
    add(unembed, vec![rows.len() as u64, h], model.cells(head, rows, None));
    add(norm, vec![h], model.all("model.norm.weight"));
    found
}

/// The bytes of a rank's one tensor.
pub(crate) fn bytes(path: &Path, rank: usize) -> Vec<u8> {
    let file = TorchFile::open(path).unwrap();
    let root = file.value.root();
    let tensor = root.as_tensor().unwrap();
    assert_eq!(tensor.dtype, Some(ucl_tensor::DType::U8));
    assert_eq!(tensor.size.len(), 1);
    assert_eq!(*tensor.storage.location, format!("cuda:{rank}"));
    let extent = &file.storages[&*tensor.storage.key];
    let whole = std::fs::read(path).unwrap();
    let (start, len) = (extent.offset as usize, extent.len as usize);
    assert_eq!(tensor.size[0], extent.len);
    whole[start..start + len].to_vec()
}

/// Every rank of a folder, from the parameters that it has to hold.
fn holds(folder: &Path, policy: &str, dtype: &str, ranks: &[Vec<Parameter>]) {
    for (rank, parameters) in ranks.iter().enumerate() {
        let of = format!("rank_{rank}_of_{}", ranks.len());
        let metadata = std::fs::read_to_string(folder.join(format!("metadata_{of}.json"))).unwrap();
        let Value::String(inner) = serde_json::from_str(&metadata).unwrap() else {
            panic!("{metadata}");
        };
        let bytes = bytes(&folder.join(format!("params_{of}.pt")), rank);
        let (mut layers, mut covered, mut end) =
            (serde_json::Map::new(), vec![false; bytes.len()], 0);
        for (name, shape, cells) in parameters {
            let (layer, name) = name.split_once('.').unwrap();
            let cells: Vec<u8> = cells.iter().flatten().copied().collect();
            // Torch counts a dim of no elements as one of one.
            let strides: Vec<u64> = (0..shape.len())
                .map(|at| shape[at + 1..].iter().map(|n| (*n).max(1)).product())
                .collect();
            let core = json!({
                "dtype": dtype, "shape": shape, "strides": strides, "offset": end,
            });
            let entry = layers.entry(layer).or_insert(json!({"params": {}}));
            entry["params"][name] = json!({"core_param": core, "aux_params": {}});
            assert_eq!(bytes[end..end + cells.len()], cells, "{of}: {layer}.{name}");
            covered[end..end + cells.len()].fill(true);
            end += cells.len().next_multiple_of(256);
        }
        assert_eq!(bytes.len(), end, "{of}");
        let between = bytes.iter().zip(&covered).filter(|(_, covered)| !**covered);
        assert!(between.into_iter().all(|(byte, _)| *byte == 0), "{of}");
        let expected = json!({"policy": policy, "layers": layers});
        assert_eq!(inner, expected.to_string(), "{of}");
    }
}

/// Sizes of a model that is made here: two layers, each number of its tensors another one.
struct Sizes {
    kind: &'static str,
    h: u64,
    n: u64,
    k: u64,
    f: u64,
    v: u64,
    bias: bool,
    experts: u64,
}

/// `config.json` and one file of weights.
fn made(folder: &Path, sizes: &Sizes) -> PathBuf {
    let Sizes { kind, h, n, k, f, v, bias, experts } = *sizes;
    let d = h / n;
    let mut list = vec![
        ("model.embed_tokens.weight".to_owned(), vec![v, h]),
        ("model.norm.weight".to_owned(), vec![h]),
        ("lm_head.weight".to_owned(), vec![v, h]),
    ];
    for l in 0..2 {
        let mut add = |name: &str, shape: &[u64]| {
            list.push((format!("model.layers.{l}.{name}"), shape.to_vec()));
        };
        for (name, rows) in [("q", n * d), ("k", k * d), ("v", k * d)] {
            add(&format!("self_attn.{name}_proj.weight"), &[rows, h]);
            if bias {
                add(&format!("self_attn.{name}_proj.bias"), &[rows]);
            }
        }
        add("self_attn.o_proj.weight", &[h, n * d]);
        if experts == 0 {
            add("mlp.gate_proj.weight", &[f, h]);
            add("mlp.up_proj.weight", &[f, h]);
            add("mlp.down_proj.weight", &[h, f]);
        } else {
            add("block_sparse_moe.gate.weight", &[experts, h]);
        }
        for e in 0..experts {
            for (name, shape) in [("w1", [f, h]), ("w2", [h, f]), ("w3", [f, h])] {
                add(&format!("block_sparse_moe.experts.{e}.{name}.weight"), &shape);
            }
        }
        add("input_layernorm.weight", &[h]);
        add("post_attention_layernorm.weight", &[h]);
    }
    // Finite numbers of fp16 and bf16, 30000 of them before one comes again.
    let mut next = 0_u32;
    let tensors = list.into_iter().map(|(name, shape)| {
        let numbers = (0..shape.iter().product::<u64>()).flat_map(|_| {
            next = (next + 1) % 30_011;
            u16::try_from(next).unwrap().to_le_bytes()
        });
        let bytes = numbers.collect();
        (name, if kind == "qwen2" { "F16" } else { "BF16" }, shape, bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    std::fs::create_dir_all(folder).unwrap();
    save(&folder.join("model.safetensors"), &tensors);
    let config = json!({
        "model_type": kind, "hidden_size": h, "num_attention_heads": n, "num_key_value_heads": k,
        "intermediate_size": f, "vocab_size": v, "num_hidden_layers": 2, "num_local_experts": experts,
        "max_position_embeddings": 64, "tie_word_embeddings": false,
        "torch_dtype": if kind == "qwen2" { "float16" } else { "bfloat16" },
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    folder.to_owned()
}

const LLAMA: Sizes =
    Sizes { kind: "llama", h: 24, n: 6, k: 2, f: 96, v: 19, bias: false, experts: 0 };

/// Converts for each mesh and looks at every rank.
fn each(sizes: &Sizes, policy: &str, meshes: &[Vec<Share>]) {
    let folder = tempdir().unwrap();
    let source = made(&folder.path().join("hf"), sizes);
    let model = Model::read(&source);
    let dtype = if sizes.kind == "qwen2" { "torch.float16" } else { "torch.bfloat16" };
    for shares in meshes {
        let mesh = format!("tp={}", shares.len());
        let out = folder.path().join(&mesh);
        convert(&source, &out, &[&TO[..], &["--mesh", &mesh]].concat());
        let d = (sizes.h / sizes.n) as usize;
        let ranks: Vec<_> = shares.iter().map(|share| expected(&model, 2, d, share)).collect();
        holds(&out, policy, dtype, &ranks);
    }
}

/// Two groups of three heads, three runs of 32, 19 rows of the head.
fn grouped() -> Vec<Vec<Share>> {
    vec![
        vec![share(0..6, 0..2, 0..96, 0..19)],
        vec![share(0..3, 0..1, 0..64, 0..10), share(3..6, 1..2, 64..96, 10..19)],
        vec![
            share(0..2, 0..1, 0..32, 0..5),
            share(2..3, 0..1, 32..64, 5..10),
            share(3..5, 1..2, 64..96, 10..15),
            share(5..6, 1..2, 96..96, 15..19),
        ],
    ]
}

#[test]
fn every_rank_has_its_heads_and_runs() {
    each(&LLAMA, "Llama2Policy", &grouped());
    each(&Sizes { kind: "mistral", ..LLAMA }, "MistralPolicy", &grouped());
}

#[test]
fn biases_are_cut_as_their_weights() {
    each(&Sizes { kind: "qwen2", bias: true, ..LLAMA }, "Qwen2Policy", &grouped());
}

#[test]
fn heads_without_groups_are_cut_unevenly() {
    let shares = vec![
        share(0..2, 0..2, 0..32, 0..5),
        share(2..4, 2..4, 32..64, 5..10),
        share(4..5, 4..5, 64..96, 10..15),
        share(5..6, 5..6, 96..96, 15..19),
    ];
    each(&Sizes { k: 6, ..LLAMA }, "Llama2Policy", &[shares]);
}

#[test]
fn experts_are_stacked_and_transposed() {
    let sizes = Sizes { kind: "mixtral", h: 12, n: 6, f: 64, experts: 3, ..LLAMA };
    let shares = vec![share(0..3, 0..1, 0..32, 0..10), share(3..6, 1..2, 32..64, 10..19)];
    let whole = vec![share(0..6, 0..2, 0..64, 0..19)];
    each(&sizes, "MixtralPolicy", &[whole, shares]);
}

/// A fixture, its policy, flags, the type of the weights, layers, rows of the feed-forward part.
type Real = (&'static str, &'static str, &'static [&'static str], &'static str, usize, usize);

/// What transformers wrote, on one rank: its feed-forward parts are no runs of 32.
#[test]
fn real_models() {
    let cases: [Real; 6] = [
        ("hf-llama-bf16-sharded", "Llama2Policy", &[], "torch.bfloat16", 3, 53),
        ("hf-llama-fp32", "Llama2Policy", &["--dtype", "fp16"], "torch.float16", 3, 53),
        ("hf-llamatied-fp32", "Llama2Policy", &["--dtype", "bf16"], "torch.bfloat16", 3, 53),
        ("hf-qwen2-bf16-sharded", "Qwen2Policy", &["--dtype", "fp16"], "torch.float16", 2, 53),
        ("hf-mixtral-bf16-sharded", "MixtralPolicy", &[], "torch.bfloat16", 2, 29),
        ("hf-phi3-fp32", "Phi3Policy", &["--dtype", "bf16"], "torch.bfloat16", 3, 45),
    ];
    for (name, policy, flags, dtype, layers, f) in cases {
        let folder = tempdir().unwrap();
        let source = fixture(name).join("hf");
        let [hf, out] = ["hf", "out"].map(|name| folder.path().join(name));
        convert(&source, &hf, &[&["--to", "hf"], flags].concat());
        convert(&source, &out, &[&TO[..], flags].concat());
        let model = Model::read(&hf);
        let kv = if name == "hf-phi3-fp32" { 4 } else { 2 };
        let whole = share(0..4, 0..kv, 0..f, 0..101);
        holds(&out, policy, dtype, &[expected(&model, layers, 8, &whole)]);
    }
}

#[test]
fn the_same_through_a_universal_folder() {
    let folder = tempdir().unwrap();
    let source = made(&folder.path().join("hf"), &LLAMA);
    let [direct, universal, through] =
        ["direct", "universal", "through"].map(|name| folder.path().join(name));
    let to = [&TO[..], &["--mesh", "tp=4"]].concat();
    convert(&source, &direct, &to);
    convert(&source, &universal, &[]);
    convert(&universal, &through, &to);
    same(&direct, &through, "llama");
    commutes(("hf-llama-bf16-sharded/hf", &[]), &TO);
    commutes(("hf-mixtral-bf16-sharded-tf5/hf", &[]), &TO);
    commutes(("hf-qwen2-bf16-sharded/hf", &[]), &TO);
}

/// A run that was trained elsewhere, over another mesh, is the model that it is as Hugging Face's.
#[test]
fn from_what_was_trained() {
    let config = fixture("configs/megds-llama");
    let folder = tempdir().unwrap();
    let [hf, direct, through] = ["hf", "direct", "through"].map(|name| folder.path().join(name));
    let source = fixture("megds-llama-tp2-pp2-dp1-bf16");
    let config = ["--config", text(&config)];
    convert(&source, &hf, &[&["--to", "hf"], &config[..]].concat());
    convert(&source, &direct, &[&TO[..], &config].concat());
    convert(&hf, &through, &TO);
    same(&direct, &through, "megds-llama");
}

#[test]
fn the_same_bytes_for_any_jobs() {
    let folder = tempdir().unwrap();
    let source = made(&folder.path().join("hf"), &LLAMA);
    let [one, many] = ["one", "many"].map(|name| folder.path().join(name));
    let to = [&TO[..], &["--mesh", "tp=2", "--memory", "64KiB"]].concat();
    convert(&source, &one, &[&to[..], &["--jobs", "1"]].concat());
    convert(&source, &many, &[&to[..], &["--jobs", "8"]].concat());
    same(&one, &many, "jobs");
    let names: Vec<String> = files(&one).into_keys().collect();
    let expected = [
        "ds_model_config.pkl",
        "metadata_rank_0_of_2.json",
        "metadata_rank_1_of_2.json",
        "params_rank_0_of_2.pt",
        "params_rank_1_of_2.pt",
    ];
    assert_eq!(names, expected);
}

/// `getattr(CONFIG_MAPPING["llama"], "from_dict")(config)`: no class of a family, nothing of ucl's.
#[test]
fn the_config_is_made_by_transformers() {
    let folder = tempdir().unwrap();
    let (source, out) = (fixture("hf-llama-fp32").join("hf"), folder.path().join("out"));
    convert(&source, &out, &[&TO[..], &["--dtype", "fp16"]].concat());
    let bytes = std::fs::read(out.join("ds_model_config.pkl")).unwrap();
    let pickle = Pickle::parse(&bytes).unwrap();
    let root = pickle.root();
    let maker = pickle.value(root.as_object().unwrap().class);
    assert!(maker.is_class("builtins", "getattr"));
    assert_eq!(maker.argument(1).unwrap().as_str(), Some("from_dict"));
    let class = maker.argument(0).unwrap();
    assert!(class.is_class("operator", "getitem"));
    assert!(class.argument(0).unwrap().as_global().unwrap().is("transformers", "CONFIG_MAPPING"));
    assert_eq!(class.argument(1).unwrap().as_str(), Some("llama"));

    let text = std::fs::read_to_string(source.join("config.json")).unwrap();
    let mut config: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    config.insert("dtype".to_owned(), "float16".into());
    config.insert("max_seq_length".to_owned(), config["max_position_embeddings"].clone());
    let values = root.argument(0).unwrap();
    let keys: Vec<&str> = values.pairs().unwrap().filter_map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, config.keys().collect::<Vec<_>>());
    for (key, value) in config {
        let found = values.get(&key).unwrap();
        match value {
            Value::String(text) => assert_eq!(found.as_str(), Some(&*text), "{key}"),
            Value::Bool(flag) => assert_eq!(found.as_bool(), Some(flag), "{key}"),
            Value::Null => assert!(found.is_none(), "{key}"),
            Value::Number(number) if number.is_i64() => {
                assert_eq!(found.as_i64(), number.as_i64(), "{key}");
            }
            Value::Number(number) => assert_eq!(found.as_f64(), number.as_f64(), "{key}"),
            Value::Array(items) => assert_eq!(found.as_list().unwrap().len(), items.len(), "{key}"),
            Value::Object(entries) => {
                assert_eq!(found.pairs().unwrap().len(), entries.len(), "{key}");
            }
        }
    }
}

#[test]
fn refusals() {
    let folder = tempdir().unwrap();
    let whole = made(&folder.path().join("llama"), &LLAMA);
    let of = |name: &str| fixture(name).join("hf");
    let cases: [(&str, PathBuf, &[&str]); 18] = [
        ("another axis", whole.clone(), &["--mesh", "tp=2,pp=2"]),
        ("data-parallel ranks", whole.clone(), &["--mesh", "dp=2"]),
        ("groups that do not divide", whole.clone(), &["--mesh", "tp=3"]),
        ("more ranks than heads", whole.clone(), &["--mesh", "tp=8"]),
        ("an optimizer's states", whole.clone(), &["--states", "all"]),
        ("another view", whole, &["--view", "hf"]),
        ("no runs of 32", of("hf-llama-bf16-sharded"), &["--mesh", "tp=2"]),
        ("fp32 weights", of("hf-llama-fp32"), &[]),
        ("a type that the class does not take", of("hf-qwen2-bf16-sharded"), &["--dtype", "bf16"]),
        ("heads of another size", of("hf-mistral-bf16"), &[]),
        ("biases that the class has not", of("hf-llamabias-bf16-sharded"), &[]),
        ("a model that it does not serve", of("hf-gpt2-fp32"), &[]),
        ("no config", fixture("megds-llama-tp2-pp2-dp1-bf16"), &[]),
        ("dense layers among sparse ones", fixture("hf-qwen2moe-bf16"), &[]),
        ("an embedding of another width", of("hf-opt-projected-fp16"), &[]),
        ("attention and MLP one after the other", of("hf-falcon-rw-bf16"), &[]),
        ("norms of queries and keys", of("hf-phi-bf16"), &[]),
        ("a width of another kind", of("hf-falcon-groups-bf16"), &[]),
    ];
    let mut told = String::new();
    for (what, source, flags) in cases {
        let out = folder.path().join("out");
        let ended = ucl(&[&["convert", text(&source), text(&out)], &TO[..], flags].concat());
        assert_eq!(ended.code, 2, "{what}\n{}", ended.text());
        assert!(!out.exists(), "{what}");
        told += &format!("## {what}\n{}\n", ended.err);
    }
    insta::assert_snapshot!(told);
}
