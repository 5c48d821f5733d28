//! What was typed cannot be meant.

use crate::scene::Scene;
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::Zero;

#[test]
fn flags() {
    let mut scene = Scene::of(&SMALL.run(1, 2, Zero::Bf16));
    for flags in [
        &["--view", "megatorn"][..],
        &["--view", "HF"],
        &["--from-view", "deepspeed-pip"],
        &["--from-view", "hf"],
        &["--to", "deepspeed", "--mesh", "tp=3"],
        &["--to", "dcp", "--mesh", "tp=2"],
        &["--to", "hf", "--view", "universal"],
        &["--to", "hf", "--view", "stored"],
        &["--to", "hf", "--view", "hf5"],
        &["--to", "hf", "--mesh", "tp=2"],
        &["--to", "megatorn"],
        &["--memory", "lots"],
        &["--memory", "-1"],
        &["--memory", "0"],
        &["--set", "k"],
        &["--set", "k=four"],
        &["--set", "k=0"],
        &["--set", "kk=4"],
        &["--set", "k=4", "--set", "k=2"],
        &["--mesh", "tp=2"],
        &["--from-mesh", "tp=4"],
        &["--dtype", "int8"],
        &["--dtype", "f8_e4m3"],
        &["--jobs", "0"],
        &["--overwite"],
    ] {
        scene.refused(&flags.join(" "), flags);
    }
    insta::assert_snapshot!(scene.said());
}
