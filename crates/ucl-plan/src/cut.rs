//! A target that is cut over a mesh: what each of its ranks holds.

use crate::bind::{Bound, Cuts, Scope, obligations, target_numbers};
use crate::class::model_type;
use crate::document::document_of;
use crate::pipeline;
use crate::shard::{padded, uneven_names};
use crate::spell::Speller;
use crate::target::{Item, Naming, of_view, universal, usable_view};
use crate::universal::VIEW;
use serde_json::{Map, Value};
use ucl_ir::{Class, Diagnostic, Document, Layout, Mesh, Program, Uneven, View};

/// The views that those of runs with Megatron's arguments are made from.
const MEGATRONS: [&str; 2] = ["megatron", "mcore"];

/// The ranks of a target that is cut.
#[derive(Default)]
pub(crate) struct Cut {
    /// The model-parallel ranks, and where their items begin among all.
    pub(crate) ranks: Vec<(Mesh, usize)>,
    /// Second names of parameters that are held once: alias to path of the parameter.
    pub(crate) aliases: Vec<(String, String)>,
    /// The extent that the vocabulary is padded to.
    pub(crate) padded_vocab: Option<u64>,
    /// Megatron's arguments, as far as the dims tell them.
    pub(crate) args: Option<Map<String, Value>>,
    /// Whether Megatron's arguments are still of these names.
    pub(crate) keeps_args: bool,
    /// The class that loads a model of its type, where the view has one.
    pub(crate) class: Option<Class>,
    /// How long a sequence may be, where the spec says what holds in a config that does not.
    pub(crate) positions: Option<u64>,
    /// What the view has an equation for and the checkpoint lacks.
    pub(crate) absent: Vec<String>,
    /// Dims whose cut is in runs that do not add up to them: the dim, its size, a run.
    pub(crate) broken: Vec<(String, u64, u64)>,
    /// Whether modules that several stages share come in the order in which a stage first uses them.
    pub(crate) shared_in_order: bool,
    /// What was taken for granted, a sentence each.
    pub(crate) notes: Vec<String>,
    /// Whether the last of the ranks is none: it has every tensor whole.
    pub(crate) uncut: bool,
}

/// The items of all ranks, and behind them all of them whole, for a format that is cut as it is loaded.
///
/// # Errors
/// As [`cut`].
pub(crate) fn cut_at_load(
    bound: &Bound<'_>,
    naming: &Naming,
    ranks: (&Mesh, &[u64]),
) -> Result<(Vec<Item>, Cut), Vec<Diagnostic>> {
    let (mut items, mut cut) = cut(bound, naming, ranks, false)?;
    let mut wholes = match view_of(bound, naming)? {
        Some((program, view)) => of_view(bound, program, view, false)?,
        None => universal(bound),
    };
    wholes.sort_by(|a, b| a.order.cmp(&b.order));
    cut.ranks.push((Mesh::new(), items.len()));
    cut.uncut = true;
    items.extend(wholes);
    Ok((items, cut))
}

