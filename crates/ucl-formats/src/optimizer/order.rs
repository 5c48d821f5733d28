//! Which parameter a number means.
//!
//! torch numbers the parameters group by group, each group in the order in which it was given them, which
//! is that of the model. So the groups together are a shuffle of the model's parameters that keeps the
//! order of each; what goes into which group, only the training script knows. If the shapes of the states
//! allow one such shuffle only, it is the right one.

use indexmap::IndexMap;

/// What a person should know where names were found so.
pub(crate) const BY_ORDER: &str = "The optimizer's states are numbered and not named: they were given \
                                   to the parameters by order and shape.";

/// Why numbers could not be made names; stands after "the optimizer numbers its parameters, and".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Numbered {
    /// The shapes fit in no order.
    #[error("their shapes are not those of the model's, in its order: {0}")]
    Unlike(String),
    /// The shapes fit in several orders.
    #[error("their shapes fit the model's in several ways")]
    Ambiguous,
    /// The weights are in no known order.
    #[error("the files of the weights do not tell the order of the model's modules")]
    Unordered,
}

/// So many partial assignments are followed at once.
const MOST: usize = 256;

/// How a partial assignment was reached.
#[derive(Clone, Copy)]
struct Step {
    /// How many ways lead here: 1, or 2 for more.
    ways: u8,
    /// The state before.
    from: usize,
    /// The group that took the parameter; `None` if none did.
    taken: Option<usize>,
}

/// Gives each place in each group the place of a parameter among `params`, which are names and shapes in
/// the order of the model. A shape of a group that is not known (`None`) fits all; a parameter that no
/// group has may be passed over where the model has more than the groups.
///
/// # Errors
/// There is no such order, or more than one.
pub(crate) fn assign(
    params: &[(&str, &[u64])],
    groups: &[Vec<Option<&[u64]>>],
) -> Result<Vec<Vec<usize>>, Numbered> {
    let wanted: usize = groups.iter().map(Vec::len).sum();
    if wanted > params.len() {
        let text = format!("it has {wanted}, the model {}", params.len());
        return Err(Numbered::Unlike(text));
    }
    // Each layer: how many of each group are taken.
    let mut layers: Vec<IndexMap<Vec<usize>, Step>> = Vec::with_capacity(params.len() + 1);
    let start = Step { ways: 1, from: 0, taken: None };
    layers.push(IndexMap::from_iter([(vec![0; groups.len()], start)]));
    for (seen, (name, shape)) in params.iter().enumerate() {
        let mut next: IndexMap<Vec<usize>, Step> = IndexMap::new();
        let here = layers.last().into_iter().flatten();
        for (from, (taken, step)) in here.enumerate() {
            let mut reach = |state: Vec<usize>, group: Option<usize>| {
                let known = next.entry(state);
                known
                    .and_modify(|known| known.ways = known.ways.saturating_add(step.ways).min(2))
                    .or_insert(Step { ways: step.ways, from, taken: group });
            };
            // Those that are frozen are in no group.
            let skipped = seen + 1 - taken.iter().sum::<usize>();
            if skipped <= params.len() - wanted {
                reach(taken.clone(), None);
            }
            for (group, shapes) in groups.iter().enumerate() {
                let fits = shapes
                    .get(taken[group])
                    .is_some_and(|wanted| wanted.is_none_or(|wanted| wanted == *shape));
                if fits {
                    let mut state = taken.clone();
                    state[group] += 1;
                    reach(state, Some(group));
                }
            }
        }
        if next.is_empty() {
            return Err(Numbered::Unlike(format!("`{name}` of {shape:?} fits none")));
        }
        if next.len() > MOST {
            return Err(Numbered::Ambiguous);
        }
        layers.push(next);
    }
    let all: Vec<usize> = groups.iter().map(Vec::len).collect();
    let end = layers.last().and_then(|last| Some((last.get_index_of(&all)?, last.get(&all)?.ways)));
    let Some((mut at, ways)) = end else {
        return Err(Numbered::Unlike("some fit no parameter".to_owned()));
    };
    if ways > 1 {
        return Err(Numbered::Ambiguous);
    }
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
    for (place, layer) in layers.iter().skip(1).enumerate().rev() {
        let Some((_, step)) = layer.get_index(at) else { break };
        if let Some(group) = step.taken {
            places[group].push(place);
        }
        at = step.from;
    }
    places.iter_mut().for_each(|group| group.reverse());
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::{Numbered, assign};

    fn known<'a>(groups: &[&[&'a [u64]]]) -> Vec<Vec<Option<&'a [u64]>>> {
        groups.iter().map(|group| group.iter().map(|shape| Some(*shape)).collect()).collect()
    }

    #[test]
    fn with_decay_and_without() {
        let params: [(&str, &[u64]); 6] = [
            ("e", &[7, 4]),
            ("a", &[4, 4]),
            ("n", &[4]),
            ("b", &[4, 4]),
            ("m", &[4]),
            ("h", &[7, 4]),
        ];
        let groups = known(&[&[&[7, 4], &[4, 4], &[4, 4], &[7, 4]], &[&[4], &[4]]]);
        assert_eq!(assign(&params, &groups).unwrap(), [vec![0, 1, 3, 5], vec![2, 4]]);
        // In another order than the model's.
        let turned = known(&[&[&[4, 4], &[7, 4], &[4, 4], &[7, 4]], &[&[4], &[4]]]);
        assert!(matches!(assign(&params, &turned), Err(Numbered::Unlike(_))));
    }

    #[test]
    fn what_is_frozen_is_in_no_group() {
        let params: [(&str, &[u64]); 3] = [("e", &[7, 4]), ("a", &[4, 4]), ("n", &[4])];
        assert_eq!(assign(&params, &known(&[&[&[4, 4], &[4]]])).unwrap(), [vec![1, 2]]);
        let twins: [(&str, &[u64]); 3] = [("a", &[4]), ("b", &[4]), ("c", &[5])];
        assert_eq!(assign(&twins, &known(&[&[&[4], &[5]]])), Err(Numbered::Ambiguous));
    }

    #[test]
    fn what_shapes_do_not_tell() {
        let params: [(&str, &[u64]); 2] = [("a", &[4]), ("b", &[4])];
        assert_eq!(assign(&params, &known(&[&[&[4]], &[&[4]]])), Err(Numbered::Ambiguous));
        assert_eq!(assign(&params, &known(&[&[&[4], &[4]]])).unwrap(), [vec![0, 1]]);
        for wrong in [&[&[4][..], &[5]][..], &[&[4], &[4], &[4]]] {
            assert!(matches!(assign(&params, &known(&[wrong])), Err(Numbered::Unlike(_))));
        }
        assert_eq!(assign(&params, &[vec![None, None]]).unwrap(), [vec![0, 1]]);
        assert_eq!(assign(&[], &[]), Ok(vec![]));
        let many: Vec<(&str, &[u64])> = vec![("a", &[4]); 20_000];
        let halves = vec![vec![Some(&[4][..]); 10_000]; 2];
        assert_eq!(assign(&many, &halves), Err(Numbered::Ambiguous));
    }
}
