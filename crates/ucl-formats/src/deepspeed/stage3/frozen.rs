//! Parameters that are not trained: each rank's model file has its pieces, in the model's own type.

use super::super::Rank;
use super::super::join::{Join, RankPart};
use super::super::mesh::Degrees;
use super::super::model::ModelFile;
use super::super::weights::PARAM;
use super::cut::Cut;
use super::most_are_missing;
use crate::inventory::{Inventory, Problem, Role, Stored};
use crate::named::Weight;
use crate::ranks::MIXED;
use crate::ranks::Opened;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Puts the frozen parameters of an `mp` rank together; `model` is its first data rank's file, `have`
/// are those that are stored whole already.
pub(super) fn collect(
    models: &[(Rank, Opened<ModelFile>)],
    (mp, model): (u64, &Opened<ModelFile>),
    degrees: Degrees,
    have: &HashSet<&str>,
    inventory: &mut Inventory,
    problems: &mut Vec<Problem>,
) {
    let at = degrees.at(mp);
    let ranks: BTreeMap<u64, _> =
        models.iter().filter(|((of, _), _)| *of == mp).map(of_rank).collect();
    let wanted = || model.content.frozen_shapes.iter().filter(|(name, _)| !have.contains(&**name));
    let before = problems.len();
    for (file, pieces) in ranks.values() {
        complete(file, wanted().map(|(name, _)| name.as_str()), pieces, problems);
    }
    if problems.len() > before || most_are_missing(ranks.len(), degrees) {
        return;
    }
    let mut found: Vec<Stored> = Vec::new();
    for one in wanted() {
        let (name, shape) = one;
        let Some(layout) = Cut::new(std::iter::once(shape), degrees.dp) else {
            let message = format!("the shape of `{name}` has too many elements");
            problems.push(Problem::new(&model.path, message));
            continue;
        };
        let part = |rank: u64| {
            let (file, pieces) = ranks.get(&rank)?;
            let extent = Some(&pieces.get(name.as_str())?.extent);
            Some(RankPart { file: file.file, path: &file.path, rank: (mp, rank), extent })
        };
        let join = Join {
            layout: &layout,
            shapes: std::slice::from_ref(one),
            state: PARAM,
            role: Role::Frozen,
            at: &at,
            of: format!("`{name}`"),
            by: &model.path,
            among: "data rank",
            mp,
            ranks: (0..degrees.dp).map(part).collect(),
        };
        join.store(&mut found, inventory, problems);
    }
    inventory.tensors.append(&mut found);
}

type Pieces<'a> = HashMap<&'a str, &'a Weight>;

fn of_rank((rank, file): &(Rank, Opened<ModelFile>)) -> (u64, (&Opened<ModelFile>, Pieces<'_>)) {
    let pieces = file.content.frozen.iter().map(|piece| (piece.name.as_str(), piece));
    (rank.1, (file, pieces.collect()))
}

/// A rank has to have a flat piece of every frozen parameter whose shape is recorded, and no other.
fn complete<'a>(
    file: &Opened<ModelFile>,
    wanted: impl Iterator<Item = &'a str>,
    pieces: &Pieces<'_>,
    problems: &mut Vec<Problem>,
) {
    let own_types: HashMap<&str, _> =
        file.content.weights.iter().map(|weight| (&*weight.name, weight.extent.dtype)).collect();
    let mut said = HashSet::new();
    let mut wrong = |kind: &'static str, what: String, help: &str| {
        // One of a kind stands for all.
        if said.insert(kind) {
            problems.push(Problem::new(&file.path, what).help(help));
        }
    };
    for name in wanted {
        let Some(piece) = pieces.get(name) else {
            let what = format!("it has no piece of the frozen `{name}`, whose shape is recorded");
            wrong("missing", what, MIXED);
            continue;
        };
        let extent = &piece.extent;
        let own = own_types.get(name).copied().unwrap_or(extent.dtype);
        if !extent.dtype.is_float() && own.is_float() {
            let what = format!(
                "the frozen `{name}` is stored as {}, the model has it as {own}: it was quantised, and \
                 the scales are not saved",
                extent.dtype
            );
            let help = "Save the run again without `zero_quantized_nontrainable_weights`.";
            wrong("quantised", what, help);
        } else if extent.shape.len() != 1 || !extent.is_contiguous() {
            let what = format!(
                "the piece of `{name}` has the shape {:?}, it should be flat",
                extent.shape
            );
            wrong("shape", what, MIXED);
        }
    }
    let recorded: HashSet<_> = file.content.frozen_shapes.iter().map(|(name, _)| name).collect();
    if let Some(piece) = file.content.frozen.iter().find(|piece| !recorded.contains(&piece.name)) {
        let what = format!("it has a piece of `{}`, whose shape is not recorded", piece.name);
        wrong("other", what, MIXED);
    }
}
