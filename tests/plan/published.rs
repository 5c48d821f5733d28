//! Published models by their published configurations: sizes, parameters, and meshes that fit.
//!
//! A configuration is what the `config.json` of the model says of sizes, with the names of its model
//! type. The numbers of parameters are those that the publishers and the hub state: Llama's and
//! Mixtral's total of the safetensors index, Pythia's table in its README, the `num_parameters()` of
//! transformers for GPT-2, OPT, Falcon, Phi and Qwen2-MoE.

use crate::simulate::{mesh, program, programs};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use ucl_ir::{Document, Program};
use ucl_plan::{Shards, numbers_of, shard};

struct Published {
    name: &'static str,
    model: &'static str,
    config: Value,
    /// Optional parameters that the model has.
    with: &'static [&'static str],
    parameters: u64,
}

impl Published {
    fn program(&self) -> &'static Program {
        program(programs(), self.model)
    }

    /// The numbers that the `from config` of the spec takes.
    fn numbers(&self) -> BTreeMap<String, u64> {
        let text: &Map<String, Value> = self.config.as_object().expect("an object");
        let program = self.program();
        numbers_of(program, &program.views["hf"], Document::Config, text)
    }

    fn shards(&self, view: &str, on: &str) -> Result<Shards, String> {
        let mut set = self.numbers();
        let tied = set.remove("tied") == Some(1);
        // What a run says beside the config; these have no axis `tp` of their own.
        set.insert("m".to_owned(), 128);
        if ["torch-dist", "torch-dcp", "fsdp-dtensor"].iter().any(|name| view.starts_with(name)) {
            set.insert("tp".to_owned(), 1);
        }
        set.extend(self.with.iter().map(|path| ((*path).to_owned(), 1)));
        let shards = shard(self.program(), view, &set, &mesh(on), tied);
        shards.map_err(|wrong| wrong.iter().map(|one| format!("{one:?}\n")).collect())
    }
}

fn llama(name: &'static str, config: Value, parameters: u64) -> Published {
    Published { name, model: "llama", config, with: &[], parameters }
}

/// `h n k f v l`
fn llama_config([h, n, k, f, v, l]: [u64; 6]) -> Value {
    json!({
        "model_type": "llama", "hidden_size": h, "num_attention_heads": n, "num_key_value_heads": k,
        "intermediate_size": f, "vocab_size": v, "num_hidden_layers": l, "tie_word_embeddings": false,
    })
}

fn pythia(name: &'static str, [h, n, v, l]: [u64; 4], parameters: u64) -> Published {
    let config = json!({
        "model_type": "gpt_neox", "hidden_size": h, "num_attention_heads": n, "vocab_size": v,
        "intermediate_size": 4 * h, "num_hidden_layers": l, "rotary_pct": 0.25,
        "tie_word_embeddings": false,
    });
    Published { name, model: "gpt-neox", config, with: &[], parameters }
}

fn bloom(name: &'static str, [h, n, l]: [u64; 3], parameters: u64) -> Published {
    let config = json!({
        "model_type": "bloom", "hidden_size": h, "n_head": n, "n_layer": l, "vocab_size": 250_880,
    });
    Published { name, model: "bloom", config, with: &[], parameters }
}

fn gpt2(name: &'static str, [h, n, l]: [u64; 3], parameters: u64) -> Published {
    let config = json!({
        "model_type": "gpt2", "n_embd": h, "n_head": n, "n_layer": l, "n_positions": 1024,
        "n_ctx": 1024, "n_inner": null, "vocab_size": 50257,
    });
    Published { name, model: "gpt2", config, with: &[], parameters }
}

fn mixtral(name: &'static str, [h, n, f, v, l]: [u64; 5], parameters: u64) -> Published {
    let config = json!({
        "model_type": "mixtral", "hidden_size": h, "num_attention_heads": n, "num_key_value_heads": 8,
        "intermediate_size": f, "vocab_size": v, "num_hidden_layers": l, "num_local_experts": 8,
        "num_experts_per_tok": 2, "tie_word_embeddings": false,
    });
    Published { name, model: "mixtral", config, with: &[], parameters }
}

