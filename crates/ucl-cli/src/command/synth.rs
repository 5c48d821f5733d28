//! `ucl synth`: a checkpoint that was never trained, of any size, cut for any mesh.
//!
//! The value of every element follows from its parameter, its state and its address there, so the same
//! model is the same on every mesh, and whatever is made of it can be checked without it.

use crate::args::{self, SynthArgs};
use crate::failure::{Stop, refuse};
use crate::progress::{Count, watched};
use crate::session::{Answer, Session};
use crate::show::{self, Facts};
use crate::target;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use ucl_exec::{Options, Outcome};
use ucl_formats::Format;
use ucl_formats::deepspeed::write::Zero;
use ucl_ir::{Diagnostic, Document, Expr, Mesh, Program, View};
use ucl_load::Failure;
use ucl_plan::{Shards, Synth, SynthRun, Work, document_of, numbers_of, shard, usable_view};
use ucl_tensor::DType;

pub(super) fn run(args: &SynthArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    possible(args)?;
    let program = program(&args.spec)?;
    let wrong = |found: Vec<Diagnostic>| Failure::in_specs(found, program.sources.clone());
    let view = usable_view(&program, &args.view).map_err(wrong)?;
    let mesh = mesh(args.mesh.as_ref(), &program, view)?;
    let set = sizes(args, &program, view)?;
    let tied = args.tied || set.get("tied").is_some_and(|tied| *tied > 0);
    let cut = [("pp", mesh["pp"]), ("tp", mesh["tp"])];
    let cut: Mesh = cut.into_iter().map(|(axis, size)| (axis.to_owned(), size)).collect();
    let shards = shard(&program, &view.name, &set, &cut, tied).map_err(wrong)?;
    let elements = elements(&shards);
    let dims = shards.dims.clone();
    let megatron = [&view.name].into_iter().chain(&view.ancestors).any(|name| name == "deepspeed");
    let megatron = megatron.then(|| megatron_args(&program, view, &shards, (&set, &mesh, tied)));
    let (step, dtype) = (args.step, args.dtype);
    let run = SynthRun { mesh: mesh.clone(), step, dtype, args: megatron };
    let zero = if args.dtype == DType::BF16 { Zero::Bf16Optimizer } else { Zero::One };
    let synth = Synth::new(shards, run, Format::DeepSpeed(zero))
        .map_err(|error| Diagnostic::new("ucl::write", error.to_string()))?;
    let synth = if args.sparse { synth.hollow() } else { synth };
    let options = Options { sparse: args.sparse, ..target::options(&args.run, args.overwrite) };
    let total = synth.files().iter().map(|file| file.len).sum();
    let outcome = watched(session, (Count::Written, total), |meter| {
        ucl_exec::run(&synth, &args.destination, &options, meter, &|_| Ok(Vec::new()))
    })??;

    let files = synth.files().len() as u64;
    session.say(&format!(
        "model {}, view {}, {}",
        show::name(&program.model.name),
        show::name(&view.name),
        show::mesh(&mesh)
    ))?;
    session.say(&text(&args.destination, (elements, files, total), &outcome, session))?;
    session.answer(json!({
        "destination": args.destination,
        "model": program.model.name,
        "view": view.name,
        "mesh": mesh,
        "dims": dims,
        "elements": elements,
        "files": files,
        "bytes": total,
        "bytes_written": outcome.bytes_written,
        "seconds": outcome.seconds,
    }))?;
    Ok(Answer::Yes)
}

fn possible(args: &SynthArgs) -> Result<(), Stop> {
    if args.to != args::Format::Deepspeed {
        return Err(refuse(
            "this version makes DeepSpeed runs only",
            "write `--to deepspeed`; `ucl convert` makes other formats of it",
        ));
    }
    if !matches!(args.dtype, DType::BF16 | DType::F16 | DType::F32) {
        return Err(refuse(
            format!("a DeepSpeed run has no weights of type {}", args.dtype),
            "write `--dtype bf16`, `fp16` or `fp32`",
        ));
    }
    Ok(())
}

/// The one program that a spec means.
fn program(spec: &str) -> Result<Program, Stop> {
    let mut programs = super::compile::programs(spec)?;
    match (programs.len(), programs.pop()) {
        (1, Some(program)) => Ok(program),
        _ => Err(refuse(
            format!("{} does not declare exactly one model", show::name(spec)),
            "name a spec with one model; `ucl specs` lists the built-in ones",
        )),
    }
}

