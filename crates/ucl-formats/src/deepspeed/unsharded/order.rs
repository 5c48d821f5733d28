//! Which parameter a numbered state is of, from shapes and order alone.
//!
//! A group lists its parameters in the order of the module, whichever of them it has. So the groups
//! together are a shuffle of the module's parameters that keeps the order of each: if their shapes
//! allow one such shuffle only, it is the right one.

use std::collections::BTreeMap;

/// More states than this are searched by nobody: too much fits.
const MOST: usize = 1 << 16;

/// Why there is no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unordered {
    /// No assignment fits the shapes.
    None,
    /// Several do.
    Several,
}

/// For each group, the places of its parameters among `module`. A shape that is not known fits all.
/// What no group has may be passed over where the module has more than the groups.
pub(super) fn order(
    module: &[&[u64]],
    groups: &[Vec<Option<&[u64]>>],
) -> Result<Vec<Vec<usize>>, Unordered> {
    let wanted: usize = groups.iter().map(Vec::len).sum();
    let spare = module.len().checked_sub(wanted).ok_or(Unordered::None)?;
    // How far each group is, with the ways to get there (0, 1 or 2 for more) and the last step.
    type Reached = BTreeMap<Vec<usize>, (u8, Option<usize>)>;
    let mut steps: Vec<Reached> = vec![Reached::from([(vec![0; groups.len()], (1, None))])];
    for (place, shape) in module.iter().enumerate() {
        let mut next = Reached::new();
        let mut reach = |at: Vec<usize>, ways: u8, by: Option<usize>| {
            let known = next.entry(at).or_insert((0, by));
            known.0 = (known.0 + ways).min(2);
        };
        for (at, (ways, _)) in &steps[place] {
            if place - at.iter().sum::<usize>() < spare {
                reach(at.clone(), *ways, None);
            }
            for (group, params) in groups.iter().enumerate() {
                let fits =
                    params.get(at[group]).is_some_and(|known| known.is_none_or(|k| k == *shape));
                if fits {
                    let mut further = at.clone();
                    further[group] += 1;
                    reach(further, *ways, Some(group));
                }
            }
        }
        if next.len() > MOST {
            return Err(Unordered::Several);
        }
        steps.push(next);
    }
    let mut at: Vec<usize> = groups.iter().map(Vec::len).collect();
    match steps[module.len()].get(&at) {
        None => return Err(Unordered::None),
        Some((1, _)) => {}
        Some(_) => return Err(Unordered::Several),
    }
    let mut places: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
    for place in (0..module.len()).rev() {
        let step = steps[place + 1].get(&at).and_then(|(_, by)| *by);
        if let Some(group) = step {
            places[group].push(place);
            at[group] -= 1;
        }
    }
    places.iter_mut().for_each(|group| group.reverse());
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::{Unordered, order};

    fn known<'a>(groups: &[&[&'a [u64]]]) -> Vec<Vec<Option<&'a [u64]>>> {
        groups.iter().map(|group| group.iter().map(|shape| Some(*shape)).collect()).collect()
    }

    #[test]
    fn matrices_and_vectors_in_two_groups() {
        let module: [&[u64]; 5] = [&[3, 4], &[3], &[4, 3], &[4], &[2, 4]];
        let groups = known(&[&[&[3, 4], &[4, 3], &[2, 4]], &[&[3], &[4]]]);
        assert_eq!(order(&module, &groups), Ok(vec![vec![0, 2, 4], vec![1, 3]]));
        // In another order than the module's.
        let turned = known(&[&[&[4, 3], &[3, 4], &[2, 4]], &[&[3], &[4]]]);
        assert_eq!(order(&module, &turned), Err(Unordered::None));
    }

    #[test]
    fn what_is_not_trained_is_passed_over_where_shapes_tell() {
        let module: [&[u64]; 4] = [&[5], &[3], &[5, 5], &[2]];
        assert_eq!(order(&module, &known(&[&[&[3], &[2]]])), Ok(vec![vec![1, 3]]));
        let module: [&[u64]; 3] = [&[3], &[3], &[2]];
        assert_eq!(order(&module, &known(&[&[&[3], &[2]]])), Err(Unordered::Several));
        let more: [&[u64]; 4] = [&[3]; 4];
        assert_eq!(order(&module, &known(&[&more])), Err(Unordered::None));
    }

    #[test]
    fn equal_shapes_in_two_groups_say_nothing() {
        let module: [&[u64]; 2] = [&[3], &[3]];
        assert_eq!(order(&module, &known(&[&[&[3]], &[&[3]]])), Err(Unordered::Several));
        assert_eq!(order(&module, &known(&[&[&[3], &[3]]])), Ok(vec![vec![0, 1]]));
        assert_eq!(order(&module, &[vec![None, None]]), Ok(vec![vec![0, 1]]));
        assert_eq!(order(&[], &[]), Ok(vec![]));
    }
}