fn phi3(name: &'static str, [h, n, k, f, l]: [u64; 5], parameters: u64) -> Published {
    let config = json!({
        "model_type": "phi3", "hidden_size": h, "num_attention_heads": n, "num_key_value_heads": k,
        "intermediate_size": f, "vocab_size": 32064, "num_hidden_layers": l,
        "tie_word_embeddings": false,
    });
    Published { name, model: "phi3", config, with: &[], parameters }
}

/// `h f n l`
fn opt(name: &'static str, [h, f, n, l]: [u64; 4], parameters: u64) -> Published {
    let config = json!({
        "model_type": "opt", "hidden_size": h, "word_embed_proj_dim": h, "ffn_dim": f,
        "num_attention_heads": n, "num_hidden_layers": l, "vocab_size": 50272,
        "max_position_embeddings": 2048, "do_layer_norm_before": true,
    });
    let with = &[
        "attn.norm",
        "attn.norm.bias",
        "attn.q.bias",
        "attn.k.bias",
        "attn.v.bias",
        "attn.o.bias",
        "mlp.norm",
        "mlp.norm.bias",
        "mlp.up.bias",
        "mlp.down.bias",
        "norm",
        "norm.bias",
    ];
    Published { name, model: "opt", config, with, parameters }
}

/// `h f v l`
fn phi(name: &'static str, [h, f, v, l]: [u64; 4], parameters: u64) -> Published {
    let config = json!({
        "model_type": "phi", "hidden_size": h, "intermediate_size": f, "vocab_size": v,
        "num_attention_heads": 32, "num_key_value_heads": null, "num_hidden_layers": l,
        "qk_layernorm": false, "tie_word_embeddings": false,
    });
    Published { name, model: "phi", config, with: &[], parameters }
}

/// `h n k l f s e`
fn qwen2_moe(name: &'static str, [h, n, k, l, f, s, e]: [u64; 7], parameters: u64) -> Published {
    let config = json!({
        "model_type": "qwen2_moe", "hidden_size": h, "num_attention_heads": n,
        "num_key_value_heads": k, "num_hidden_layers": l, "moe_intermediate_size": f,
        "shared_expert_intermediate_size": s, "num_experts": e, "intermediate_size": s,
        "num_experts_per_tok": s / f, "decoder_sparse_step": 1, "vocab_size": 151_936, "tie_word_embeddings": false,
    });
    let with = &["attn.q.bias", "attn.k.bias", "attn.v.bias"];
    Published { name, model: "qwen2-moe", config, with, parameters }
}

