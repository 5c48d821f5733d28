//! `ucl diff`: two checkpoints as tensors of one naming, value by value.

mod hyper;
mod pairs;

use crate::args::{DiffArgs, StatesArg};
use crate::failure::Stop;
use crate::progress::{Count, watched};
use crate::session::{Answer, Session};
use crate::show::{self, Facts, Table};
use crate::source::Opened;
use crate::target;
use pairs::{Matched, Pair};
use serde_json::{Value, json};
use ucl_exec::Difference;
use ucl_plan::{Plan, Work};

pub(super) fn run(args: &DiffArgs, session: &mut Session<'_, '_>) -> Result<Answer, Stop> {
    let options = target::options(&args.run, false);
    let states = target::states(args.states);
    let mut a = Opened::one_of_two(&args.a, &args.source)?;
    let mut b = Opened::one_of_two(&args.b, &args.source)?;
    a.sound(states)?;
    b.sound(states)?;
    let naming = pairs::common(&mut a, &mut b, session)?;
    let (left, right, matched) = pairs::plans(&a, &b, (&naming, states), session)?;
    session.say(&format!("a: {}", a.headline(Some(&left.bound))))?;
    session.say(&format!("b: {}", b.headline(Some(&right.bound))))?;

    let numbers: Vec<(usize, usize)> = matched.pairs.iter().map(|pair| (pair.a, pair.b)).collect();
    let total = left.totals.bytes_read + right.totals.bytes_read;
    let found = watched(session, (Count::Read, total), |meter| {
        ucl_exec::compare(&left, &right, &numbers, &options, meter)
    })??;
    let differing: Vec<(&Pair, &Difference)> =
        matched.pairs.iter().zip(&found).filter(|(_, found)| found.mismatched > 0).collect();
    let hyper = match args.states {
        StatesArg::All => hyper::differences(&left, &right),
        StatesArg::Weights => Vec::new(),
    };
    let equal = differing.is_empty() && matched.is_whole() && hyper.is_empty();

    let values: u64 = found.iter().map(|found| found.compared).sum();
    session.say(&text(&left, &matched, (&differing, &hyper, values, equal), session))?;
    session.answer(json!({
        "equal": equal,
        "a": a.json(Some(&left.bound)),
        "b": b.json(Some(&right.bound)),
        "compared": { "tensors": matched.pairs.len(), "values": values },
        "differing": differing.iter().map(|(pair, found)| one(&left, pair, found)).collect::<Vec<_>>(),
        "merged_shapes": matched.merged,
        "other_shapes": matched.shapes,
        "only_in_a": matched.only_a,
        "only_in_b": matched.only_b,
        "weights_as": matched.weights_as.map(|dtype| dtype.name()),
        "hyper_parameters": hyper,
    }))?;
    Ok(if equal { Answer::Yes } else { Answer::No })
}

fn one(plan: &Plan<'_>, pair: &Pair, found: &Difference) -> Value {
    let tensor = &plan.tensors()[pair.a];
    json!({
        "tensor": tensor.name, "state": tensor.state, "compared": found.compared,
        "differ": found.mismatched, "max_abs_diff": found.max_abs_diff, "first": found.first,
        "first_index": found.first.map(|first| index(first, &tensor.shape)),
    })
}

fn text(
    plan: &Plan<'_>,
    matched: &Matched,
    (differing, hyper, values, equal): (&[(&Pair, &Difference)], &[String], u64, bool),
    session: &Session<'_, '_>,
) -> String {
    const MOST: usize = 20;
    let mut facts = Facts::default();
    let tensors = matched.pairs.len() as u64;
    facts.add(
        "compared",
        format!("{}, {}", show::count(tensors, "tensor"), show::count(values, "value")),
    );
    if let Some(dtype) = matched.weights_as {
        facts.add("", format!("weights as {dtype}, the narrower of the two types"));
    }
    if matched.merged > 0 {
        let tensors = show::count(matched.merged, "tensor");
        let why = "one side splits a dim that the other keeps whole";
        facts.add("", format!("{tensors} by their elements in order: {why}"));
    }
    let mut table = Table::default();
    for (pair, found) in differing.iter().take(MOST) {
        let tensor = &plan.tensors()[pair.a];
        let first = found.first.map_or_else(String::new, |first| {
            format!("first at {}", show::shape(&index(first, &tensor.shape)))
        });
        table.row([
            format!("{} ({})", show::name(&tensor.name), show::name(&tensor.state)),
            format!("{} of {}", show::number(found.mismatched), show::number(found.compared)),
            format!("by up to {:e}", found.max_abs_diff),
            first,
        ]);
    }
    let mut lines = table.lines(&[1]);
    if differing.len() > MOST {
        lines.push(format!("and {} more", differing.len() - MOST));
    }
    facts.add_all("differ", &lines);
    facts
        .add_all("shapes", &matched.shapes.iter().map(|line| show::name(line)).collect::<Vec<_>>());
    let mut only = |word: &str, names: &[String]| {
        if !names.is_empty() {
            let listed = show::list(names.iter().map(String::as_str), MOST);
            facts.add(word, format!("{}: {listed}", show::count(names.len() as u64, "tensor")));
        }
    };
    only("only in a", &matched.only_a);
    only("only in b", &matched.only_b);
    facts.add_all("training", &hyper.iter().map(|line| show::name(line)).collect::<Vec<_>>());
    facts.add("result", if equal { "equal" } else { "different" });
    facts.show(session.style())
}

/// The indices of a row-major number.
fn index(number: u64, shape: &[u64]) -> Vec<u64> {
    let mut rest = number;
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|size| {
            let at = rest % (*size).max(1);
            rest /= (*size).max(1);
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::index;

    #[test]
    fn row_major_numbers_have_indices() {
        assert_eq!(index(0, &[]), Vec::<u64>::new());
        assert_eq!(index(7, &[2, 4]), [1, 3]);
        assert_eq!(index(23, &[2, 3, 4]), [1, 2, 3]);
    }
}
