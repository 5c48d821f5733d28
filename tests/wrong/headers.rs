//! A plan is made from headers: the data stays where it is.

use crate::scene::Scene;
use serde_json::Value;
use ucl_tests::command::ucl;
use ucl_tests::made::llama::{Llama, SMALL};
use ucl_tests::made::run::Zero;

/// About 8 MB.
const LARGER: Llama = Llama { hidden: 64, head: 8, ffn: 160, vocab: 4000, ..SMALL };

fn size(scene: &Scene) -> u64 {
    let files = crate::scene::tree(&scene.path("run"));
    files.iter().filter_map(|(_, bytes)| Some(bytes.as_ref()?.len() as u64)).sum()
}

#[test]
fn planning_reads_headers_alone() {
    let scene = Scene::of(&LARGER.run(2, 2, Zero::Bf16));
    let ended = ucl(&["plan", &scene.typed("run"), "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.text());
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    let report = &told["report"];
    let [headers, disk] = ["header_bytes", "disk_bytes"].map(|key| report[key].as_u64().unwrap());
    let size = size(&scene);
    assert!(size > 7_000_000, "{size}");
    assert!(disk <= size && disk + 100 > size, "{disk} of {size}: all files but `latest`");
    assert!(headers > 1000 && headers < 100_000, "{headers} bytes of headers");
}

/// Where all data is damaged, the plan is the same: none of it was looked at.
#[test]
fn planning_does_not_see_the_data() {
    let plan = |spoil: bool| {
        let mut run = LARGER.run(2, 2, Zero::Bf16);
        for piece in run.ranks.iter_mut().flatten().flatten().filter(|_| spoil) {
            piece.weight.fill(1.0);
            piece.states.iter_mut().for_each(|state| state.fill(2.0));
        }
        let scene = Scene::of(&run);
        let ended = ucl(&["plan", &scene.typed("run"), "--full", "--json"]);
        assert_eq!(ended.code, 0, "{}", ended.text());
        ended.out.replace(&scene.typed(""), "TMP/")
    };
    assert!(plan(false) == plan(true), "the plan depends on data");
}