fn published() -> Vec<Published> {
    vec![
        llama("Llama-2-7B", llama_config([4096, 32, 32, 11008, 32000, 32]), 6_738_415_616),
        llama("Llama-2-13B", llama_config([5120, 40, 40, 13824, 32000, 40]), 13_015_864_320),
        llama("Llama-2-70B", llama_config([8192, 64, 8, 28672, 32000, 80]), 68_976_648_192),
        llama("Llama-3-8B", llama_config([4096, 32, 8, 14336, 128_256, 32]), 8_030_261_248),
        llama("Llama-3-70B", llama_config([8192, 64, 8, 28672, 128_256, 80]), 70_553_706_496),
        llama(
            "Llama-3.1-405B",
            llama_config([16384, 128, 8, 53248, 128_256, 126]),
            405_853_388_800,
        ),
        llama(
            "Llama-3.2-1B",
            json!({
                "model_type": "llama", "hidden_size": 2048, "num_attention_heads": 32,
                "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
                "vocab_size": 128_256, "num_hidden_layers": 16, "tie_word_embeddings": true,
            }),
            1_235_814_400,
        ),
        mixtral("Mixtral-8x7B", [4096, 32, 14336, 32000, 32], 46_702_792_704),
        mixtral("Mixtral-8x22B", [6144, 48, 16384, 32000, 56], 140_620_634_112),
        mixtral("Mixtral-8x22B-Instruct", [6144, 48, 16384, 32768, 56], 140_630_071_296),
        phi3("Phi-3-mini", [3072, 32, 32, 8192, 32], 3_821_079_552),
        phi3("Phi-3-medium", [5120, 40, 10, 17920, 40], 13_960_238_080),
        Published {
            name: "Phi-3-small",
            model: "phi3-small",
            // It does not say `tie_word_embeddings`: the default of the class is true.
            config: json!({
                "model_type": "phi3small", "hidden_size": 4096, "num_attention_heads": 32,
                "num_key_value_heads": 8, "ff_intermediate_size": 14336, "vocab_size": 100_352,
                "num_hidden_layers": 32,
            }),
            with: &[],
            parameters: 7_392_272_384,
        },
        Published {
            name: "Phi-3.5-MoE",
            model: "phi3-moe",
            config: json!({
                "model_type": "phimoe", "hidden_size": 4096, "num_attention_heads": 32,
                "num_key_value_heads": 8, "intermediate_size": 6400, "vocab_size": 32064,
                "num_hidden_layers": 32, "num_local_experts": 16, "tie_word_embeddings": false,
            }),
            with: &["attn.q.bias", "attn.k.bias", "attn.v.bias", "attn.o.bias", "head.bias"],
            parameters: 41_873_153_344,
        },
        opt("OPT-125M", [768, 3072, 12, 12], 125_239_296),
        opt("OPT-1.3B", [2048, 8192, 32, 24], 1_315_758_080),
        opt("OPT-6.7B", [4096, 16384, 32, 32], 6_658_473_984),
        opt("OPT-66B", [9216, 36864, 72, 64], 65_719_701_504),
        Published {
            name: "OPT-350M",
            model: "opt",
            config: json!({
                "model_type": "opt", "hidden_size": 1024, "word_embed_proj_dim": 512,
                "ffn_dim": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
                "vocab_size": 50272, "max_position_embeddings": 2048, "do_layer_norm_before": false,
            }),
            with: &[
                "project.in",
                "project.out",
                "attn.norm",
                "attn.norm.bias",
                "attn.q.bias",
                "attn.k.bias",
                "attn.v.bias",
                "attn.o.bias",
                "mlp.norm",
                "mlp.norm.bias",
                "mlp.up.bias",
                "mlp.down.bias",
            ],
            parameters: 331_196_416,
        },
        Published {
            name: "Falcon-7B",
            model: "falcon",
            config: json!({
                "model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71,
                "num_hidden_layers": 32, "vocab_size": 65024, "multi_query": true,
                "new_decoder_architecture": false, "parallel_attn": true, "bias": false,
            }),
            with: &[],
            parameters: 6_921_720_704,
        },
        Published {
            name: "Falcon-RW-1B",
            model: "falcon",
            config: json!({
                "model_type": "falcon", "hidden_size": 2048, "num_attention_heads": 32,
                "num_hidden_layers": 24, "vocab_size": 50304, "multi_query": false,
                "new_decoder_architecture": false, "parallel_attn": false, "bias": true,
                "alibi": true,
            }),
            with: &[
                "attn.q.bias",
                "attn.k.bias",
                "attn.v.bias",
                "attn.o.bias",
                "mlp.norm",
                "mlp.norm.bias",
                "mlp.up.bias",
                "mlp.down.bias",
            ],
            parameters: 1_311_625_216,
        },
        Published {
            name: "Falcon-40B",
            model: "falcon-two-norms",
            config: json!({
                "model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128,
                "num_kv_heads": 8, "num_hidden_layers": 60, "vocab_size": 65024,
                "new_decoder_architecture": true, "multi_query": true, "parallel_attn": true,
                "bias": false,
            }),
            with: &["mlp.norm.bias"],
            parameters: 41_303_293_952,
        },
        phi("Phi-1.5", [2048, 8192, 51200, 24], 1_418_270_720),
        phi("Phi-2", [2560, 10240, 51200, 32], 2_779_683_840),
        qwen2_moe("Qwen1.5-MoE-A2.7B", [2048, 16, 16, 24, 1408, 5632, 60], 14_315_784_192),
        qwen2_moe("Qwen2-57B-A14B", [3584, 28, 4, 28, 2560, 20480, 64], 57_408_658_944),
        bloom("BLOOM 560m", [1024, 16, 24], 559_214_592),
        bloom("BLOOM", [14336, 112, 70], 176_247_271_424),
        pythia("Pythia-70M", [512, 8, 50304, 6], 70_426_624),
        pythia("Pythia-160M", [768, 12, 50304, 12], 162_322_944),
        pythia("Pythia-410M", [1024, 16, 50304, 24], 405_334_016),
        pythia("Pythia-1B", [2048, 8, 50304, 16], 1_011_781_632),
        pythia("Pythia-1.4B", [2048, 16, 50304, 24], 1_414_647_808),
        pythia("Pythia-2.8B", [2560, 32, 50304, 32], 2_775_208_960),
        pythia("Pythia-6.9B", [4096, 32, 50432, 32], 6_857_302_016),
        pythia("Pythia-12B", [5120, 40, 50688, 36], 11_846_072_320),
        pythia("GPT-NeoX-20B", [6144, 64, 50432, 44], 20_554_567_680),
        gpt2("gpt2", [768, 12, 12], 124_439_808),
        gpt2("gpt2-medium", [1024, 16, 24], 354_823_168),
        gpt2("gpt2-large", [1280, 20, 36], 774_030_080),
        gpt2("gpt2-xl", [1600, 25, 48], 1_557_611_200),
    ]
}

