//! Flags that say what to make, and how to run.

use super::value;
use clap::{Args, ValueEnum};
use ucl_formats::deepspeed::write::Zero;
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
    /// The ZeRO stage of a DeepSpeed run, or its `bf16-optimizer` [default: the source's, else 1]
    #[arg(long, value_name = "STAGE", value_enum)]
    pub(crate) zero: Option<ZeroArg>,
    /// `sub_group_size` of the config that loads a ZeRO-3 run, in elements
    #[arg(long, value_name = "N", default_value_t = Zero::SUB_GROUP_SIZE)]
    pub(crate) sub_group_size: u64,
    /// The type of the weights (`bf16`, `fp32`); optimizer states keep theirs. A Hugging Face model
    /// has that of the model's own weights if none is said
    #[arg(long, value_parser = value::dtype)]
    pub(crate) dtype: Option<DType>,
    /// Weights alone, or optimizer states too [default: all; weights for a Hugging Face model, which
    /// keeps the states in its folder `optimizer`]
    #[arg(long, value_enum)]
    pub(crate) states: Option<StatesArg>,
    /// Start another file after this many bytes
    #[arg(long, value_name = "SIZE", value_parser = value::bytes, default_value = "5GB")]
    pub(crate) max_file_size: u64,
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
