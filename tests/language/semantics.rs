//! What a spec means, and what is said of one that means nothing.

use std::fs;
use std::path::{Path, PathBuf};
use ucl_ir::Program;
use ucl_parser::Library;
use ucl_tests::diagnostics::render;

fn corpus(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/semantics").join(folder)
}

/// The specs of a folder of the corpus, by name.
fn specs(folder: &str) -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(corpus(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "ucl"));
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

/// All families.
fn library() -> Library {
    let mut library = ucl_specs::library();
    for (name, text) in specs("ok") {
        let file = format!("{name}.ucl");
        if !ucl_specs::SPECS.iter().any(|(shipped, _)| *shipped == file) {
            library.add(&file, &text);
        }
    }
    library
}

fn compile(library: &Library, model: &str) -> Program {
    library
        .compile(model)
        .unwrap_or_else(|mistakes| panic!("{model}:\n{}", render(library.sources(), &mistakes)))
}

#[test]
fn every_family_compiles() {
    let library = library();
    assert_eq!(render(library.sources(), &library.diagnostics()), "");
    let mut models = library.models();
    models.sort();
    let families = [
        "bloom",
        "falcon",
        "falcon-two-norms",
        "gpt-neox",
        "gpt2",
        "llama",
        "mixtral",
        "opt",
        "phi",
        "phi3",
        "phi3-moe",
        "phi3-small",
        "qwen2-moe",
        "qwen2-moe-mixed",
    ];
    let mut known: Vec<String> = families.iter().map(|family| format!("reward-{family}")).collect();
    known.extend(["decoder"].iter().chain(&families).map(|name| (*name).to_owned()));
    known.sort();
    assert_eq!(models, known);
    for model in library.models() {
        assert_eq!(ucl_parser::check(&compile(&library, &model)), []);
    }
}

/// A base may stand behind what extends it.
#[test]
fn the_order_of_the_specs_says_nothing() {
    let shipped = ucl_specs::library();
    let mut turned = Library::new();
    for &(name, text) in ucl_specs::SPECS.iter().rev() {
        turned.add_shipped(name, text);
    }
    assert_eq!(render(turned.sources(), &turned.diagnostics()), "");
    for model in shipped.models() {
        assert_eq!(compile(&shipped, &model).to_string(), compile(&turned, &model).to_string());
    }
}

#[test]
fn views_that_exist() {
    let library = library();
    let mut text = String::new();
    for model in library.models() {
        let program = compile(&library, &model);
        text += &format!("{model}\n");
        for view in program.views.values() {
            let layouts =
                if view.layouts.is_empty() { "-".to_owned() } else { view.layouts.join(", ") };
            text += &match ucl_parser::absent(&program, view) {
                None => format!("  {} [{layouts}]\n", view.name),
                Some(why) => format!("  no {}: {}\n", view.name, why.message),
            };
        }
    }
    insta::assert_snapshot!("views", text);
}

#[test]
fn shipped_models_as_text() {
    let library = ucl_specs::library();
    for model in library.models() {
        insta::assert_snapshot!(model.clone(), compile(&library, &model).to_string());
    }
}

#[test]
fn one_view_as_text() {
    let library = library();
    let text = |model: &str, view: &str| compile(&library, model).view_text(view).unwrap();
    insta::assert_snapshot!("llama-mcore", text("llama", "mcore"));
    insta::assert_snapshot!("mixtral-torch-dist", text("mixtral", "torch-dist"));
    insta::assert_snapshot!("reward-gpt2-deepspeed-chat", text("reward-gpt2", "deepspeed-chat"));
}

