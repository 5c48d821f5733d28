//! What was typed, as plain data. What it means is resolved in `source` and `target`.

mod lora;
mod source;
mod synth;
mod target;
mod value;

pub(crate) use lora::LoraArgs;
pub(crate) use source::SourceArgs;
pub(crate) use synth::SynthArgs;
pub(crate) use target::{Format, OptimizerArg, RunArgs, StatesArg, TargetArgs, ZeroArg};

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Converts distributed LLM checkpoints: any framework, any number of ranks.
///
/// Exit codes: 0 it is done; 2 it could not be done; 1 the answer is no (check, test, fmt --check,
/// diff and verify only).
#[derive(Debug, Parser)]
#[command(name = "ucl", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Typed {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Print one JSON document instead of text
    #[arg(long, global = true, display_order = 1000)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what a checkpoint is: framework, mesh, model, view, states, sizes
    Inspect(InspectArgs),
    /// Convert a checkpoint
    Convert(ConvertArgs),
    /// Show what `convert` would do, without doing it
    Plan(PlanArgs),
    /// Write the spec of a checkpoint that describes itself
    Derive(DeriveArgs),
    /// Show where each slice of a tensor comes from
    Explain(ExplainArgs),
    /// Compare two checkpoints of any kinds, value by value
    Diff(DiffArgs),
    /// Check a checkpoint's digests and that nothing is missing
    Verify(VerifyArgs),
    /// Check specs: every equation, name and layout
    Check(CheckArgs),
    /// Run the tests of specs: round trips between all views on several meshes, expected numbers
    Test(TestArgs),
    /// Format specs
    Fmt(FmtArgs),
    /// Print a spec with everything it inherits
    Compile(CompileArgs),
    /// List the built-in specs, their views and layouts
    Specs(SpecsArgs),
    /// Make a checkpoint of any size whose values follow from their addresses, for tests
    Synth(SynthArgs),
}

/// `ucl inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A run's folder, a step's folder, a file, or a universal folder
    #[arg(value_name = "CKPT")]
    pub(crate) checkpoint: PathBuf,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// `ucl convert`
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// What to convert: a run's folder, a step's folder, a file, or a universal folder
    #[arg(value_name = "SRC")]
    pub(crate) checkpoint: PathBuf,
    /// The folder to make; it appears complete or not at all
    #[arg(value_name = "DST")]
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Replace DST if it exists, once the new one is complete
    #[arg(long, help_heading = "Running")]
    pub(crate) overwrite: bool,
}

/// `ucl plan`
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// What would be converted
    #[arg(value_name = "SRC")]
    pub(crate) checkpoint: PathBuf,
    /// The folder that would be made; it is not touched
    #[arg(value_name = "DST")]
    pub(crate) destination: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Accepted so that a `convert` line can be pasted
    #[arg(long, hide = true)]
    pub(crate) overwrite: bool,
    /// Print every move
    #[arg(long)]
    pub(crate) full: bool,
}

/// `ucl derive`
#[derive(Debug, Args)]
pub(crate) struct DeriveArgs {
    /// A checkpoint with `universal_checkpoint_info`: DeepSpeed's AutoTP, Megatron-DeepSpeed
    #[arg(value_name = "CKPT")]
    pub(crate) checkpoint: PathBuf,
}

/// `ucl explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The checkpoint
    #[arg(value_name = "CKPT")]
    pub(crate) checkpoint: PathBuf,
    /// A tensor: its universal name (`l.3.attn.q`), its name in --view, or its stored name
    pub(crate) name: String,
    /// Whose names: `universal`, `stored` or a view of the model
    #[arg(long, value_name = "VIEW", default_value = "universal")]
    pub(crate) view: String,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// `ucl diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// One checkpoint
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// The other; of any kind
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    /// Compare weights alone
    #[arg(long, value_enum, default_value_t = StatesArg::All)]
    pub(crate) states: StatesArg,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `ucl verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The checkpoint
    #[arg(value_name = "CKPT")]
    pub(crate) checkpoint: PathBuf,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `ucl check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Spec files; what they extend is looked for among them, then among the built-in specs
    #[arg(value_name = "SPEC", required = true)]
    pub(crate) specs: Vec<PathBuf>,
}

/// `ucl test`
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Spec files; what they extend is looked for among them, then among the built-in specs
    #[arg(value_name = "SPEC", required = true)]
    pub(crate) specs: Vec<PathBuf>,
}

/// `ucl fmt`
#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Spec files
    #[arg(value_name = "SPEC", required = true)]
    pub(crate) specs: Vec<PathBuf>,
    /// Change nothing; exit with 1 if a file is not formatted
    #[arg(long)]
    pub(crate) check: bool,
}

/// `ucl compile`
#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// A spec file, or the name of a built-in spec
    #[arg(value_name = "SPEC")]
    pub(crate) spec: String,
    /// Print this view alone
    #[arg(long, value_name = "VIEW")]
    pub(crate) view: Option<String>,
}

/// `ucl specs`
#[derive(Debug, Args)]
pub(crate) struct SpecsArgs {}
