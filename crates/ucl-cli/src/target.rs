//! What is to be made, from what was typed.

use crate::args::{Format, RunArgs, StatesArg, TargetArgs};
use crate::failure::{Stop, refuse};
use clap::ValueEnum;
use ucl_exec::Options;
use ucl_formats::Format as Made;
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

/// The target that the flags describe.
///
/// Fails for what this version cannot make.
pub(crate) fn target(args: &TargetArgs) -> Result<Target, Stop> {
    let (format, a, view, all) = match args.to {
        Format::Universal => (Made::Universal, "a universal checkpoint", "universal", States::All),
        Format::Hf => {
            (Made::HuggingFace, "a Hugging Face model", HUGGING_FACE_VIEW, States::Weights)
        }
        other => return Err(unknown(other)),
    };
    if let Some((axis, _)) = args.mesh.iter().flatten().find(|(_, size)| **size > 1) {
        return Err(refuse(
            format!("{a} is not cut, so --mesh has no use for `{axis}`"),
            "leave --mesh out: every tensor is whole, and any rank of any mesh finds its slices in it",
        ));
    }
    let states = args.states.map_or(all, states);
    if states == States::All && format == Made::HuggingFace {
        return Err(refuse(
            "this version writes the weights alone into a Hugging Face model",
            "leave --states out; `--to universal` keeps the optimizer's states",
        ));
    }
    Ok(Target {
        format,
        naming: naming(args.view.as_deref().unwrap_or(view)),
        dtype: args.dtype,
        states,
        max_file_bytes: args.max_file_size,
    })
}

fn unknown(format: Format) -> Stop {
    let name = format.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    refuse(
        format!("this version ({}) cannot write `{name}`", env!("CARGO_PKG_VERSION")),
        "it writes `universal`, a folder of safetensors files with everything in it, and `hf`, a model that `from_pretrained` loads",
    )
}

/// How to run.
pub(crate) fn options(args: &RunArgs, overwrite: bool) -> Options {
    let known = Options::default();
    let jobs = args.jobs.and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(known.jobs);
    Options { jobs, memory: args.memory, overwrite, ..known }
}
