//! DeepSpeed's own universal folder, in the one form that every stage's universal load takes.
//!
//! Every parameter is a folder of whole tensors, cut as they are loaded; see `checkpoint/universal_checkpoint.py`
//! (stages 1, 2 and `BF16_Optimizer`) and `_load_universal_checkpoint` of `runtime/zero/stage3.py`. The first
//! want a dict with the tensor in its shape, the last takes that too. Beside them stand the model files of both,
//! of which the load takes everything but the weights.

use super::experts::Experts;
use super::model::{self, scalar};
use super::optimizer::{common, param_groups};
use super::partitioned::SubGroups;
use super::share::shares;
use super::source::{Source, is_layered};
use super::{Place, Zero, has_optimizer, known_axes, lossy, places, size, tag};
use crate::target::{Buffer, Draft, Held, Run, RunFile, RunLayout, Split, Uncut, WriteError};
use crate::torch::NodeId;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What the folder of a step is called.
fn folder(run: &Run<'_>) -> String {
    format!("{}_universal", tag(run))
}

/// All files of a run, `latest_universal` among them.
///
/// # Errors
/// There is no optimizer; a name that is no folder; a cut that DeepSpeed's load cannot make; what goes along cannot
/// be read.
pub(crate) fn lay_out(run: &Run<'_>) -> Result<RunLayout, WriteError> {
    let source = Source::of(run)?;
    known_axes(run)?;
    no_experts(&source)?;
    let mut experts = Experts::of(run, &source)?;
    let spread = experts.spread(run)?;
    let run = spread.as_ref().unwrap_or(run);
    let Some(uncut) = run.uncut.as_ref().filter(|_| has_optimizer(run)) else {
        return Err(WriteError::refused(
            "DeepSpeed's universal load is that of its optimizer, and there is no optimizer here",
            "write `--to hf`, from which a training starts",
        ));
    };
    let layered = is_layered(run);
    let places = places(run);
    let mut files = Vec::new();
    for place in &places {
        // Not of a stage that deals parameters out: names are all that the load goes by.
        files.push(model::whole(run, place, Zero::Bf16Optimizer, layered, (&source, &experts))?);
        if size(run, "pp") == 1 && !layered {
            let shares = shares(run, place, 0, (layered, &experts, false));
            let laid = SubGroups::of(shares, Zero::SUB_GROUP_SIZE, size(run, "dp"));
            files.push(model::partitioned(run, place, 0, (&laid, &source, &experts))?);
        }
    }
    let folder = folder(run);
    for file in &mut files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        file.path = format!("{folder}/{name}");
    }
    files.push(optimizer(run, uncut, places.first(), &source)?);
    for number in 0..uncut.rank.tensors.len() {
        files.extend(parameter(run, uncut, number, (layered, &experts))?);
    }
    files.push(RunFile::text("latest_universal", folder));
    let along = source.names(places.iter().map(|place| place.mp));
    let mut notes = notes(run, uncut);
    notes.extend(source.repeats(&places));
    Ok(RunLayout { files, along, notes, lossy: lossy(run, &source) })
}

/// Experts in modules of their own: DeepSpeed's converter fails on them, and its load knows no names over all ranks.
fn no_experts(source: &Source) -> Result<(), WriteError> {
    if !source.has_experts() || source.has_stacks() {
        return Ok(());
    }
    Err(WriteError::refused(
        "the run has mixtures of experts of DeepSpeed's own, and its universal load has no way to take them: it \
         looks for a parameter by the name that it has on a rank, and each rank numbers its experts from zero",
        "write `--to deepspeed`, for the ranks that go on",
    ))
}

/// The files of a parameter: one for each state.
fn parameter(
    run: &Run<'_>,
    uncut: &Uncut,
    number: usize,
    (layered, experts): (bool, &Experts),
) -> Result<Vec<RunFile>, WriteError> {
    let held = &uncut.rank.tensors[number];
    let name = held.trained_name(layered);
    is_folder(name)?;
    let at = run.ranks.len();
    let folder = format!("{}/zero/{name}", folder(run));
    let split = uncut.splits.get(number).and_then(Option::as_ref);
    // What is not trained is there as its converter has it: as a master that it never had.
    let states: Vec<(&str, &str)> = match held.is_trained() {
        true => held.states.keys().map(|state| (state.as_str(), state.as_str())).collect(),
        false => vec![("fp32", "param")],
    };
    let mut files = Vec::new();
    for (called, state) in states {
        let mut draft = Draft::default();
        let tensor = draft.tensor(Buffer::whole(run, (at, number), state))?;
        let mut entries = vec![("param".to_owned(), tensor)];
        entries.extend(cut(&mut draft, held, split));
        if let Some(stack) = experts.expert(at, number) {
            entries.push(("is_expert_param".to_owned(), draft.pickle.bool(true)));
            entries.push(("ep_num_experts".to_owned(), draft.json(&stack.count().into())));
        }
        let root = draft.dict(entries);
        draft.pickle.set_root(root);
        files.push(draft.finish(format!("{folder}/{called}.pt"), called)?);
    }
    let step =
        held.step.as_ref().or(held.place.and_then(|(group, _)| run.groups[group].step.as_ref()));
    if let Some(step) = step.filter(|_| held.is_trained()).and_then(Value::as_f64) {
        let mut draft = Draft::default();
        let root = scalar(&mut draft, step)?;
        draft.pickle.set_root(root);
        files.push(draft.finish(format!("{folder}/step.pt"), "step")?);
    }
    Ok(files)
}