/// The items of all ranks of a mesh, whose pipeline stages may be said to have different numbers of
/// layers, rank after rank, each in the order of the model; of one rank that
/// holds all of it where the format's tensors are whole.
///
/// # Errors
/// There is no such view, a size does not follow, or the mesh does not fit.
pub(crate) fn cut(
    bound: &Bound<'_>,
    naming: &Naming,
    (mesh, stages): (&Mesh, &[u64]),
    is_whole: bool,
) -> Result<(Vec<Item>, Cut), Vec<Diagnostic>> {
    let Some((program, view)) = view_of(bound, naming)? else { return whole(bound, mesh, stages) };
    if let Some(adapter) = bound.params.get(bound.own_params) {
        let message = format!(
            "the checkpoint has low-rank pairs ({:?}), and no view says how ranks hold them",
            adapter.path
        );
        let help = "`--to universal` keeps them beside the weights; with --merge-lora it adds them, and what that writes can be cut";
        return Err(vec![Diagnostic::new("ucl::lora", message).help(help)]);
    }
    let layout = layout_of(bound, program, view);
    let axes = match is_whole {
        true => Mesh::new(),
        false => axes(layout, mesh, view)?,
    };
    // To what whole tensors are padded may depend on who reads them.
    let mut said = axes.clone();
    if is_whole {
        let known = program.layouts.values().flat_map(|layout| &layout.axes);
        let alone = known.filter(|axis| axis.same_as.is_none()).map(|axis| (axis.name.clone(), 1));
        said.extend(alone);
        said.extend(mesh.iter().map(|(axis, size)| (axis.clone(), *size)));
    }
    let cuts = Cuts { layout, mesh: &said, stages };
    if !stages.is_empty() && !layout.is_some_and(|layout| layout.shards.iter().any(|s| s.stage)) {
        let message = format!("`{}` has no pipeline stages", view.name);
        let help = "leave --stages out, or take a view of a pipeline's names (--view)";
        return Err(vec![Diagnostic::new("ucl::fit", message).help(help)]);
    }
    let mut wrong = obligations(layout, &bound.sizes, (program, view), &bound.set, cuts);
    wrong.extend(uneven_names(program, cuts, &bound.sizes));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let numbers = target_numbers(program, view, bound.inventory, &bound.set, cuts);
    let padded = padded(layout, &bound.sizes, &numbers)?;
    let copy_tied = layout
        .and_then(|layout| layout.copy_tied.as_ref())
        .is_some_and(|cond| Scope { numbers: &numbers, document: None }.holds(cond));
    let prefix = bound.without_prefix().shift_remove(&view.name);
    let (names, counts): (Vec<String>, Vec<u64>) =
        axes.iter().map(|(axis, size)| (axis.clone(), *size)).unzip();
    let mut cut = Cut {
        padded_vocab: padded.get("v").copied(),
        class: model_type(bound.inventory).and_then(|of| view.classes.get(of).cloned()),
        positions: numbers("positions").and_then(|number| u64::try_from(number).ok()),
        absent: absent(bound, program, view),
        broken: broken_runs(bound, layout),
        ..Cut::default()
    };
    if bound.tied && !copy_tied {
        cut.aliases = tied_names(program, view, prefix.as_deref());
    }
    let mut items: Vec<Item> = Vec::new();
    for at in crate::params::every(&counts) {
        let at: Mesh = names.iter().cloned().zip(at).collect();
        let speller = Speller {
            program,
            view,
            cuts,
            sizes: &bound.sizes,
            padded: &padded,
            sets: &bound.sets,
            params: &bound.params,
            tied: bound.tied,
            copy_tied,
            rank: &at,
            spellings: None,
            without_base: prefix.as_deref(),
        };
        let mut own = speller.items()?;
        own.sort_by(|a, b| a.order.cmp(&b.order));
        for item in &mut own {
            let paths: Vec<String> =
                item.terms.iter().map(|term| bound.params[*term].path.clone()).collect();
            item.values = bound.target_values(program, view, &paths);
        }
        cut.ranks.push((at, items.len()));
        items.extend(own);
    }
    let reads_args = program.model.bindings.iter().any(|line| line.document == Document::Args);
    let own = |name: &String| MEGATRONS.contains(&name.as_str());
    let megatron = own(&view.name) || view.ancestors.iter().any(own);
    cut.keeps_args = megatron || *naming == Naming::Stored;
    let megatron = megatron && reads_args;
    cut.args = megatron.then(|| args(bound, program, view, mesh, &cut));
    Ok((items, cut))
}

/// The names that tied parameters have where they are not copied: alias, and what it is of.
fn tied_names(program: &Program, view: &View, prefix: Option<&str>) -> Vec<(String, String)> {
    let tied = program.model.params.iter().filter_map(|p| Some((p, p.tied.clone()?)));
    let names = tied.filter_map(|(param, original)| {
        let rule = view.rules.iter().find(|rule| rule.terms == [param.path.clone()])?;
        let spelling = rule.spellings.iter().find(|spelling| !spelling.when_tied)?;
        let name = spelling.template.fill(|_| None, |_| None)?;
        let name = prefix.and_then(|prefix| name.strip_prefix(prefix)).unwrap_or(&name);
        Some((name.to_owned(), original))
    });
    names.collect()
}

