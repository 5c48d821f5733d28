//! Which tensor of one checkpoint is which of the other.

use crate::failure::Stop;
use crate::session::Session;
use crate::show;
use crate::source::Opened;
use ucl_formats::Format;
use ucl_plan::{Naming, Plan, States, Target, TargetTensor, Work};
use ucl_tensor::DType;

/// A tensor on both sides, by its number in the plans.
pub(super) struct Pair {
    pub(super) a: usize,
    pub(super) b: usize,
}

/// What belongs together and what stands alone.
#[derive(Default)]
pub(super) struct Matched {
    pub(super) pairs: Vec<Pair>,
    /// Tensors whose shapes differ, a sentence each.
    pub(super) shapes: Vec<String>,
    pub(super) only_a: Vec<String>,
    pub(super) only_b: Vec<String>,
    /// The type that weights are cast to where the sides differ in it.
    pub(super) weights_as: Option<DType>,
}

impl Matched {
    /// Whether every tensor has its like.
    pub(super) fn is_whole(&self) -> bool {
        self.shapes.is_empty() && self.only_a.is_empty() && self.only_b.is_empty()
    }

    fn of(a: &[TargetTensor], b: &[TargetTensor]) -> Matched {
        let mut matched = Matched::default();
        let mut taken = vec![false; b.len()];
        let places: std::collections::BTreeMap<(&str, &str), usize> =
            b.iter().enumerate().map(|(at, tensor)| (key(tensor), at)).collect();
        for (number, tensor) in a.iter().enumerate() {
            match places.get(&key(tensor)) {
                Some(at) => {
                    taken[*at] = true;
                    if tensor.shape == b[*at].shape && comparable(tensor.dtype, b[*at].dtype) {
                        matched.pairs.push(Pair { a: number, b: *at });
                    } else {
                        matched.shapes.push(unlike(tensor, &b[*at]));
                    }
                }
                None => matched.only_a.push(label(tensor)),
            }
        }
        let alone = b.iter().zip(&taken).filter(|(_, taken)| !**taken);
        matched.only_b = alone.map(|(tensor, _)| label(tensor)).collect();
        matched
    }
}

/// Plans both sides to the same names, and weights to the same type.
pub(super) fn plans<'a>(
    a: &'a Opened,
    b: &'a Opened,
    states: States,
    session: &Session<'_, '_>,
) -> Result<(Plan<'a>, Plan<'a>, Matched), Stop> {
    let target = |naming: &Naming, dtype| Target {
        format: Format::Universal,
        naming: naming.clone(),
        dtype,
        states,
        max_file_bytes: u64::MAX,
    };
    let naming = common(a, b, session)?;
    let left = a.plan(target(&naming, None), session)?;
    let right = b.plan(target(&naming, None), session)?;
    let mut matched = Matched::of(left.tensors(), right.tensors());
    let Some(dtype) = narrower(&left, &right, &matched) else { return Ok((left, right, matched)) };
    let left = a.plan(target(&naming, Some(dtype)), session)?;
    let right = b.plan(target(&naming, Some(dtype)), session)?;
    matched = Matched::of(left.tensors(), right.tensors());
    matched.weights_as = Some(dtype);
    Ok((left, right, matched))
}

/// Names that both sides have: the model's own if it is the same model, else the stored ones.
fn common(a: &Opened, b: &Opened, session: &Session<'_, '_>) -> Result<Naming, Stop> {
    let model = |side: &Opened| -> Result<Option<String>, Stop> {
        let bound = side.bind(&Naming::Universal, session)?;
        Ok(bound.spec.map(|(program, _)| program.model.name.clone()))
    };
    Ok(if model(a)? == model(b)? { Naming::Universal } else { Naming::Stored })
}

/// The one type of the weights of the side that has the smaller one, if they differ.
fn narrower(left: &Plan<'_>, right: &Plan<'_>, matched: &Matched) -> Option<DType> {
    let mut narrow = None;
    for pair in &matched.pairs {
        let (a, b) = (&left.tensors()[pair.a], &right.tensors()[pair.b]);
        if !is_weight(a) || a.dtype == b.dtype {
            continue;
        }
        let of_pair = if a.dtype.size_bytes() < b.dtype.size_bytes() { a.dtype } else { b.dtype };
        if *narrow.get_or_insert(of_pair) != of_pair {
            return None;
        }
    }
    narrow
}

/// Names and states; master weights and the model's own are one state, the one that counts.
fn key(tensor: &TargetTensor) -> (&str, &str) {
    (&tensor.name, if is_weight(tensor) { "param" } else { &tensor.state })
}

fn is_weight(tensor: &TargetTensor) -> bool {
    tensor.state == "fp32" || tensor.state == "param"
}

fn comparable(a: DType, b: DType) -> bool {
    a == b || (a.is_float() && b.is_float())
}

fn label(tensor: &TargetTensor) -> String {
    format!("{} ({})", tensor.name, tensor.state)
}

fn unlike(a: &TargetTensor, b: &TargetTensor) -> String {
    format!(
        "{}: {} {} in a, {} {} in b",
        label(a),
        a.dtype,
        show::shape(&a.shape),
        b.dtype,
        show::shape(&b.shape),
    )
}
