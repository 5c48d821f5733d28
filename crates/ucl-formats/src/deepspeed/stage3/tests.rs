//! ZeRO-3 in forms that no fixture has.

use super::super::survey;
use super::super::synth::Draft;
use super::super::tests::values;
use crate::inventory::{Inventory, Role, Survey};
use crate::torch::NodeId;
use ucl_tensor::DType;

/// Parameters of one size each; `p` of all holds `1000 p`, `1000 p + 1`, … in every state.
struct Run {
    ranks: u64,
    /// By sub-group.
    trained: Vec<Vec<(&'static str, u64)>>,
    /// The sub-groups of each parameter group.
    groups: Vec<Vec<i64>>,
    frozen: Vec<(&'static str, u64)>,
    /// The step of each sub-group.
    steps: Vec<i64>,
    /// Over how many ranks MiCS cuts.
    mics: Option<u64>,
    twist: Twist,
}

/// What is unusual.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twist {
    None,
    /// Masters were swapped out.
    Swapped,
    /// Frozen pieces are integers.
    Quantised,
    /// Experts are cut over fewer ranks.
    Experts,
    /// The model file knows a parameter less.
    Unknown,
}

fn run(ranks: u64) -> Run {
    Run {
        ranks,
        trained: vec![vec![("a", 401), ("b", 3)], vec![("c", 1)]],
        groups: vec![vec![0, 1]],
        frozen: vec![("fixed", 7)],
        steps: vec![5, 5],
        mics: None,
        twist: Twist::None,
    }
}

impl Run {
    fn cut_over(&self) -> u64 {
        self.mics.unwrap_or(self.ranks)
    }

    /// A rank's piece of a parameter.
    fn piece(&self, index: usize, len: u64, rank: u64) -> Vec<f32> {
        let piece = len.div_ceil(self.cut_over());
        let element = |at: u64| if at < len { (index as u64 * 1000 + at) as f32 } else { 0.0 };
        (rank * piece..(rank + 1) * piece).map(element).collect()
    }

    fn survey(&self) -> Survey {
        let folder = tempfile::tempdir().unwrap();
        for rank in 0..self.cut_over() {
            let name = format!("zero_pp_rank_{rank}_mp_rank_00");
            self.model(rank).finish(&folder.path().join(format!("{name}_model_states.pt")));
            self.shard(rank).finish(&folder.path().join(format!("{name}_optim_states.pt")));
        }
        let survey = survey(folder.path());
        if survey.problems.is_empty() {
            self.check(&survey.inventory);
        }
        survey
    }

    /// Every tensor has the values that it was given.
    fn check(&self, inventory: &Inventory) {
        let params = self.trained.iter().flatten().chain(&self.frozen);
        for (index, (name, len)) in params.enumerate() {
            let expected: Vec<f32> =
                (0..*len).map(|at| (index as u64 * 1000 + at) as f32).collect();
            let stored: Vec<_> = inventory.tensors.iter().filter(|t| t.name == *name).collect();
            let trained = stored[0].role == Role::Trained;
            assert_eq!(stored.len(), if trained { 2 } else { 1 }, "{name}");
            for tensor in stored {
                assert_eq!(values(inventory, tensor), expected, "{} of {name}", tensor.state);
            }
        }
    }

    fn model(&self, rank: u64) -> File {
        let mut file = File::default();
        let (mut module, mut shapes, mut index) = (Vec::new(), Vec::new(), 0);
        for group in &self.trained {
            let mut sizes = Vec::new();
            for (name, len) in group {
                if self.twist != Twist::Unknown || *name != "c" {
                    module.push(file.entry(name, |file| file.draft.of_type(DType::BF16, vec![])));
                }
                sizes.push(file.entry(name, |file| file.draft.pickle.size(&[*len])));
                index += 1;
            }
            shapes.push(file.draft.pickle.ordered_dict(sizes));
        }
        let (mut sizes, mut pieces) = (Vec::new(), Vec::new());
        for (name, len) in &self.frozen {
            let piece = self.piece(index, *len, rank);
            module.push(file.entry(name, |file| file.draft.tensor(&[])));
            sizes.push(file.entry(name, |file| file.draft.pickle.size(&[*len])));
            pieces.push(file.entry(name, |file| match self.twist {
                Twist::Quantised => file.draft.of_type(DType::I8, vec![1; piece.len()]),
                _ => file.draft.tensor(&piece),
            }));
            index += 1;
        }
        let pickle = &mut file.draft.pickle;
        let mics = self.mics.map_or(-1, |size| size as i64);
        let pairs = vec![
            ("module", pickle.ordered_dict(module)),
            ("param_shapes", pickle.list(shapes)),
            ("frozen_param_shapes", pickle.ordered_dict(sizes)),
            ("frozen_param_fragments", pickle.ordered_dict(pieces)),
            ("global_steps", pickle.int(5)),
            ("dp_world_size", pickle.int(self.ranks as i64)),
        ];
        let size = file.draft.pickle.int(mics);
        let zero = file.draft.dict(vec![("mics_shard_size", size)]);
        let config = file.draft.dict(vec![("zero_optimization", zero)]);
        let root = [pairs, vec![("ds_config", config)]].concat();
        file.root = Some(file.draft.dict(root));
        file
    }