/// A program without what its text does not carry: places, ancestors, views that do not exist, and
/// layouts that serve none.
fn bare(program: &Program) -> serde_json::Value {
    let mut program = program.clone();
    program.views.retain(|_, view| view.lacking.is_empty());
    let views = &program.views;
    program.layouts.retain(|name, _| views.values().any(|view| view.layouts.contains(name)));
    let mut value = serde_json::to_value(&program).unwrap();
    strip(&mut value);
    for layout in value["layouts"].as_object_mut().unwrap().values_mut() {
        // Said by the views: `for` may name more of them where a text cannot say `extends`.
        layout.as_object_mut().unwrap().remove("views");
    }
    value
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            if fields.keys().eq(["source", "start", "end"]) {
                fields.clear();
            }
            for gone in ["span", "sources", "ancestors"] {
                fields.remove(gone);
            }
            fields.values_mut().for_each(strip);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[test]
fn a_program_as_text_compiles_to_itself() {
    let library = library();
    for model in library.models() {
        let program = compile(&library, &model);
        let mut alone = Library::new();
        alone.add("text.ucl", &program.to_string());
        let again = compile(&alone, &model);
        pretty_eq(&bare(&program), &bare(&again), &model);
        let is_of = |program: &Program, view: &str, family: &str| {
            program.views[view].ancestors.iter().any(|name| name == family)
        };
        for view in program.views.values().filter(|view| view.lacking.is_empty()) {
            // Of a view that does not exist here the text keeps the name, for those that extend it.
            let name = view.name.as_str();
            if program.views.get("hf").is_some_and(|hf| !hf.lacking.is_empty()) {
                assert_eq!(
                    is_of(&program, name, "hf"),
                    is_of(&again, name, "hf"),
                    "{model} {name}"
                );
            }
            let mut alone = Library::new();
            alone.add("text.ucl", &program.view_text(&view.name).unwrap());
            let again = compile(&alone, &model);
            let of = |program: &Program| bare(program)["views"][&view.name].clone();
            pretty_eq(&of(&program), &of(&again), &format!("{model} {}", view.name));
        }
    }
}

/// Specs of other models, which are not shipped.
#[test]
fn other_models_as_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/models");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let model = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut library = ucl_specs::library();
        library.add(&format!("{model}.ucl"), &fs::read_to_string(&path).unwrap());
        assert_eq!(render(library.sources(), &library.diagnostics()), "");
        let program = compile(&library, &model);
        let text = program.to_string();
        let mut alone = Library::new();
        alone.add("text.ucl", &text);
        pretty_eq(&bare(&program), &bare(&compile(&alone, &model)), &model);
        let start = text.find("model ").unwrap();
        let end = start + text[start..].find("\nview ").unwrap();
        insta::assert_snapshot!(format!("other-{model}"), &text[start..end]);
    }
}

/// A view that stacks layers has no place for those of a set.
#[test]
fn a_stacked_view_does_not_exist_where_layers_differ() {
    let mut library = ucl_specs::library();
    let text = "ucl 1\nmodel m extends llama {\n  drop mlp.gate\n  set a of l\n  each l in a { mlp.gate : f h }\n\
                  drop mlp.up\n  each l in a { mlp.up : f h }\n}\n";
    library.add("m.ucl", text);
    assert_eq!(render(library.sources(), &library.diagnostics()), "");
    let program = compile(&library, "m");
    assert!(program.views["mcore"].lacking.is_empty());
    assert_eq!(program.views["torch-dist"].lacking, ["mlp.gate", "mlp.up"]);
}

fn pretty_eq(a: &serde_json::Value, b: &serde_json::Value, what: &str) {
    if a != b {
        let lines = |value| serde_json::to_string_pretty(value).unwrap();
        let (a, b) = (lines(a), lines(b));
        let first = a.lines().zip(b.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let near = |text: &str| {
            text.lines().skip(first.saturating_sub(12)).take(24).collect::<Vec<_>>().join("\n")
        };
        panic!("{what} differs:\n{}\n--- and again ---\n{}", near(&a), near(&b));
    }
}

#[test]
fn mistakes() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(corpus("err"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let shipped = ucl_specs::library();
    settings.bind(|| {
        for (name, text) in specs("err") {
            let mut library = shipped.clone();
            library.add(&format!("{name}.ucl"), &text);
            let mistakes = library.diagnostics();
            assert!(!mistakes.is_empty(), "{name} has no mistake");
            insta::assert_snapshot!(name, render(library.sources(), &mistakes));
        }
    });
}

/// What compiling a model says when a shipped spec is changed.
fn codes(spec: &str, text: &str, model: &str) -> Vec<&'static str> {
    static SHIPPED: std::sync::LazyLock<Library> = std::sync::LazyLock::new(ucl_specs::library);
    let mut library = SHIPPED.clone();
    library.add(spec, text);
    library.compile(model).err().into_iter().flatten().map(|mistake| mistake.code).collect()
}

fn shipped(name: &str) -> &'static str {
    ucl_specs::SPECS.iter().find(|(spec, _)| *spec == name).unwrap().1
}

/// The equations of a spec, line by line: number, text before the shape, shape, the rest.
fn equations(text: &str) -> Vec<(usize, &str, &str, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with('"'))
        .map(|(number, line)| {
            let colon = line.rfind(" : ").unwrap() + 3;
            let equals = colon + line[colon..].find('=').unwrap();
            (number, &line[..colon], &line[colon..equals], &line[equals..])
        })
        .collect()
}