/// The source's own names: without a spec nothing can be cut but over data parallelism, and the layers of a
/// pipeline shared out among its stages.
fn whole(
    bound: &Bound<'_>,
    mesh: &Mesh,
    stages: &[u64],
) -> Result<(Vec<Item>, Cut), Vec<Diagnostic>> {
    let of_pipeline = !bound.inventory.stages.is_empty();
    if !stages.is_empty() && !of_pipeline {
        let message = "without a spec nobody knows which layers a pipeline stage has";
        let help = "name the model with --spec, or leave --stages out";
        return Err(vec![Diagnostic::new("ucl::fit", message).help(help)]);
    }
    let is_cut = |axis: &str| axis != "dp" && !(axis == "pp" && of_pipeline);
    if let Some((axis, _)) = mesh.iter().find(|(axis, size)| is_cut(axis) && **size > 1) {
        let message = format!("without a spec no tensor can be cut over `{axis}`");
        let help = "name the model with --spec; over `dp` alone any model can be cut";
        return Err(vec![Diagnostic::new("ucl::fit", message).help(help)]);
    }
    let pp = mesh.get("pp").copied().unwrap_or(1);
    if pp == 1 && stages.is_empty() {
        let cut = Cut { ranks: vec![(Mesh::new(), 0)], keeps_args: true, ..Cut::default() };
        return Ok((universal(bound), cut));
    }
    pipeline::cut(bound, pp, stages)
}

/// The view that is asked for; the source's own if none is.
fn view_of<'a>(
    bound: &Bound<'a>,
    naming: &Naming,
) -> Result<Option<(&'a Program, &'a View)>, Vec<Diagnostic>> {
    let Some((program, own)) = bound.spec else { return Ok(None) };
    let remembered = bound.inventory.universal.as_ref().and_then(|m| m.source.view.as_deref());
    let name = match naming {
        Naming::View(name) => name.as_str(),
        Naming::Stored if own.name != VIEW => own.name.as_str(),
        Naming::Stored => remembered.ok_or_else(|| {
            let message = "the universal folder does not say whose names its source had";
            let help = "say whose names to write with --view";
            vec![Diagnostic::new("ucl::match", message).help(help)]
        })?,
        Naming::Universal => {
            let message = "no framework's ranks have the universal names";
            let help = "leave --view out for the source's own names, or name a view of the model";
            return Err(vec![Diagnostic::new("ucl::match", message).help(help)]);
        }
    };
    usable_view(program, name).map(|view| Some((program, view)))
}

/// The layout that the source was read by, if it serves the view; else the view's first.
fn layout_of<'a>(bound: &Bound<'a>, program: &'a Program, view: &View) -> Option<&'a Layout> {
    let own = bound.layout.as_ref().filter(|name| view.layouts.contains(name));
    program.layouts.get(own.or(view.layouts.first())?)
}

/// What the view has an equation for and the checkpoint lacks.
fn absent(bound: &Bound<'_>, program: &Program, view: &View) -> Vec<String> {
    let has = |path: &str| bound.params.iter().any(|param| param.path == path);
    let is_tied = |path: &str| program.model.param(path).is_some_and(|param| param.tied.is_some());
    let terms = view.rules.iter().flat_map(|rule| &rule.terms);
    terms.filter(|path| !(has(path) || bound.tied && is_tied(path))).cloned().collect()
}

/// Dims whose cut is in runs that do not add up to them, which one rank alone has whole.
fn broken_runs(bound: &Bound<'_>, layout: Option<&Layout>) -> Vec<(String, u64, u64)> {
    let shards = layout.into_iter().flat_map(|layout| &layout.shards);
    let broken = shards.filter_map(|shard| {
        let Some(Uneven::Runs(run)) = shard.rest.uneven else { return None };
        let size = bound.sizes.atom(&shard.dim).filter(|size| !size.is_multiple_of(run))?;
        Some((shard.dim.clone(), size, run))
    });
    broken.collect()
}