    fn shard(&self, rank: u64) -> File {
        let mut file = File::default();
        let (mut index, mut masters, mut states) = (0, Vec::new(), Vec::new());
        for (number, group) in self.trained.iter().enumerate() {
            let mut flat = Vec::new();
            for (_, len) in group {
                flat.extend(self.piece(index, *len, rank));
                index += 1;
            }
            let empty = self.twist == Twist::Swapped;
            masters.push(file.draft.tensor(if empty { &[] } else { &flat }));
            let average = file.draft.tensor(&flat);
            let step = file.draft.pickle.int(self.steps[number]);
            let state = file.draft.dict(vec![("exp_avg", average), ("step", step)]);
            states.push((file.draft.pickle.int(number as i64), state));
        }
        let groups = self.groups.iter().map(|numbers| {
            let numbers = numbers.iter().map(|number| file.draft.pickle.int(*number)).collect();
            let params = file.draft.pickle.list(numbers);
            let rate = file.draft.pickle.float(0.5);
            file.draft.dict(vec![("lr", rate), ("params", params)])
        });
        let groups = groups.collect();
        let groups = file.draft.pickle.list(groups);
        let states = file.draft.pickle.dict(states);
        let optimizer = file.draft.dict(vec![("state", states), ("param_groups", groups)]);
        let pickle = &mut file.draft.pickle;
        let mut pairs = vec![
            ("zero_stage", pickle.int(3)),
            ("partition_count", pickle.int(self.cut_over() as i64)),
            ("fp32_flat_groups", pickle.list(masters)),
            ("optimizer_state_dict", optimizer),
        ];
        if self.twist == Twist::Experts {
            // Each rank says that the first one has the sub-group alone.
            let ranks = vec![pickle.int(0)];
            let ranks = pickle.list(ranks);
            let key = pickle.str("partition_ranks");
            let group = pickle.dict(vec![(key, ranks)]);
            pairs.push(("ds_zero_partition_groups", pickle.list(vec![group])));
        }
        let state = file.draft.dict(pairs);
        file.root = Some(file.draft.dict(vec![("optimizer_state_dict", state)]));
        file
    }
}

#[derive(Default)]
struct File {
    draft: Draft,
    root: Option<NodeId>,
}

impl File {
    fn entry(&mut self, name: &str, value: impl FnOnce(&mut File) -> NodeId) -> (NodeId, NodeId) {
        let value = value(self);
        (self.draft.pickle.str(name), value)
    }

    fn finish(self, path: &std::path::Path) {
        self.draft.write(self.root.unwrap(), path);
    }
}

fn clean(run: &Run) -> Inventory {
    let Survey { inventory, problems } = run.survey();
    assert_eq!(problems, []);
    inventory
}

fn refused(twist: Twist) -> String {
    let survey = Run { twist, ..run(2) }.survey();
    assert!(!survey.problems.is_empty());
    survey.problems.iter().map(|problem| format!("{}\n", problem.message)).collect()
}

#[test]
fn more_ranks_than_a_parameter_has_elements() {
    let inventory = clean(&run(130));
    assert_eq!(inventory.mesh["dp"], 130);
    let padded = |buffer: &&crate::inventory::Buffer| buffer.padding == [(0, buffer.len)];
    // Of the one element in `c` and of three in `b` 129 and 127 ranks have nothing.
    assert!(inventory.buffers.iter().filter(padded).count() >= 129 * 2);
    assert_eq!(inventory.own_types["a"], DType::BF16);
}

#[test]
fn groups_have_the_parameters_of_their_sub_groups() {
    let one = clean(&run(2)).optimizer.unwrap().groups;
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].params, ["a", "b", "c"]);
    assert_eq!((one[0].step.clone(), one[0].steps.len()), (Some(5.into()), 0));
    let differing = Run { steps: vec![5, 4], ..run(2) };
    let one = clean(&differing).optimizer.unwrap().groups;
    assert_eq!(one[0].step, Some(5.into()));
    assert_eq!(one[0].steps["c"], 4);
    let two = Run { groups: vec![vec![0], vec![], vec![1]], ..run(2) };
    let groups = clean(&two).optimizer.unwrap().groups;
    assert_eq!(groups.iter().map(|group| group.params.len()).collect::<Vec<_>>(), [2, 0, 1]);
}

#[test]
fn the_first_group_of_mics_has_everything() {
    let inventory = clean(&Run { mics: Some(2), ..run(8) });
    assert!(inventory.notes.iter().any(|note| note.starts_with("MiCS")));
    assert_eq!(inventory.mesh["dp"], 2);
}

#[test]
fn what_cannot_be_read_is_refused() {
    assert!(refused(Twist::Swapped).contains("swapped to NVMe"));
    assert!(refused(Twist::Experts).contains("ranks [0] share sub-group 0, this is rank 1 of 2"));
    assert!(refused(Twist::Quantised).contains("the scales are not saved"));
    assert!(refused(Twist::Unknown).contains("the optimizer has `c`, the weights do not"));
}
