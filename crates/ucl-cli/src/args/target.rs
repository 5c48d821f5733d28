//! Flags that say what to make, and how to run.

use super::value;
use clap::{Args, ValueEnum};
use ucl_ir::Mesh;
use ucl_tensor::DType;

/// What to make.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What to make")]
pub(crate) struct TargetArgs {
    /// The format
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Universal)]
    pub(crate) to: Format,
    /// Whose names and shapes: `universal`, `stored` (the source's own, every cut undone), or a
    /// view of the model [default: universal; hf for a Hugging Face model]
    #[arg(long, value_name = "VIEW")]
    pub(crate) view: Option<String>,
    /// The mesh to cut for (`tp=2,pp=2,dp=4`), for formats of one file per rank; an axis that is left
    /// out has one rank [default: the mesh of the source; tp=1 for FastGen]
    #[arg(long, value_name = "MESH", value_parser = value::mesh)]
    pub(crate) mesh: Option<Mesh>,
    /// How many layers each pipeline stage has (`--stages 3,5`), in the order of the model: pp numbers, or
    /// pp * vpp for interleaved stages [default: all the same]
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    pub(crate) stages: Vec<u64>,
    /// The ZeRO stage of a DeepSpeed run, or its `bf16-optimizer` [default: the source's, else 1]
    #[arg(long, value_name = "STAGE", value_enum)]
    pub(crate) zero: Option<ZeroArg>,
    /// `sub_group_size` of the config that loads a ZeRO-3 run, in elements [default: 1000000000]
    #[arg(long, value_name = "N")]
    pub(crate) sub_group_size: Option<u64>,
    /// The optimizer of a `torch-dist` run: that of `--use-distributed-optimizer`, or the one without
    /// [default: the source's, else distributed where the states are Adam's]
    #[arg(long, value_name = "WHICH", value_enum)]
    pub(crate) optimizer: Option<OptimizerArg>,
    /// The type of the weights (`bf16`, `fp32`); optimizer states keep theirs. A Hugging Face model
    /// has that of the model's own weights if none is said
    #[arg(long, value_parser = value::dtype)]
    pub(crate) dtype: Option<DType>,
    /// Weights alone, or optimizer states too [default: all; weights for a Hugging Face model, which
    /// keeps the states in its folder `optimizer`]
    #[arg(long, value_enum)]
    pub(crate) states: Option<StatesArg>,
    /// Start another file after this many bytes [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = value::bytes)]
    pub(crate) max_file_size: Option<u64>,
}

impl TargetArgs {
    /// The flags that are typed and say nothing about some formats, with those that they are for.
    pub(crate) fn particular(&self) -> Vec<(&'static str, &'static [Format])> {
        use Format::{Deepspeed, DeepspeedUniversal, Hf, Megatron, TorchDist, Universal};
        let flags: [(&str, bool, &[Format]); 5] = [
            ("--zero", self.zero.is_some(), &[Deepspeed]),
            ("--sub-group-size", self.sub_group_size.is_some(), &[Deepspeed]),
            ("--optimizer", self.optimizer.is_some(), &[TorchDist]),
            ("--stages", !self.stages.is_empty(), &[Deepspeed, DeepspeedUniversal, Megatron]),
            ("--max-file-size", self.max_file_size.is_some(), &[Universal, Hf]),
        ];
        let typed = flags.into_iter().filter(|(_, typed, _)| *typed);
        typed.map(|(flag, _, formats)| (flag, formats)).collect()
    }
}

impl Format {
    /// As it is typed: `--to hf`.
    pub(crate) fn typed(self) -> String {
        let value = self.to_possible_value();
        format!("--to {}", value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// A format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A universal folder: `ucl.json` and safetensors files
    Universal,
    /// A Hugging Face model: what `from_pretrained` loads
    Hf,
    /// DeepSpeed's own universal format
    DeepspeedUniversal,
    /// DeepSpeed, per rank
    Deepspeed,
    /// Megatron, per rank
    Megatron,
    /// Megatron's torch_dist
    TorchDist,
    /// PyTorch's distributed checkpoint
    Dcp,
    /// What the steps of DeepSpeed-Chat load: an actor, a critic or a reward model
    DeepspeedChat,
    /// DeepSpeed-FastGen, per rank, serialised
    Fastgen,
}

/// How DeepSpeed cuts the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ZeroArg {
    /// Stage 1
    #[value(name = "1")]
    One,
    /// Stage 2
    #[value(name = "2")]
    Two,
    /// Stage 3
    #[value(name = "3")]
    Three,
    /// The optimizer of bf16 runs with fp32 gradients, which Megatron-DeepSpeed takes
    Bf16Optimizer,
}

/// Which of Megatron's optimizers goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OptimizerArg {
    /// Data-parallel ranks share it out
    Distributed,
    /// Each of them has all of it
    Plain,
}

/// States to write or compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatesArg {
    /// Weights alone
    Weights,
    /// Weights and optimizer states
    All,
}

/// How to run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Running")]
pub(crate) struct RunArgs {
    /// Threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(crate) jobs: Option<u64>,
    /// Bytes of data in memory at any time (`64MiB`, `1GiB`)
    #[arg(long, value_name = "SIZE", value_parser = value::bytes, default_value = "1GiB")]
    pub(crate) memory: u64,
}