/// How the load cuts a tensor, in its words.
fn cut(draft: &mut Draft, held: &Held, split: Option<&Split>) -> Vec<(String, NodeId)> {
    let Some(split) = split else {
        return vec![("cat_dim".to_owned(), draft.pickle.int(0))];
    };
    let dim = dim(&held.shape, split);
    let mut entries = vec![("cat_dim".to_owned(), draft.pickle.int(dim.unwrap_or(0) as i64))];
    if split.padded {
        entries.push(("vocab_tensor".to_owned(), draft.pickle.bool(true)));
    }
    let equal = split.parts.windows(2).all(|two| two[0] == two[1]);
    match (dim, split.parts.len()) {
        (Some(_), 1) => {}
        (Some(_), parts) if equal => {
            entries.push(("param_n_sub_params".to_owned(), draft.pickle.int(parts as i64)));
        }
        _ => entries.push(("sub_param_shape".to_owned(), sub_shape(draft, split))),
    }
    entries
}

/// The dim of a shape that a cut takes ranges of.
fn dim(shape: &[u64], split: &Split) -> Option<usize> {
    let mut before = 1_u64;
    for (dim, size) in shape.iter().enumerate() {
        let behind: u64 = shape[dim + 1..].iter().product();
        if before == split.before && *size > 1 && split.after.is_multiple_of(behind) {
            return Some(dim);
        }
        before *= size;
    }
    None
}

/// A tensor that holds several of different sizes, or whose cut dim lies inside one of its own.
fn sub_shape(draft: &mut Draft, split: &Split) -> NodeId {
    let parts: Vec<NodeId> = split.parts.iter().map(|part| draft.json(&json!(part))).collect();
    let parts = draft.pickle.tuple(&parts);
    let (before, after) = (draft.json(&json!(split.before)), draft.json(&json!(split.after)));
    let shape = draft.pickle.tuple(&[before, parts, after]);
    let patterns = draft.pickle.list(Vec::new());
    let values = [("patterns", patterns), ("shape", shape), ("partition_dim", draft.pickle.int(1))];
    let attributes = values.map(|(key, value)| (draft.pickle.str(key), value));
    let module = "deepspeed.checkpoint.universal_checkpoint";
    draft.pickle.object(module, "SubparamShape", attributes.to_vec())
}

/// `zero/optimizer_state.pt`: what stages 1 and 2 look for, and what stage 3 does.
fn optimizer(
    run: &Run<'_>,
    uncut: &Uncut,
    first: Option<&Place<'_>>,
    source: &Source,
) -> Result<RunFile, WriteError> {
    let mut draft = Draft::default();
    let mp = first.map_or(0, |place| place.mp);
    let place = Place { mp, at: run.ranks.len(), rank: &uncut.rank };
    let mut entries = common(&mut draft, &place, source, Zero::Two)?;
    entries.shift_remove("zero_stage");
    let numbers: Vec<Vec<usize>> = (0..run.groups.len()).map(|group| vec![group]).collect();
    let groups = param_groups(&mut draft, &run.groups, &numbers);
    let step = run.groups.iter().find_map(|group| group.step.as_ref()?.as_f64());
    let step = match step {
        Some(step) => vec![("step".to_owned(), scalar(&mut draft, step)?)],
        None => Vec::new(),
    };
    let (first, step) = (draft.pickle.int(0), draft.dict(step));
    let state = draft.pickle.dict(vec![(first, step)]);
    let inner = vec![("state".to_owned(), state), ("param_groups".to_owned(), groups)];
    entries.insert("optimizer_state_dict".to_owned(), draft.dict(inner));
    entries.insert("param_groups".to_owned(), groups);
    entries.insert("ds_version".to_owned(), draft.json(&source.version.clone().into()));
    let root = draft.dict(entries.into_iter().collect());
    draft.pickle.set_root(root);
    draft.finish(format!("{}/zero/optimizer_state.pt", folder(run)), "optimizer_state")
}

/// A name is a path below `zero`.
fn is_folder(name: &str) -> Result<(), WriteError> {
    let wrong = |part: &str| part.is_empty() || part == "." || part == ".." || part.len() > 255;
    if !name.split('/').any(wrong) && !name.contains('\0') {
        return Ok(());
    }
    Err(WriteError::refused(
        format!(
            "{name:?} cannot be a folder, and DeepSpeed's universal form has one for each parameter"
        ),
        "name another view with --view, or write `--to deepspeed`",
    ))
}

/// What the load of the one or the other stage leaves out.
fn notes(run: &Run<'_>, uncut: &Uncut) -> Vec<String> {
    let mut notes = Vec::new();
    let tensors = &uncut.rank.tensors;
    let untrained = tensors.iter().filter(|held| !held.is_trained()).count();
    if untrained > 0 {
        notes.push(format!(
            "DeepSpeed's universal load restores what is trained alone: the {untrained} tensors that are not \
             (frozen parameters, buffers) are in the folder, but have to come from where the run first had them."
        ));
    }
    let states: BTreeSet<&str> =
        tensors.iter().flat_map(|held| held.states.keys()).map(String::as_str).collect();
    if !states.is_empty() && states != BTreeSet::from(["exp_avg", "exp_avg_sq", "fp32"]) {
        notes.push(
            "ZeRO-3's universal load takes fp32, exp_avg and exp_avg_sq of every parameter, no more and no less: \
             this optimizer resumes under stages 1 and 2 alone."
                .to_owned(),
        );
    }
    if run.groups.windows(2).any(|two| two[0].hyper != two[1].hyper) {
        notes.push(
            "ZeRO-3's universal load gives all groups the hyper-parameters of the first: set those of the others again."
                .to_owned(),
        );
    }
    if uncut.splits.iter().flatten().any(|split| split.uneven) {
        notes.push(
            "Some tensors are cut unevenly: AutoTP's own record of them in the run that loads does that; without it \
             the load refuses them."
                .to_owned(),
        );
    }
    notes
}