#[test]
fn parameters_are_as_many_as_published() {
    for model in published() {
        let shards = model.shards("hf", "").unwrap_or_else(|why| panic!("{}: {why}", model.name));
        let of = |param: &ucl_plan::Param| param.dims.iter().map(|dim| dim.extent).product::<u64>();
        let count: u64 = shards.params.iter().map(of).sum();
        assert_eq!(count, model.parameters, "{}", model.name);
        let stored = &shards.ranks[0].tensors;
        let stored: u64 = stored.iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
        assert_eq!(stored, model.parameters, "{}: what is stored", model.name);
    }
}

/// Heads have 64 rows in the smallest Llama 3.2 and in GPT-2, 96 in Phi-3-mini: never assume 128.
#[test]
fn the_rows_of_a_head_are_what_the_config_says() {
    let heads = [
        ("Llama-3.2-1B", 64),
        ("Llama-3.1-405B", 128),
        ("Phi-3-mini", 96),
        ("gpt2", 64),
        ("Llama-3-8B", 128),
    ];
    for (name, rows) in heads {
        let models = published();
        let model = models.iter().find(|model| model.name == name).expect("published");
        assert_eq!(model.numbers()["d"], rows, "{name}");
    }
}

/// Every view on the mesh of a usual run; GPT-2 XL has 25 heads and is cut by 5.
#[test]
fn each_fits_a_mesh_in_each_of_its_views() {
    for model in published() {
        let tp = if model.name == "gpt2-xl" { 5 } else { 2 };
        for view in model.program().views.values().filter(|view| view.lacking.is_empty()) {
            let axes: Vec<&str> = view
                .layouts
                .first()
                .and_then(|name| model.program().layouts.get(name))
                .map_or(Vec::new(), |layout| layout.axes.iter().map(|a| a.name.as_str()).collect());
            let pp = if model.numbers()["l"] % 2 == 0 { 2 } else { 1 };
            let usual = [("tp", tp), ("pp", pp), ("ep", 2)];
            let on: Vec<String> = usual
                .iter()
                .filter(|(axis, _)| axes.contains(axis))
                .map(|(axis, ranks)| format!("{axis}={ranks}"))
                .collect();
            let shards = model.shards(&view.name, &on.join(" "));
            let shards = shards
                .unwrap_or_else(|why| panic!("{} {} on {on:?}: {why}", model.name, view.name));
            assert!(shards.ranks.iter().all(|rank| !rank.tensors.is_empty()));
        }
    }
}

