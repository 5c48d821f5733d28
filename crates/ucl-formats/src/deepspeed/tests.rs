//! Layouts that no fixture has.

use super::survey;
use super::synth::Synth;
use crate::inventory::{Data, Inventory, Role, Stored, Survey};
use std::fs::File;
use std::os::unix::fs::FileExt;

fn clean(synth: &Synth) -> Inventory {
    let folder = tempfile::tempdir().unwrap();
    synth.write(folder.path());
    let Survey { inventory, problems } = survey(folder.path());
    assert_eq!(problems, []);
    let params = synth.groups.iter().flatten().chain(&synth.frozen);
    for (index, (name, len)) in params.enumerate() {
        let expected = Synth::values(index, *len);
        let stored: Vec<_> = inventory.tensors.iter().filter(|t| t.name == *name).collect();
        let trained = stored[0].role == Role::Trained;
        assert_eq!(stored.len(), if trained { 3 } else { 1 }, "{name}");
        for tensor in stored {
            assert_eq!(values(&inventory, tensor), expected, "{} of {name}", tensor.state);
        }
    }
    inventory
}

pub(super) fn values(inventory: &Inventory, tensor: &Stored) -> Vec<f32> {
    let mut values = Vec::new();
    let mut take = |file: u32, offset: u64, len: u64| {
        let mut bytes = vec![0; len as usize * 4];
        let file = File::open(&inventory.files[file as usize].path).unwrap();
        file.read_exact_at(&mut bytes, offset).unwrap();
        values.extend(bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())));
    };
    match &tensor.data {
        Data::Strided { file, offset, .. } => take(*file, *offset, tensor.shape[0]),
        Data::Runs(runs) => runs.iter().for_each(|run| take(run.file, run.offset, run.len)),
        Data::Boxes(_) => panic!("DeepSpeed stores no boxes"),
    }
    values
}

#[test]
fn ranks_beyond_a_hundred_are_in_the_order_of_their_numbers() {
    let groups = vec![vec![("a", 401), ("b", 3)], vec![("c", 7)]];
    let inventory = clean(&Synth { ranks: 130, groups, ..Synth::default() });
    assert_eq!(inventory.mesh["dp"], 130);
    // 7 elements over 130 ranks of 2: most parts are padding from end to end.
    let padded = |buffer: &&_| matches!(buffer, crate::inventory::Buffer { len, padding, .. } if *padding == [(0, *len)]);
    assert!(inventory.buffers.iter().filter(padded).count() > 100);
}

#[test]
fn elastic_states() {
    let groups = vec![vec![("a", 5), ("b", 4)], vec![("c", 1)]];
    let inventory = clean(&Synth { ranks: 3, groups, elastic: true, ..Synth::default() });
    assert!(inventory.notes[0].contains("elastic"));
    assert_eq!(inventory.carried[1].without[0].len(), 2);
}

#[test]
fn groups_and_parameters_of_nothing() {
    let groups = vec![vec![], vec![("none", 0), ("a", 4), ("also_none", 0)], vec![]];
    let inventory = clean(&Synth { ranks: 2, groups, ..Synth::default() });
    let groups = inventory.optimizer.unwrap().groups;
    assert_eq!(groups.iter().map(|group| group.params.len()).collect::<Vec<_>>(), [0, 3, 0]);
}

#[test]
fn wrappers_are_taken_off_and_frozen_fragments_taken() {
    let synth = Synth {
        ranks: 2,
        groups: vec![vec![("layer.module.weight", 5)]],
        frozen: vec![("fixed", 3)],
        wrapper: "module._orig_mod.",
        ..Synth::default()
    };
    let inventory = clean(&synth);
    assert!(inventory.notes[0].starts_with("Wrapper prefixes"));
    let fixed = inventory.tensors.iter().find(|tensor| tensor.name == "fixed").unwrap();
    assert_eq!(fixed.role, Role::Frozen);
}

#[test]
fn shards_of_very_old_releases_lack_an_underscore() {
    let groups = vec![vec![("a", 5)]];
    clean(&Synth { ranks: 2, groups, suffix: "optim_states.pt", ..Synth::default() });
}

#[test]
fn muons_momentum_is_of_whole_matrices() {
    // 17 over three ranks of 6: `b` is on two of them, `c` too.
    let groups = vec![vec![("a", 5), ("b", 6), ("c", 6)]];
    let folder = tempfile::tempdir().unwrap();
    Synth { ranks: 3, groups, muon: true, ..Synth::default() }.write(folder.path());
    let Survey { inventory, problems } = survey(folder.path());
    assert_eq!(problems, []);
    let momentum: Vec<_> =
        inventory.tensors.iter().filter(|tensor| tensor.state == "momentum_buffer").collect();
    let told: Vec<_> =
        momentum.iter().map(|held| (&*held.name, held.at.get("replica").copied())).collect();
    assert_eq!(
        told,
        [("a", None), ("b", None), ("b", Some(1)), ("c", None), ("c", Some(1))],
        "every copy is compared with the first"
    );
    for held in momentum {
        let index = ["a", "b", "c"].iter().position(|name| *name == held.name).unwrap();
        assert_eq!(values(&inventory, held), Synth::values(index, held.shape[0]), "{held:?}");
    }
    let lens = inventory.buffers.iter().filter(|buffer| buffer.label.contains("momentum_buffer"));
    assert_eq!(lens.map(|buffer| buffer.len).collect::<Vec<_>>(), [11, 12, 6]);
}

#[test]
fn muons_momentum_of_an_elastic_save() {
    // Of the second group nothing was cut off, as it has no padding.
    for (groups, lost) in
        [(vec![vec![("a", 5), ("b", 6)]], true), (vec![vec![("a", 6), ("b", 6)]], false)]
    {
        let folder = tempfile::tempdir().unwrap();
        Synth { ranks: 2, groups, muon: true, elastic: true, ..Synth::default() }
            .write(folder.path());
        let Survey { inventory, problems } = survey(folder.path());
        assert_eq!(problems, []);
        let states = inventory.tensors.iter().filter(|held| held.state == "momentum_buffer");
        assert_eq!(states.count(), if lost { 0 } else { 2 });
        let unread: Vec<&str> = inventory.unread.iter().map(|one| one.message.as_str()).collect();
        let told = "Muon's `momentum_buffer` of group 0 lacks 1 element at its end: `elastic_checkpoint` \
                    takes that much for padding";
        assert_eq!(unread, if lost { vec![told] } else { vec![] });
    }
}

#[test]
fn muons_momentum_of_another_run() {
    // The masters' parts are of the same length, the matrices that they meet are not.
    let run = |first, second| {
        let groups = vec![vec![("a", first), ("b", second), ("c", 6)]];
        let folder = tempfile::tempdir().unwrap();
        Synth { ranks: 3, groups, muon: true, ..Synth::default() }.write(folder.path());
        folder
    };
    let (folder, other) = (run(6, 5), run(5, 6));
    let shard = "zero_pp_rank_0_mp_rank_00_optim_states.pt";
    std::fs::copy(other.path().join(shard), folder.path().join(shard)).unwrap();
    let problems = survey(folder.path()).problems;
    let told: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    let wanted = "`momentum_buffer` of group 0 has 11 elements, expected 6: data rank 0 of 3 holds all of each \
                  matrix that its part of 17 elements meets, by the shapes in mp_rank_00_model_states.pt";
    assert_eq!(told, [wanted]);
}
