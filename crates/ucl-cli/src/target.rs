//! What is to be made, from what was typed.

use crate::args::{Format, OptimizerArg, RunArgs, StatesArg, TargetArgs, ZeroArg};
use crate::failure::{Stop, refuse};
use ucl_exec::Options;
use ucl_formats::deepspeed::write::{Zero, most_expert_ranks};
use ucl_formats::inventory::Framework;
use ucl_formats::{Format as Made, Inventory, MegatronOptimizer, megatron_argument};
use ucl_ir::Mesh;
use ucl_plan::{HUGGING_FACE_VIEW, Naming, States, Target};

/// The view of what FastGen serialises; others extend it.
const FASTGEN_VIEW: &str = "fastgen";

/// The bytes of a file that another is started after, if none are said.
const MOST_BYTES: u64 = 5_000_000_000;

/// Whose names `--view` means.
pub(crate) fn naming(view: &str) -> Naming {
    match view {
        "universal" => Naming::Universal,
        "stored" => Naming::Stored,
        view => Naming::View(view.to_owned()),
    }
}

/// What `--states` means.
pub(crate) fn states(states: StatesArg) -> States {
    match states {
        StatesArg::Weights => States::Weights,
        StatesArg::All => States::All,
    }
}

/// The target that the flags describe, for a checkpoint of which this is known.
///
/// Fails for what this version cannot make.
pub(crate) fn target(args: &TargetArgs, source: &Inventory) -> Result<Target, Stop> {
    fitting(args)?;
    let (format, view, all) = match args.to {
        Format::Universal => (Made::Universal, "universal", States::All),
        Format::Hf => (Made::HuggingFace, HUGGING_FACE_VIEW, States::Weights),
        Format::Deepspeed => (Made::DeepSpeed(zero(args, source)?), "stored", States::All),
        Format::Megatron => (Made::Megatron, megatron_view(source), States::All),
        Format::TorchDist => {
            (Made::TorchDist(optimizer(args, source)), torch_dist_view(source), States::All)
        }
        Format::Dcp => (Made::Dcp, "stored", States::All),
        Format::DeepspeedChat => (Made::DeepSpeedChat, HUGGING_FACE_VIEW, States::Weights),
        Format::DeepspeedUniversal => (Made::DeepSpeedUniversal, "stored", States::All),
        Format::Fastgen => (Made::FastGen, FASTGEN_VIEW, States::Weights),
    };
    if format == Made::FastGen && args.states == Some(StatesArg::All) {
        return Err(refuse(
            "FastGen serves a model, and has no place for an optimizer's states",
            "leave --states out",
        ));
    }
    let states = args.states.map_or(all, states);
    let view = args.view.as_deref().unwrap_or(view);
    if format == Made::Megatron && ["megatron-v0", "megatron-v1"].contains(&view) {
        return Err(refuse(
            format!(
                "a step is written as of checkpoint version 3, and `{view}` is of an older one"
            ),
            "leave --view out, or say `--view megatron`",
        ));
    }
    if format == Made::DeepSpeedChat && states == States::All {
        return Err(refuse(
            "DeepSpeed-Chat saves no optimizer, and its steps load none",
            "leave --states out; `--to hf --states all` keeps the states beside the weights",
        ));
    }
    Ok(Target {
        format,
        mesh: mesh(args, source, format)?,
        stages: args.stages.clone(),
        naming: naming(view),
        dtype: args.dtype,
        states,
        max_file_bytes: args.max_file_size.unwrap_or(MOST_BYTES),
    })
}

/// The mesh that is typed; for a format that is cut the source's if none is.
fn mesh(args: &TargetArgs, source: &Inventory, format: Made) -> Result<Mesh, Stop> {
    if format == Made::FastGen {
        // The mesh that a model was trained on says nothing of the one that it is served on.
        return Ok(args.mesh.clone().unwrap_or_default());
    }
    if format.is_cut() {
        let own = source.universal.as_ref().map_or(&source.mesh, |made| &made.source.mesh);
        let mut own = own.clone();
        // Other axes are no cuts of FSDP's.
        own.retain(|axis, _| format != Made::Dcp || axis == "dp");
        // DeepSpeed's experts are shared out over ranks that are counted already.
        if format.shares_experts_out() {
            own.shift_remove("ep");
            let ranks = source.optimizer.as_ref().and_then(most_expert_ranks);
            own.extend(ranks.map(|ranks| ("ep".to_owned(), ranks)));
        }
        return Ok(args.mesh.clone().unwrap_or(own));
    }
    let Some((axis, _)) = args.mesh.iter().flatten().find(|(_, size)| **size > 1) else {
        return Ok(Mesh::new());
    };
    let a = match format {
        Made::HuggingFace => "a Hugging Face model",
        Made::DeepSpeedChat => "a model of DeepSpeed-Chat's",
        _ => "a universal checkpoint",
    };
    Err(refuse(
        format!("{a} is not cut, so --mesh has no use for `{axis}`"),
        "leave --mesh out: every tensor is whole, and any rank of any mesh finds its slices in it",
    ))
}