/// Medium has ten groups of kv heads. Its 7680 fused rows divide by 4, the groups do not.
#[test]
fn phi3_medium_is_cut_between_whole_groups_alone() {
    let models = published();
    let medium = models.iter().find(|model| model.name == "Phi-3-medium").expect("published");
    let views =
        ["megatron", "megatron-v0", "mcore", "mcore-local", "deepspeed", "deepspeed-thirds"];
    for view in views {
        for tp in [1, 2, 5, 10] {
            let on = format!("tp={tp}");
            assert!(medium.shards(view, &on).is_ok(), "{view} on {on}");
        }
        for tp in [4, 8] {
            assert!(medium.shards(view, &format!("tp={tp}")).is_err(), "{view} on tp={tp}");
        }
    }
    // Megatron core cuts on through the groups where each is cut alike.
    for tp in [20, 40] {
        assert!(medium.shards("mcore", &format!("tp={tp}")).is_ok(), "mcore on tp={tp}");
    }
    let told = medium.shards("mcore", "tp=4").err().expect("refused");
    assert!(told.contains("k=10 tp=4"), "{told}");
    let advice = "these would do: tp=1, tp=2, tp=5, tp=10, tp=20, tp=40";
    assert!(told.contains(advice), "{told}");
}

/// A table for a vocabulary that training has padded is not trimmed, and padded no more where it fits.
#[test]
fn a_vocabulary_is_padded_by_megatrons_formula() {
    // Section "vocabulary" of Megatron's arguments: rounded up to 128 * tp.
    let cases: [(&str, &[(u64, u64)]); 5] = [
        ("gpt2", &[(1, 50304), (2, 50432), (4, 50688)]),
        ("Llama-2-7B", &[(1, 32000), (2, 32000), (4, 32256), (8, 32768)]),
        ("Phi-3-mini", &[(1, 32128), (2, 32256), (4, 32256), (8, 32768)]),
        ("Llama-3-8B", &[(1, 128_256), (2, 128_256), (4, 128_512), (8, 129_024)]),
        ("Pythia-6.9B", &[(1, 50432), (2, 50432)]),
    ];
    let models = published();
    for (name, padded) in cases {
        let model = models.iter().find(|model| model.name == name).expect("published");
        for (tp, rows) in padded {
            let shards = model.shards("mcore", &format!("tp={tp}")).expect("it fits");
            assert_eq!(shards.padded["v"], *rows, "{name} on tp={tp}");
            let (table, shape) = &shards.ranks[0].tensors[0];
            assert_eq!(table, "embedding.word_embeddings.weight");
            assert_eq!(shape[0], rows / tp, "{name} on tp={tp}");
        }
    }
}

/// What one file of Llama 3.1 405B in 16 parts holds: each kv head lies in two.
#[test]
fn the_parts_of_the_405b() {
    let models = published();
    let model = models.iter().find(|model| model.name == "Llama-3.1-405B").expect("published");
    let shards = model.shards("meta", "tp=16").expect("it fits");
    let rank = &shards.ranks[5];
    let shape = |end: &str| &rank.tensors.iter().find(|(n, _)| n.ends_with(end)).expect("there").1;
    assert_eq!(shape("layers.7.attention.wq.weight"), &[1024, 16384]);
    assert_eq!(shape("layers.7.attention.wk.weight"), &[128, 16384]);
    assert_eq!(shape("layers.7.attention.wv.weight"), &[128, 16384]);
    assert_eq!(shape("layers.7.attention.wo.weight"), &[16384, 1024]);
    assert_eq!(shape("layers.7.feed_forward.w2.weight"), &[16384, 3328]);
    assert_eq!(shape("tok_embeddings.weight"), &[8016, 16384]);
}

/// The config of another model is not taken for this one's.
#[test]
fn each_size_is_said() {
    for model in published() {
        let numbers = model.numbers();
        for dim in ["l", "h", "f", "v", "n", "k", "d"] {
            assert!(numbers.contains_key(dim), "{}: {dim}", model.name);
        }
    } // `n_inner` is null in the published ones, and counts where it is not.
    let mut own = gpt2("gpt2", [768, 12, 12], 0);
    assert_eq!(own.numbers()["f"], 3072);
    own.config["n_inner"] = json!(2000);
    assert_eq!(own.numbers()["f"], 2000);
}