fn with_line(text: &str, number: usize, line: &str) -> String {
    let lines = text.lines().enumerate().map(|(at, old)| if at == number { line } else { old });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_lost_equation_is_missed() {
    for (spec, model) in [("decoder.ucl", "decoder"), ("llama.ucl", "llama"), ("gpt2.ucl", "gpt2")]
    {
        let text = shipped(spec);
        for (number, name, _, rest) in equations(text) {
            // A view need not spell what a checkpoint may lack.
            let optional =
                rest.contains("= pos") && model != "gpt2" || rest.contains("= attn.q.bias");
            // What it extends has a line for these.
            let either = name.contains("layer_norm_{weight,bias}\" ") && name.contains(" or ");
            let before = || text.lines().take(number);
            let of_qwen2 = before().any(|line| line.starts_with("view fastgen-qwen2"))
                && before().any(|line| line.contains(name.trim()));
            let inherited = of_qwen2
                || name.contains("1.word_emb")
                || name.contains("{#l + 3}.lm_head")
                || name.contains("decoder.layers.{l}.mlp.linear_fc1")
                || either;
            let codes = codes(spec, &with_line(text, number, ""), model);
            // A number that is expected of a lost name is missed as well.
            let missed = codes.iter().any(|code| *code != "ucl::expect");
            assert_eq!(missed, !optional && !inherited, "{spec}:{}: {codes:?}", number + 1);
            let known = |code: &&str| ["ucl::cover", "ucl::rename", "ucl::expect"].contains(code);
            assert!(codes.iter().all(known), "{spec}:{}: {codes:?}", number + 1);
        }
    }
}

#[test]
fn a_lost_or_wrong_dim_does_not_balance() {
    for (spec, model) in [("decoder.ucl", "decoder"), ("llama.ucl", "llama"), ("gpt2.ucl", "gpt2")]
    {
        let text = shipped(spec);
        for (number, name, shape, rest) in equations(text) {
            let shape = shape.trim();
            let longer = format!("{name}{shape} v f{rest}");
            let first = shape.find(|c: char| c.is_ascii_lowercase()).unwrap();
            let end = shape[first..]
                .find(|c: char| !c.is_ascii_lowercase())
                .map_or(shape.len(), |at| first + at);
            let other = format!("{name}{}{}{}{rest}", &shape[..first], "c", &shape[end..]);
            for (changed, change) in [(longer, "more"), (other, "another")] {
                if change == "another" && shape.starts_with('c') {
                    continue;
                }
                let codes = codes(spec, &with_line(text, number, &changed), model);
                assert!(
                    codes.contains(&"ucl::balance"),
                    "{spec}:{} {change}: {codes:?}",
                    number + 1
                );
            }
        }
    }
}

#[test]
fn a_name_written_twice_is_not_disjoint() {
    for (spec, model) in [("decoder.ucl", "decoder"), ("llama.ucl", "llama"), ("gpt2.ucl", "gpt2")]
    {
        let text = shipped(spec);
        let all = equations(text);
        for pair in all.windows(2) {
            let ((first, name, ..), (second, other, ..)) = (&pair[0], &pair[1]);
            // Neighbours in one block, with one spelling each.
            if second - first != 1 || name.matches('"').count() + other.matches('"').count() != 4 {
                continue;
            }
            let line = text.lines().nth(*second).unwrap();
            let colon = other.rfind(" : ").unwrap();
            let changed = format!("{}{}", name.trim_end().trim_end_matches(':'), &line[colon..]);
            let codes = codes(spec, &with_line(text, *second, &changed), model);
            assert!(codes.contains(&"ucl::disjoint"), "{spec}:{}: {codes:?}", second + 1);
        }
    }
}

/// Breaks of another kind, each with what has to be said of it.
#[test]
fn deliberate_breaks_are_caught() {
    let breaks = [
        ("decoder.ucl", "decoder", "shard qkv over tp", "shard qvk over tp", "ucl::name"),
        ("decoder.ucl", "decoder", "layout mcore for mcore", "layout mcore for mcroe", "ucl::name"),
        ("decoder.ucl", "decoder", "extends deepspeed {", "extends deepsped {", "ucl::name"),
        (
            "decoder.ucl",
            "decoder",
            "pad v to m * tp\n  copy",
            "pad v to n_pad * tp\n  copy",
            "ucl::name",
        ),
        (
            "decoder.ucl",
            "decoder",
            "to \"decoder.layers.\" : l",
            "to \"decoder.layers.\"",
            "ucl::rename",
        ),
        ("decoder.ucl", "decoder", "\"*._extra_state*\"", "\"*.linear_qkv.*\"", "ucl::disjoint"),
        (
            "decoder.ucl",
            "decoder",
            "dims qkv = n d | k d | k d",
            "dims qkv = n d | k d | q d",
            "ucl::balance",
        ),
        (
            "decoder.ucl",
            "decoder",
            "dims qkv = k d (q|1|1)",
            "dims qkv = k d (q|1|1|1)",
            "ucl::balance",
        ),
        (
            "decoder.ucl",
            "decoder",
            "rename \"mlp.linear_fc1.layer_norm_\"",
            "rename \"mlp.linear_fc2.layer_norm_\"",
            "ucl::rename",
        ),
        (
            "decoder.ucl",
            "decoder",
            "shift attn.norm, mlp.norm",
            "shift attn.norms, mlp.norm",
            "ucl::name",
        ),
        ("llama.ucl", "llama", "(n i r) h = attn.q", "(k i r) h = attn.q", "ucl::balance"),
        ("llama.ucl", "llama", "each l { mlp.gate", "each e { mlp.gate", "ucl::name"),
        ("llama.ucl", "llama", "extends decoder", "extends decode", "ucl::name"),
        ("llama.ucl", "llama", "expect mcore", "expect mcor", "ucl::name"),
        ("llama.ucl", "llama", "base \"model.\"", "base \"mode1.\"", "ucl::base"),
        ("gpt2.ucl", "gpt2", "require pos, bias", "require position, bias", "ucl::name"),
        ("gpt2.ucl", "gpt2", "attn.masked_bias", "attn.c_proj.bias", "ucl::disjoint"),
    ];
    for (spec, model, old, new, code) in breaks {
        let text = shipped(spec);
        assert!(text.contains(old), "{spec} has no {old}");
        // The last place: what views that extend say stands after what they extend.
        let at = text.rfind(old).unwrap();
        let changed = format!("{}{new}{}", &text[..at], &text[at + old.len()..]);
        let codes = codes(spec, &changed, model);
        assert!(codes.contains(&code), "{old} -> {new}: {codes:?}");
    }
}

#[test]
fn forward_order_is_kept() {
    let library = library();
    let program = compile(&library, "mixtral");
    let paths: Vec<&str> = program.model.params.iter().map(|param| param.path.as_str()).collect();
    assert!(paths.starts_with(&["embed", "pos", "attn.norm", "attn.norm.bias", "attn.q"]));
    assert!(paths.ends_with(&["expert.up", "expert.down", "norm", "norm.bias", "head"]));
    let before: Vec<&str> =
        program.model.params.iter().filter(|p| p.before_each).map(|p| p.path.as_str()).collect();
    assert_eq!(before, ["embed", "pos"]);
}

#[test]
fn a_file_of_the_user_takes_the_place_of_a_shipped_one() {
    let mut library = Library::new();
    library.add_shipped("llama.ucl", "ucl 1\nmodel llama { dims h, v  norm : h  head : v h }");
    library.add("my.ucl", "ucl 1\nmodel llama { dims h  norm : h }\nview hf { \"n\" : h = norm }");
    assert_eq!(library.models(), ["llama"]);
    assert_eq!(compile(&library, "llama").model.params.len(), 1);
    assert_eq!(
        library.compile("lama").unwrap_err()[0].help.as_deref(),
        Some("did you mean `llama`?")
    );
}

#[test]
fn so_does_one_for_any_model() {
    let mut library = ucl_specs::library();
    let mine =
        "ucl 1\nmodel reward extends any { score : h }\nview mine extends hf { \"s\" : h = score }";
    library.add("my.ucl", mine);
    let program = compile(&library, "reward-llama");
    assert!(program.model.params.iter().any(|param| param.path == "score"));
    assert!(program.views.contains_key("mine") && !program.views.contains_key("deepspeed-chat"));
}

/// A model that has no head, or whose views have no `base`, is none that a value head goes on.
#[test]
fn a_model_for_any_is_made_for_those_that_it_goes_with() {
    let mut library = ucl_specs::library();
    let encoder =
        "ucl 1\nmodel encoder { dims h, v  embed : v h }\nview hf { \"e\" : v h = embed }";
    library.add("encoder.ucl", encoder);
    assert_eq!(render(library.sources(), &library.diagnostics()), "");
    let models = library.models();
    assert!(models.iter().any(|model| model == "encoder"));
    assert!(models.iter().any(|model| model == "reward-llama"));
    assert!(!models.iter().any(|model| model == "reward-encoder"));
}
