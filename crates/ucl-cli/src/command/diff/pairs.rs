//! Which tensor of one checkpoint is which of the other.

use crate::failure::{Stop, refuse};
use crate::session::Session;
use crate::show;
use crate::source::Opened;
use ucl_formats::Format;
use ucl_ir::Mesh;
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
    /// How many pairs have shapes of which one is the other with neighbouring dims merged.
    pub(super) merged: u64,
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
                    let shapes = (&tensor.shape[..], &b[*at].shape[..]);
                    let merged = merges(shapes.0, shapes.1) || merges(shapes.1, shapes.0);
                    let alike = shapes.0 == shapes.1 || merged;
                    if alike && comparable(tensor.dtype, b[*at].dtype) {
                        matched.pairs.push(Pair { a: number, b: *at });
                        matched.merged += u64::from(merged);
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
///
/// Fails where no name of one side is in the other: that says nothing of their values.
pub(super) fn plans<'a>(
    a: &'a Opened,
    b: &'a Opened,
    (naming, states): (&Naming, States),
    session: &Session<'_, '_>,
) -> Result<(Plan<'a>, Plan<'a>, Matched), Stop> {
    let target = |naming: &Naming, dtype| Target {
        stages: Vec::new(),
        mesh: Mesh::new(),
        format: Format::Universal,
        naming: naming.clone(),
        dtype,
        states,
        max_file_bytes: u64::MAX,
    };
    let left = a.plan(target(naming, None), session)?;
    let right = b.plan(target(naming, None), session)?;
    let mut matched = Matched::of(left.tensors(), right.tensors());
    if matched.pairs.is_empty() && matched.shapes.is_empty() {
        return Err(nothing_in_common(&model(a, session)?, &model(b, session)?));
    }
    let Some(dtype) = narrower(&left, &right, &matched) else { return Ok((left, right, matched)) };
    let left = a.plan(target(naming, Some(dtype)), session)?;
    let right = b.plan(target(naming, Some(dtype)), session)?;
    matched = Matched::of(left.tensors(), right.tensors());
    matched.weights_as = Some(dtype);
    Ok((left, right, matched))
}

/// Names that both sides have: the model's own if it is the same model, else the stored ones.
///
/// A side that was read as what the other's model extends is read as that model, if it is one.
pub(super) fn common(
    a: &mut Opened,
    b: &mut Opened,
    session: &Session<'_, '_>,
) -> Result<Naming, Stop> {
    let same = match (model(a, session)?, model(b, session)?) {
        (Some((of_a, above_a)), Some((of_b, above_b))) => {
            of_a == of_b
                || (above_b.contains(&of_a) && a.read_as(&of_b))
                || (above_a.contains(&of_b) && b.read_as(&of_a))
        }
        (a, b) => a.is_none() && b.is_none(),
    };
    Ok(if same { Naming::Universal } else { Naming::Stored })
}

/// A model's name, and the models that it extends.
type Family = (String, Vec<String>);

/// What a side was read as; none where no model fits.
fn model(side: &Opened, session: &Session<'_, '_>) -> Result<Option<Family>, Stop> {
    let bound = side.bind(&Naming::Universal, session)?;
    let model = bound.spec.map(|(program, _)| &program.model);
    Ok(model.map(|model| (model.name.clone(), model.ancestors.clone())))
}

/// Why nothing can be compared, by what each side was read as.
fn nothing_in_common(a: &Option<Family>, b: &Option<Family>) -> Stop {
    let model = |side: &Option<Family>| match side {
        Some((name, _)) => format!("as model `{}`", show::name(name)),
        None => "by its own names, as no model fits".to_owned(),
    };
    refuse(
        format!(
            "no tensor of a is in b, so nothing can be compared: a was read {}, b {}",
            model(a),
            model(b)
        ),
        "say which model both are: `--config DIR` names a folder with its config.json, `--spec NAME` its spec",
    )
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

/// Whether `coarse` is `fine` with neighbouring dims merged, which leaves the row-major order as it is.
fn merges(fine: &[u64], coarse: &[u64]) -> bool {
    let mut rest = fine.iter();
    let whole = coarse.iter().all(|size| {
        let mut merged = rest.next().copied();
        while let Some(product) = merged
            && product != *size
        {
            merged = rest.next().and_then(|next| product.checked_mul(*next));
        }
        merged.is_some()
    });
    let fewer = !coarse.is_empty() && coarse.len() < fine.len();
    fewer && whole && rest.all(|size| *size == 1)
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

#[cfg(test)]
mod tests {
    use super::merges;

    #[test]
    fn neighbouring_dims_merge() {
        assert!(merges(&[4, 8, 32], &[32, 32]));
        assert!(merges(&[32, 4, 8], &[32, 32]));
        assert!(merges(&[2, 3, 4], &[24]));
        assert!(merges(&[2, 3, 1], &[2, 3]) && merges(&[1, 2, 3], &[2, 3]));
    }

    #[test]
    fn other_shapes_are_others() {
        assert!(!merges(&[32, 32], &[32, 32]), "equal, nothing is merged");
        assert!(!merges(&[32, 32], &[4, 8, 32]), "the other way round");
        assert!(!merges(&[8, 4, 32], &[4, 256]) && !merges(&[2, 3, 4], &[8, 3]));
        assert!(!merges(&[2, 3, 4], &[2, 3]) && !merges(&[2, 3], &[7]));
        assert!(!merges(&[1], &[]) && !merges(&[], &[1]));
        assert!(!merges(&[u64::MAX, 2, 2], &[4]));
    }
}
