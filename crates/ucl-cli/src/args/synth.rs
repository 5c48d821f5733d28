//! `ucl synth`

use super::target::{Format, RunArgs};
use super::value;
use clap::Args;
use std::path::PathBuf;
use ucl_ir::Mesh;
use ucl_tensor::DType;

/// `ucl synth`
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// A spec file, or the name of a built-in spec
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// The folder to make; it appears complete or not at all
    #[arg(value_name = "DST")]
    pub(crate) destination: PathBuf,
    /// The size of a dim (`l=8`); may be repeated
    #[arg(long, value_name = "DIM=N", value_parser = value::size_of_dim, help_heading = "The model")]
    pub(crate) set: Vec<(String, u64)>,
    /// A folder with a config.json, to read dims from; --set goes before it
    #[arg(long, value_name = "DIR", help_heading = "The model")]
    pub(crate) config: Option<PathBuf>,
    /// Make optional parameters too: a path, all below it, or `bias` for every bias; may be repeated
    #[arg(long, value_name = "PARAM", help_heading = "The model")]
    pub(crate) with: Vec<String>,
    /// The head is the embedding
    #[arg(long, help_heading = "The model")]
    pub(crate) tied: bool,
    /// The format; this version makes `deepspeed`
    #[arg(long, value_name = "FORMAT", value_enum, help_heading = "What to make")]
    pub(crate) to: Format,
    /// Whose names and shapes: a view of the model
    #[arg(long, value_name = "VIEW", help_heading = "What to make")]
    pub(crate) view: String,
    /// The mesh to cut for (`tp=2,pp=2,dp=2`)
    #[arg(long, value_name = "MESH", value_parser = value::mesh, help_heading = "What to make")]
    pub(crate) mesh: Option<Mesh>,
    /// The type of the weights; optimizer states are fp32
    #[arg(long, value_parser = value::dtype, default_value = "bf16", help_heading = "What to make")]
    pub(crate) dtype: DType,
    /// The step that it is saved at
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "What to make")]
    pub(crate) step: u64,
    /// Leave the values out: files of full length that take no room, all zeros
    #[arg(long, help_heading = "What to make")]
    pub(crate) sparse: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Replace DST if it exists, once the new one is complete
    #[arg(long, help_heading = "Running")]
    pub(crate) overwrite: bool,
}
