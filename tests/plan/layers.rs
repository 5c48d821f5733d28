//! Layers that differ, over tensor and pipeline ranks.

use crate::simulate::{executed, mesh, planned, seed, sizes, stored};
use ucl_ir::Program;
use ucl_parser::Library;
use ucl_plan::{Naming, shard};

const MODEL: &str = r#"ucl 1
model mixed {
  dims l, h, f, v, e
  set dense of l : l % 3 = kd
  set sparse of l : not dense
  embed : v h
  each l in dense { mlp.up : f h }
  each l { norm : h }
  each l in sparse { expert.up : e f h }
  head : v h
  from args { kd = first ?? 0 }
}
view v {
  "embed" : v h = embed
  under "layers.{l}." {
    "norm"     : h   = norm
    "up"       : f h = mlp.up
    "{e}.up.x" : f h = expert.up
  }
  "head" : v h = head
}
view global extends v
layout v for v {
  mesh tp, pp, ep
  shard f, v over tp
  shard e over ep
  stage l over pp
}
layout global for global extends v { stage l over pp global }
"#;

fn program(text: &str) -> Program {
    let mut library = Library::new();
    library.add("mixed.ucl", text);
    library.compile("mixed").unwrap()
}

#[test]
fn every_rank_holds_its_own_layers() {
    let programs = [program(MODEL)];
    for set in ["l=4 h=3 f=8 v=4 e=2 kd=1", "l=4 h=3 f=8 v=4 e=2 kd=5", "l=4 h=3 f=8 v=4 e=2"] {
        let kd = sizes(set).get("kd").copied().unwrap_or(0);
        for view in ["v", "global"] {
            for on in ["tp=1", "tp=2", "tp=2 pp=2", "pp=4 ep=2", "tp=2 pp=2 ep=2"] {
                let simulated = stored(&programs[0], view, set, &mesh(on), false);
                let plan = planned(&programs, &simulated, view, set, &Naming::Universal);
                let made = executed(&plan, &simulated.files, 7);
                let mut names = vec!["embed".to_owned(), "head".to_owned()];
                for l in 0..4 {
                    let own = if l % 3 == kd { "mlp.up" } else { "expert.up" };
                    names.extend([format!("l.{l}.norm"), format!("l.{l}.{own}")]);
                }
                names.sort();
                assert_eq!(made.keys().cloned().collect::<Vec<_>>(), names, "{view} {set} {on}");
                for (name, cells) in &made {
                    let mut parts = name.splitn(3, '.');
                    let (path, layer) = match (parts.next(), parts.next(), parts.next()) {
                        (Some("l"), Some(layer), Some(path)) => (path, layer.parse().unwrap()),
                        _ => (name.as_str(), 0),
                    };
                    for (at, cell) in cells.iter().enumerate() {
                        let address = layer * cells.len() as u64 + at as u64;
                        assert_eq!(*cell, Some((seed(path), address)), "{name} {at} {view} {on}");
                    }
                }
            }
        }
    }
}

#[test]
fn to_make_a_model_the_numbers_have_to_follow() {
    let made = |text: &str, set: &str| {
        let one = mesh("tp=1");
        shard(&program(text), "v", &sizes(set), &one, false).err().map(|wrong| wrong[0].clone())
    };
    let set = "l=4 h=3 f=8 v=4 e=2";
    assert_eq!(made(MODEL, set), None);
    let unsaid = MODEL.replace("first ?? 0", "first");
    let wrong = made(&unsaid, set).unwrap();
    assert_eq!(wrong.message, "which `l` are in the set `dense` does not follow");
    assert_eq!(made(&unsaid, &format!("{set} kd=1")), None);
    let named = MODEL.replace(" : l % 3 = kd", "");
    assert!(made(&named, set).unwrap().help.unwrap().contains("give it a condition"));
}