/// The axes of a mesh that the model is cut over.
fn axes(layout: Option<&Layout>, mesh: &Mesh, view: &View) -> Result<Mesh, Vec<Diagnostic>> {
    let known: Vec<&str> =
        layout.into_iter().flat_map(|layout| &layout.axes).map(|axis| axis.name.as_str()).collect();
    let mut axes = Mesh::new();
    for (axis, size) in mesh.iter().filter(|(axis, _)| *axis != "dp") {
        if known.contains(&axis.as_str()) {
            axes.insert(axis.clone(), *size);
        } else if *size > 1 {
            let message = format!("nothing of `{}` is cut over `{axis}`", view.name);
            let help = format!("its axes: {}", [&known[..], &["dp"]].concat().join(", "));
            return Err(vec![Diagnostic::new("ucl::fit", message).help(help)]);
        }
    }
    Ok(axes)
}

/// Megatron's arguments, as far as the spec reads them.
fn args(
    bound: &Bound<'_>,
    program: &Program,
    view: &View,
    mesh: &Mesh,
    cut: &Cut,
) -> Map<String, Value> {
    let dims = bound.dims();
    let cuts = Cuts { layout: None, mesh, stages: &[] };
    let number = |name: &str| match name {
        "tied" => Some(u64::from(bound.tied)),
        name => dims.get(name).or_else(|| mesh.get(name)).copied().or_else(|| {
            let numbers = target_numbers(program, view, bound.inventory, &bound.set, cuts);
            u64::try_from(numbers(name)?).ok()
        }),
    };
    let mut args = document_of(program, view, Document::Args, &number);
    // By these a reader knows whose arguments they are, and Megatron builds the model.
    let sizes = [
        ("num_layers", "l"),
        ("hidden_size", "h"),
        ("ffn_hidden_size", "f"),
        ("kv_channels", "d"),
        ("num_query_groups", "k"),
        ("max_position_embeddings", "c"),
        ("num_experts", "e"),
    ];
    for (key, dim) in sizes {
        args.extend(number(dim).map(|size| (key.to_owned(), Value::from(size))));
    }
    args.extend(built(bound, &number));
    args.extend(cut.padded_vocab.map(|size| ("padded_vocab_size".to_owned(), size.into())));
    args
}

/// What the parameters themselves tell of the modules that hold them, and a Hugging Face config.
fn built(bound: &Bound<'_>, number: &dyn Fn(&str) -> Option<u64>) -> Vec<(String, Value)> {
    let has = |end: &str| bound.params.iter().any(|param| param.path.ends_with(end));
    let table = bound.params.iter().any(|param| param.path == "pos");
    let bias = has("mlp.down.bias") || has("attn.o.bias");
    let said = [
        ("group_query_attention", Value::from(number("k") != number("n"))),
        ("swiglu", Value::from(has(".gate"))),
        ("normalization", Value::from(if has("norm.bias") { "LayerNorm" } else { "RMSNorm" })),
        ("add_bias_linear", Value::from(bias)),
        ("add_qkv_bias", Value::from(has("attn.q.bias"))),
        ("add_position_embedding", Value::from(table)),
        ("position_embedding_type", Value::from(if table { "learned_absolute" } else { "rope" })),
    ];
    let told = [
        ("layernorm_epsilon", &["rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps"][..]),
        ("rotary_base", &["rope_theta"]),
        ("max_position_embeddings", &["max_position_embeddings", "n_positions"]),
    ];
    let config = bound.inventory.documents.get("config");
    let told = told.into_iter().filter_map(|(key, names)| {
        let value = names.iter().find_map(|name| config?.get(*name))?;
        value.is_number().then(|| (key, value.clone()))
    });
    said.into_iter().chain(told).map(|(key, value)| (key.to_owned(), value)).collect()
}
