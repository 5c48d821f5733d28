//! A plan run one element at a time.

use super::code::same;
use super::memory::{Tensors, each};
use crate::plan::Plan;
use crate::work::{MoveRole, Work};

/// Windows of a prime number of elements begin and end everywhere.
const WINDOW: u64 = 257;

/// The tensors that a plan makes of these files.
///
/// # Errors
/// An element is written twice, or a replica differs; says which.
pub(super) fn run(plan: &Plan<'_>, files: &[Vec<f64>]) -> Result<Tensors, String> {
    let mut out = Tensors::new();
    for (number, tensor) in plan.tensors().iter().enumerate() {
        let mut cells = vec![f64::NAN; usize::try_from(tensor.len()).unwrap_or(0)];
        let mut start = 0;
        while start < tensor.len() {
            let end = (start + WINDOW).min(tensor.len());
            let first = usize::try_from(start).unwrap_or(0);
            for step in plan.window(number, start..end) {
                let mut wrong = None;
                each(&step, |from, to| {
                    let stored = files[step.source][from];
                    let value = (stored - step.shift) / step.scale;
                    let cell = &mut cells[first + to];
                    let fault = match step.role {
                        MoveRole::Write => written(cell, value),
                        MoveRole::Equal(_) | MoveRole::Rounded(_) => {
                            (!same(*cell, value)).then_some("a replica differs")
                        }
                        MoveRole::Average(of, _) => added(cell, value / f64::from(of)),
                        MoveRole::Sum => added(cell, value),
                        MoveRole::Synth(_) => Some("it is made, not read"),
                        MoveRole::Product(_) => Some("something is added to it"),
                    };
                    wrong = wrong.or(fault.map(|fault| (first + to, fault)));
                });
                if let Some((element, fault)) = wrong {
                    let (name, state) = (&tensor.name, &tensor.state);
                    return Err(format!("\"{name}\" ({state}), element {element}: {fault}"));
                }
            }
            start = end;
        }
        out.insert((tensor.name.clone(), tensor.state.clone()), cells);
    }
    Ok(out)
}

fn written(cell: &mut f64, value: f64) -> Option<&'static str> {
    let twice = !cell.is_nan();
    *cell = value;
    twice.then_some("it is written twice")
}

fn added(cell: &mut f64, value: f64) -> Option<&'static str> {
    *cell = if cell.is_nan() { value } else { *cell + value };
    None
}