/// Refuses a flag that says nothing about the format.
fn fitting(args: &TargetArgs) -> Result<(), Stop> {
    let mut typed = args.particular().into_iter();
    let Some((flag, formats)) = typed.find(|(_, formats)| !formats.contains(&args.to)) else {
        return Ok(());
    };
    let known: Vec<String> = formats.iter().map(|format| format!("`{}`", format.typed())).collect();
    Err(refuse(
        format!("`{flag}` says nothing about `{}`", args.to.typed()),
        format!("it is for {}: leave it out", known.join(", ")),
    ))
}

/// How a DeepSpeed run cuts its optimizer: as it is typed, else as the source does.
fn zero(args: &TargetArgs, source: &Inventory) -> Result<Zero, Stop> {
    let sub_group_size = args.sub_group_size.unwrap_or(Zero::SUB_GROUP_SIZE);
    let typed = args.zero.map(|zero| match zero {
        ZeroArg::One => Zero::One,
        ZeroArg::Two => Zero::Two,
        ZeroArg::Three => Zero::Three { sub_group_size },
        ZeroArg::Bf16Optimizer => Zero::Bf16Optimizer,
    });
    let own = || Zero::of_optimizer(source.optimizer.as_ref()?.name.as_ref()?);
    match typed.or_else(own).unwrap_or(Zero::One) {
        Zero::Three { .. } => Ok(Zero::Three { sub_group_size }),
        _ if args.sub_group_size.is_some() => Err(refuse(
            "`--sub-group-size` says nothing about another stage than ZeRO-3",
            "leave it out, or say `--zero 3`",
        )),
        zero => Ok(zero),
    }
}

/// Which of Megatron's optimizers goes on: as it is typed, else as the source says. Most runs have the
/// distributed one, which has the states of Adam alone.
fn optimizer(args: &TargetArgs, source: &Inventory) -> MegatronOptimizer {
    let said = |key: &str| megatron_argument(source, key)?.as_bool();
    // Megatron-DeepSpeed has ZeRO in its place.
    let own = || said("use_distributed_optimizer").filter(|_| said("deepspeed") != Some(true));
    let adam = ["param", "fp32", "exp_avg", "exp_avg_sq"];
    let is_adam = || source.tensors.iter().all(|tensor| adam.contains(&tensor.state.as_str()));
    let typed = args.optimizer.map(|which| which == OptimizerArg::Distributed);
    match typed.or_else(own).unwrap_or_else(is_adam) {
        true => MegatronOptimizer::Distributed,
        false => MegatronOptimizer::Plain,
    }
}

/// The view of a Megatron's ranks: the source's own, else that of Megatron-core's modules as the source
/// says that they were made.
fn megatron_view(source: &Inventory) -> &'static str {
    let remembered = source.universal.as_ref().and_then(|made| made.source.view.as_deref());
    let own = remembered
        .is_some_and(|view| ["megatron", "mcore"].iter().any(|known| view.starts_with(known)));
    let old = megatron_argument(source, "checkpoint_version")
        .and_then(|version| version.as_f64())
        .is_some_and(|version| version < 2.0);
    let local = megatron_argument(source, "transformer_impl")
        .is_some_and(|made| made.as_str() == Some("local"));
    match (source.framework == Framework::Megatron || own, old, local) {
        // Their order of queries, keys and values is that of no version that is written.
        (true, true, _) => "megatron",
        (true, false, _) => "stored",
        (false, _, true) => "mcore-local",
        (false, _, false) => "mcore",
    }
}

/// The view of Megatron-core's sharded saves.
fn torch_dist_view(source: &Inventory) -> &'static str {
    let remembered = source.universal.as_ref().and_then(|made| made.source.view.as_deref());
    let own = remembered.is_some_and(|view| view.starts_with("torch-dist"));
    if source.framework == Framework::MegatronDist || own { "stored" } else { "torch-dist" }
}

/// How to run.
pub(crate) fn options(args: &RunArgs, overwrite: bool) -> Options {
    let known = Options::default();
    let jobs = args.jobs.and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(known.jobs);
    Options { jobs, memory: args.memory, overwrite, ..known }
}