/// The whole mesh, each axis of a DeepSpeed run in it.
fn mesh(said: Option<&Mesh>, program: &Program, view: &View) -> Result<Mesh, Stop> {
    let layout = view.layouts.first().and_then(|name| program.layouts.get(name));
    let has = |axis: &str| layout.is_some_and(|layout| layout.axes.iter().any(|a| a.name == axis));
    let mut mesh: Mesh = ["tp", "pp", "dp"].into_iter().map(|axis| (axis.to_owned(), 1)).collect();
    for (axis, size) in said.into_iter().flatten() {
        let known = axis == "dp" || (mesh.contains_key(axis) && has(axis));
        if !known && *size > 1 {
            let axes: Vec<&str> =
                mesh.keys().map(String::as_str).filter(|axis| has(axis)).collect();
            return Err(refuse(
                format!("nothing of `{}` is cut over `{}`", view.name, show::name(axis)),
                format!(
                    "its axes in a DeepSpeed run: {}",
                    show::list(axes.into_iter().chain(["dp"]), 20)
                ),
            ));
        }
        if known {
            mesh.insert(axis.clone(), *size);
        }
    }
    Ok(mesh)
}

/// The sizes that were said, those of the config below them, and what was asked for beside.
fn sizes(args: &SynthArgs, program: &Program, view: &View) -> Result<BTreeMap<String, u64>, Stop> {
    let said: BTreeMap<String, u64> = args.set.iter().cloned().collect();
    let bindings = || program.model.bindings.iter().chain(&view.bindings);
    for name in said.keys() {
        let dim = program.model.dims.iter().any(|dim| dim.name == *name);
        if !dim && !bindings().any(|binding| binding.name == *name) {
            let dims = program.model.dims.iter().map(|dim| dim.name.as_str());
            return Err(refuse(
                format!("`{}` has no dim `{}`", program.model.name, show::name(name)),
                format!("its dims: {}", show::list(dims, 40)),
            ));
        }
        if view.values.iter().any(|value| reads(&value.by, name)) {
            return Err(refuse(
                format!(
                    "this version makes values as the model has them, so `{name}` cannot be set"
                ),
                "leave it out",
            ));
        }
    }
    let mut sizes = match &args.config {
        Some(folder) => numbers_of(program, view, Document::Config, &ucl_load::config(folder)?),
        None => BTreeMap::new(),
    };
    for list in &args.with {
        let spelled = |path: &String| view.rules.iter().any(|rule| rule.terms.contains(path));
        let optional = program.model.params.iter().filter(|param| param.optional);
        let before = sizes.len();
        let paths = optional.filter(|param| param.is_under(list)).map(|param| &param.path);
        sizes.extend(paths.filter(|path| spelled(path)).map(|path| (path.clone(), 1)));
        if sizes.len() == before {
            return Err(refuse(
                format!("view `{}` spells no optional parameter `{}`", view.name, show::name(list)),
                "name a parameter that the model marks with `?`, or `bias` for all biases",
            ));
        }
    }
    sizes.extend(said);
    Ok(sizes)
}

/// Whether an expression reads a name.
fn reads(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Int(_) => false,
        Expr::Key(key) => key == name,
        Expr::Or(a, b) | Expr::Binary(_, a, b) => reads(a, name) || reads(b, name),
        Expr::If { then, cond, other } => [then, cond, other].iter().any(|e| reads(e, name)),
        Expr::Not(a) | Expr::Neg(a) => reads(a, name),
    }
}

/// Megatron's arguments, as far as the spec reads them.
fn megatron_args(
    program: &Program,
    view: &View,
    shards: &Shards,
    (set, mesh, tied): (&BTreeMap<String, u64>, &Mesh, bool),
) -> Map<String, Value> {
    let number = |name: &str| match name {
        "tied" => Some(u64::from(tied)),
        name => shards.dims.get(name).or_else(|| set.get(name)).or_else(|| mesh.get(name)).copied(),
    };
    let mut args = document_of(program, view, Document::Args, &number);
    // By these a reader knows whose arguments they are.
    for (key, dim) in [("num_layers", "l"), ("hidden_size", "h")] {
        args.extend(number(dim).map(|size| (key.to_owned(), Value::from(size))));
    }
    if let Some(padded) = shards.padded.get("v") {
        args.insert("padded_vocab_size".to_owned(), Value::from(*padded));
    }
    args
}

fn elements(shards: &Shards) -> u64 {
    let of = |param: &ucl_plan::Param| param.dims.iter().map(|dim| dim.extent).product::<u64>();
    shards.params.iter().map(of).sum()
}

fn text(
    destination: &Path,
    (elements, files, total): (u64, u64, u64),
    outcome: &Outcome,
    session: &Session<'_, '_>,
) -> String {
    let mut facts = Facts::default();
    let path = destination.display().to_string();
    facts.add("wrote", show::name(&path));
    facts.add("", format!("{} parameters", show::number(elements)));
    facts.add("", format!("{} in {}", show::bytes(total), show::count(files, "file")));
    facts.add(
        "took",
        format!("{}: wrote {}", show::seconds(outcome.seconds), show::bytes(outcome.bytes_written)),
    );
    facts.add("next", format!("{} inspect {}", session.program(), show::shell_word(&path)));
    facts.show(session.style())
}
