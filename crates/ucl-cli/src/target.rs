//! What is to be made, from what was typed.

use crate::args::{Format, RunArgs, StatesArg, TargetArgs};
use crate::failure::{Stop, refuse};
use clap::ValueEnum;
use ucl_exec::Options;
use ucl_plan::{Naming, States, Target};

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
    if args.to != Format::Universal {
        let format =
            args.to.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
        return Err(refuse(
            format!("this version ({}) cannot write `{format}`", env!("CARGO_PKG_VERSION")),
            "it writes `universal`: a folder of safetensors files; `--to universal --view hf` gives them Hugging Face names and shapes",
        ));
    }
    if let Some((axis, _)) = args.mesh.iter().flatten().find(|(_, size)| **size > 1) {
        return Err(refuse(
            format!("a universal checkpoint is not cut, so --mesh has no use for `{axis}`"),
            "leave --mesh out: every tensor is whole, and any rank of any mesh finds its slices in it",
        ));
    }
    Ok(Target {
        naming: naming(&args.view),
        dtype: args.dtype,
        states: states(args.states),
        max_file_bytes: args.max_file_size,
    })
}

/// How to run.
pub(crate) fn options(args: &RunArgs, overwrite: bool) -> Options {
    let known = Options::default();
    let jobs = args.jobs.and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(known.jobs);
    Options { jobs, memory: args.memory, overwrite, ..known }
}
