//! What is to be made, from what was typed.

use crate::args::{Format, RunArgs, StatesArg, TargetArgs, ZeroArg};
use crate::failure::{Stop, refuse};
use clap::ValueEnum;
use ucl_exec::Options;
use ucl_formats::deepspeed::write::Zero;
use ucl_formats::{Format as Made, Inventory};
use ucl_ir::Mesh;
use ucl_plan::{HUGGING_FACE_VIEW, Naming, States, Target};

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
    let (format, view, all) = match args.to {
        Format::Universal => (Made::Universal, "universal", States::All),
        Format::Hf => (Made::HuggingFace, HUGGING_FACE_VIEW, States::Weights),
        Format::Deepspeed => (Made::DeepSpeed(zero(args, source)), "stored", States::All),
        other => return Err(unknown(other)),
    };
    let states = args.states.map_or(all, states);
    Ok(Target {
        format,
        mesh: mesh(args, source, format)?,
        naming: naming(args.view.as_deref().unwrap_or(view)),
        dtype: args.dtype,
        states,
        max_file_bytes: args.max_file_size,
    })
}

/// The mesh that is typed; for a format that is cut the source's if none is.
fn mesh(args: &TargetArgs, source: &Inventory, format: Made) -> Result<Mesh, Stop> {
    if format.is_cut() {
        let own = source.universal.as_ref().map_or(&source.mesh, |made| &made.source.mesh);
        return Ok(args.mesh.clone().unwrap_or_else(|| own.clone()));
    }
    let Some((axis, _)) = args.mesh.iter().flatten().find(|(_, size)| **size > 1) else {
        return Ok(Mesh::new());
    };
    let a = match format {
        Made::HuggingFace => "a Hugging Face model",
        _ => "a universal checkpoint",
    };
    Err(refuse(
        format!("{a} is not cut, so --mesh has no use for `{axis}`"),
        "leave --mesh out: every tensor is whole, and any rank of any mesh finds its slices in it",
    ))
}

/// How a DeepSpeed run cuts its optimizer: as it is typed, else as the source does.
fn zero(args: &TargetArgs, source: &Inventory) -> Zero {
    let sub_group_size = args.sub_group_size;
    let typed = args.zero.map(|zero| match zero {
        ZeroArg::One => Zero::One,
        ZeroArg::Two => Zero::Two,
        ZeroArg::Three => Zero::Three { sub_group_size },
        ZeroArg::Bf16Optimizer => Zero::Bf16Optimizer,
    });
    let own = || Zero::of_optimizer(source.optimizer.as_ref()?.name.as_ref()?);
    match typed.or_else(own).unwrap_or(Zero::One) {
        Zero::Three { .. } => Zero::Three { sub_group_size },
        zero => zero,
    }
}

fn unknown(format: Format) -> Stop {
    let name = format.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    refuse(
        format!("this version ({}) cannot write `{name}`", env!("CARGO_PKG_VERSION")),
        "it writes `universal`, a folder of safetensors files with everything in it, `hf`, a model that `from_pretrained` loads, and `deepspeed`, a step of DeepSpeed's engine",
    )
}

/// How to run.
pub(crate) fn options(args: &RunArgs, overwrite: bool) -> Options {
    let known = Options::default();
    let jobs = args.jobs.and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(known.jobs);
    Options { jobs, memory: args.memory, overwrite, ..known }
}
