//! The checkpoints that the support matrix is made of.

/// One checkpoint, and how it is held against its oracle.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// The fixture.
    pub(crate) fixture: &'static str,
    /// The checkpoint in it.
    pub(crate) within: &'static str,
    /// Flags without which nothing can be said of it.
    pub(crate) flags: &'static [&'static str],
    /// Flags for the names that the oracle has.
    pub(crate) names: &'static [&'static str],
    /// The fixture whose `config.json` goes with the model.
    pub(crate) config: Option<&'static str>,
    /// Whether it becomes a Hugging Face model.
    pub(crate) hf: bool,
    /// Who wrote it.
    pub(crate) by: By,
}

/// Who wrote a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The framework itself.
    Framework,
    /// We did, by the format's description: no framework vouches for it.
    Hand,
}

impl Row {
    /// A run under its framework's own names.
    const fn run(fixture: &'static str) -> Row {
        Row {
            fixture,
            within: "",
            flags: &[],
            names: &["--view", "stored"],
            config: None,
            hf: false,
            by: By::Framework,
        }
    }

    /// A folder of transformers.
    const fn model(fixture: &'static str) -> Row {
        Row { within: "hf", hf: true, ..Row::run(fixture) }
    }

    /// A run of a small Llama, whose sizes no config says.
    const fn ranks(fixture: &'static str) -> Row {
        let (flags, names) = (&["--set", "n=4", "--set", "k=2"], &["--view", "hf"]);
        Row { within: "run", flags, names, hf: true, ..Row::run(fixture) }
    }

    /// Files that we cut as Meta and Mistral do.
    const fn cut(fixture: &'static str) -> Row {
        let names = &["--view", "hf"];
        Row { within: "weights", names, hf: true, by: By::Hand, ..Row::run(fixture) }
    }

    /// Its model is the one of this fixture.
    const fn of(self, config: &'static str) -> Row {
        Row { config: Some(config), hf: true, ..self }
    }

    /// No config is needed for its Hugging Face form.
    const fn to_hf(self) -> Row {
        Row { hf: true, ..self }
    }

    const fn flags(self, flags: &'static [&'static str]) -> Row {
        Row { flags, ..self }
    }

    const fn names(self, names: &'static [&'static str]) -> Row {
        Row { names, ..self }
    }

    const fn by_hand(self) -> Row {
        Row { by: By::Hand, ..self }
    }
}

/// No spec says how the tensor ranks of this one fit together; the reader's own tests hold it against its
/// oracle.
pub(crate) const READ_ALONE: &[&str] = &["moe-z1-tp2-shared-indexed"];

