//! How ranks cut a whole tensor, for formats that are cut as they are loaded.

use crate::algebra::Expr;
use crate::plan::Plan;
use crate::target::Item;
use std::collections::HashMap;
use ucl_formats::target::Split;
use ucl_ir::Diagnostic;

/// A whole and a rank's part of it: along one dim every part of it has a range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Along {
    before: u64,
    /// The elements of each part, and the rank's range of them.
    parts: Vec<(u64, u64, u64)>,
    after: u64,
}

/// How a rank's expression differs from the whole one.
enum Differs {
    Not,
    Along(Along),
    /// In more than a range of one dim.
    Else,
}

impl Plan<'_> {
    /// How the ranks cut each whole tensor; `None` if nothing is whole.
    ///
    /// # Errors
    /// A cut that is more than equal ranges of one dim; a tensor of a rank that is no whole one's.
    pub(crate) fn splits(&self) -> Result<Option<Vec<Option<Split>>>, Vec<Diagnostic>> {
        let Some((_, first)) = self.cut.ranks.last().filter(|_| self.cut.uncut) else {
            return Ok(None);
        };
        let wholes = &self.items[*first..];
        let numbers: HashMap<&str, usize> =
            wholes.iter().enumerate().map(|(number, item)| (item.name.as_str(), number)).collect();
        let ranks = self.target.mesh.get("tp").copied().unwrap_or(1);
        let mut splits: Vec<Option<Split>> = vec![None; wholes.len()];
        let mut wrong = Vec::new();
        let starts = self.cut.ranks.iter().map(|(_, start)| *start).skip(1);
        for ((at, start), end) in self.cut.ranks.iter().zip(starts) {
            let rank = at.get("tp").copied().unwrap_or(0);
            for item in &self.items[*start..end] {
                let whole = numbers.get(item.name.as_str()).copied();
                let Some(number) = whole.filter(|number| wholes[*number].terms == item.terms)
                else {
                    // The copy of a tied tensor is under the name of what it is tied to.
                    if !item.copy {
                        wrong.push(unnamed(item));
                    }
                    continue;
                };
                match split(&wholes[number], item, (rank, ranks)) {
                    Ok(found) if rank == 0 || found == splits[number] => splits[number] = found,
                    _ => wrong.push(uncuttable(item)),
                }
            }
        }
        wrong.dedup_by(|a, b| a.message == b.message);
        if wrong.is_empty() { Ok(Some(splits)) } else { Err(wrong) }
    }
}

fn split(whole: &Item, part: &Item, (rank, ranks): (u64, u64)) -> Result<Option<Split>, ()> {
    let along = match factors(&whole.axes, &part.axes) {
        Differs::Not => return Ok(None),
        Differs::Along(along) => along,
        Differs::Else => return Err(()),
    };
    let mut split = Split {
        before: along.before,
        parts: along.parts.iter().map(|(size, _, _)| *size).collect(),
        after: along.after,
        padded: false,
        uneven: false,
    };
    let even = |(size, lo, hi): &(u64, u64, u64)| {
        size % ranks == 0 && *lo == rank * (size / ranks) && *hi == lo + size / ranks
    };
    if along.parts.iter().all(even) {
        return Ok(Some(split));
    }
    let [(size, lo, hi)] = along.parts[..] else { return Err(()) };
    let share = hi - lo;
    // One more for each of the first ranks.
    let (each, more) = (size / ranks, size % ranks);
    if lo == rank * each + rank.min(more) && share == each + u64::from(rank < more) {
        split.uneven = true;
        return Ok(Some(split));
    }
    if along.before == 1 && lo == rank * share && ranks * share > size {
        split.padded = true;
        return Ok(Some(split));
    }
    Err(())
}

/// Compares row-major products.
fn factors(whole: &[Expr], part: &[Expr]) -> Differs {
    let (whole, part) = (flattened(whole), flattened(part));
    let (mut whole, mut part) = (&whole[..], &part[..]);
    let (mut before, mut after) = (1, 1);
    while let ([one, whole_rest @ ..], [other, part_rest @ ..]) = (whole, part)
        && one == other
    {
        before *= one.size();
        (whole, part) = (whole_rest, part_rest);
    }
    while let ([whole_rest @ .., one], [part_rest @ .., other]) = (whole, part)
        && one == other
    {
        after *= one.size();
        (whole, part) = (whole_rest, part_rest);
    }
    let differs = match (whole, part) {
        ([], []) => return Differs::Not,
        (whole, [Expr::Sub { of, lo, hi }]) if flattened(std::slice::from_ref(of)) == whole => {
            let size: u64 = whole.iter().map(|factor| factor.size()).product();
            Differs::Along(Along { before: 1, parts: vec![(size, *lo, *hi)], after: 1 })
        }
        ([whole], [part]) => expressions(whole, part),
        _ => Differs::Else,
    };
    match differs {
        Differs::Along(along) => Differs::Along(Along {
            before: before * along.before,
            after: along.after * after,
            ..along
        }),
        not => not,
    }
}

/// The factors of products of products.
fn flattened(factors: &[Expr]) -> Vec<&Expr> {
    let inner = factors.iter().flat_map(|factor| match factor {
        Expr::Prod(factors) => flattened(factors),
        other => vec![other],
    });
    inner.collect()
}

fn expressions(whole: &Expr, part: &Expr) -> Differs {
    match (whole, part) {
        (Expr::Dim { dim, lo: 0, hi }, Expr::Dim { dim: of, lo, hi: end }) if dim == of => {
            Differs::Along(Along { before: 1, parts: vec![(*hi, *lo, *end)], after: 1 })
        }
        (Expr::Sum(whole), Expr::Sum(part)) if whole.len() == part.len() => {
            let mut parts = Vec::new();
            for (whole, part) in whole.iter().zip(part) {
                match factors(std::slice::from_ref(whole), std::slice::from_ref(part)) {
                    Differs::Along(along) if along.before == 1 => {
                        let scale = along.after;
                        let scaled = along.parts.iter();
                        parts.extend(scaled.map(|(n, lo, hi)| (n * scale, lo * scale, hi * scale)));
                    }
                    _ => return Differs::Else,
                }
            }
            Differs::Along(Along { before: 1, parts, after: 1 })
        }
        _ => Differs::Else,
    }
}

fn unnamed(item: &Item) -> Diagnostic {
    let message = format!("{:?} of a rank is no whole tensor's name", item.name);
    Diagnostic::new("ucl::write", message)
        .help("name another view with --view, or write `--to deepspeed`, which is cut beforehand")
}

fn uncuttable(item: &Item) -> Diagnostic {
    let message = format!(
        "{:?}: DeepSpeed's universal load gives every tensor rank an equal range of one dim, and here ranks hold others",
        item.name
    );
    Diagnostic::new("ucl::fit", message).help(
        "write `--to deepspeed`, which is cut beforehand, or a mesh whose `tp` divides what is cut",
    )
}