/// All of them: a fixture with an oracle that is not here fails a test.
pub(crate) const ROWS: &[Row] = &[
    Row::run("z1-llama-fp32-dp2").of("hf-llama-fp32"),
    Row::run("z1-llama-fp16-dp2").of("hf-llama-fp32"),
    Row::run("z1-llama-bf16opt-dp2-groups2").of("hf-llama-fp32"),
    Row::run("z1-gpt2-fp32-dp4-groups3").of("hf-gpt2-fp32"),
    Row::run("z1-mixtral-bf16-dp2").of("hf-mixtral-fp32"),
    Row::run("z2-llama-bf16-dp2-frozen").of("hf-llama-fp32"),
    // 13 of its parameters are in no file: no full view of it can be written.
    Row::run("z2-qwen2-fp32-dp2-frozen-excl").flags(&["--view", "stored"]),
    Row::run("megds-llama-tp2-pp2-dp1-bf16").to_hf(),
    Row::run("megds-llama-tp2-pp1-dp1-z1-nopipe-fp32").to_hf(),
    Row::run("megds-gpt-tp2-pp2-dp1-bf16").flags(&["--from-view", "deepspeed-pipe"]).to_hf(),
    Row::run("ds-z1-tp2-dp2-bf16").to_hf(),
    Row::run("ds-z1-align-dp2-bf16"),
    Row::run("ds-z1-buffer-tied-dp2-bf16"),
    Row::run("ds-z1-lion-dp2-fp32"),
    Row::run("ds-z1-roundrobin-dp2-fp32"),
    Row::run("ds-z1-sgd-dp2-fp32"),
    Row::run("ds-z2-adagrad-dp2-fp32"),
    Row::run("ds-z2-muon-dp3-bf16"),
    Row::run("ds-z2-roundrobin-dp3-bf16"),
    Row::run("dschat-actor-lora-llama-z3-bf16-dp2"),
    Row::run("z3-llama-bf16-dp4-groups2").of("hf-llama-fp32"),
    Row::run("z3-phi3-fp32-dp2-frozen").of("hf-phi3-fp32"),
    Row::run("ds-z3-autotp-tp2-dp2-bf16")
        .flags(&["--set", "n=4", "--set", "k=2"])
        .names(&["--view", "hf"])
        .to_hf(),
    Row::run("ds-z1-adamw-dp2-fp32"),
    Row::run("ds-z2-adamw-dp2-fp32"),
    Row::run("ds-z3-adamw-dp2-fp32"),
    Row::run("ds-z3-adagrad-dp2-fp32"),
    Row::run("ds-z3-gathered-dp2-bf16"),
    Row::run("ds-z3-lion-dp2-fp32"),
    Row::run("ds-z3-sgd-dp2-fp32"),
    Row::run("ds-z3-subgroups-dp3-bf16"),
    // It says itself how its parts fit together; the config says what they are.
    Row::run("autotp-llama-tp2-dp2-z1-fp32").of("hf-llama-fp32"),
    Row::run("ds-z0-dp2-fp32"),
    Row::run("ds-pipe-pp2-dp1-fp32"),
    Row::run("ds-z0-dp2-bf16"),
    Row::run("ds-z1-elastic-dp2-fp32"),
    Row::run("ds-z2-elastic-dp3-bf16"),
    Row::run("dsmoe-ep2-z1-fp32"),
    Row::run("moe-z0-ep2-dp2-fp32"),
    Row::run("moe-z1-ep2-dp4-fp32"),
    Row::run("moe-z1-pp2-ep2-dp2-fp32"),
    Row::run("moe-z1-residual-dp2-fp32"),
    Row::run("moe-z2-data-first-dp4-bf16"),
    Row::run("moe-z1-legacy-dp4-indexed").by_hand(),
    Row::run("autoep-z1-ep2-dp4-indexed").by_hand(),
    Row::run("autoep-z3-ep2-dp4-fp32"),
    Row::run("ds-z3-universal-fp32"),
    Row::run("same-z1-llama-fp32-dp2").to_hf(),
    Row::run("same-fsdp2-llama-fp32-dp2").to_hf(),
    Row::run("fsdp2-llama-fp32-w2").of("hf-llama-fp32"),
    Row::run("dcp-2d-w4"),
    Row::run("dcp-accelerate-w2"),
    Row::run("dcp-fsdp1-w3"),
    Row::run("dcp-hf-w2"),
    Row::run("dcp-raw-w4"),
    Row::run("dcp-safetensors-w2"),
    Row::run("mlm-llama-tp2-pp2-bf16-torch").to_hf(),
    Row::run("mlm-gpt-tp1-pp2-bf16-torch-tied").flags(&["--spec", "gpt2"]).to_hf(),
    Row::run("mlm-mixtral-tp1-pp1-ep2-bf16-torch").to_hf(),
    Row::run("mlm-llama-tp2-pp2-bf16-torchdist").names(&["--view", "mcore-local"]).to_hf(),
    Row::run("mfsdp-llama-w2").flags(&["--set", "v=21"]).names(&["--view", "hf"]).to_hf(),
    Row::ranks("rank-fsdp2-w4"),
    Row::ranks("rank-hsdp-w4"),
    Row::ranks("rank-tp-w4"),
    Row::ranks("rank-fsdp1-w2"),
    Row::ranks("whole-fsdp1"),
    Row { flags: &[], ..Row::ranks("trainer-llama") },
    Row { flags: &[], ..Row::ranks("trainer-llama-bin") },
    Row::cut("meta-llama2-mp2"),
    Row::cut("meta-llama3-mp2"),
    Row::cut("meta-llama3-mp4"),
    Row::cut("meta-mistral"),
    Row::cut("meta-mixtral-files3"),
    Row::model("hf-gpt2-bf16-sharded"),
    Row::model("hf-gpt2-fp32"),
    Row::model("hf-gptneox-fp32").names(&["--view", "hf5"]),
    Row::model("hf-llama-bf16-sharded"),
    Row::model("hf-llama-bf16-sharded-tf5"),
    Row::model("hf-llama-fp16-bin"),
    Row::model("hf-llama-fp32"),
    Row::model("hf-llamabias-bf16-sharded"),
    Row::model("hf-llamatied-fp32"),
    Row::model("hf-mistral-bf16"),
    Row::model("hf-mixtral-bf16-sharded"),
    Row::model("hf-mixtral-bf16-sharded-tf5").names(&["--view", "hf5"]),
    Row::model("hf-mixtral-fp32"),
    Row::model("hf-phi3-fp32"),
    Row::model("hf-phi3small-indexed").by_hand(),
    Row::model("hf-phimoe-bf16").names(&["--view", "hf5"]),
    Row::model("hf-qwen2-bf16-sharded"),
    Row::model("hf-qwen2moe-sparse-bf16").names(&["--view", "hf5"]),
];
