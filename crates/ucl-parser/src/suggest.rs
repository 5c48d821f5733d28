//! Did you mean.

/// The nearest of the candidates, if it is near: a slip or two, fewer in short words.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let lower = word.to_lowercase();
    let reach = match word.chars().count() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|&(away, candidate)| away <= reach.min(candidate.chars().count() / 2))
        .min_by_key(|&(away, _)| away)
        .map(|(_, candidate)| candidate)
}

/// The words that are no names, and nothing else.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// The reserved words.
pub const RESERVED: [&str; 38] = [
    "model", "view", "layout", "test", "dims", "each", "from", "drop", "require", "tied", "bias",
    "under", "rename", "ignore", "base", "shift", "scale", "mesh", "shard", "stage", "pad", "copy",
    "average", "sum", "on", "expect", "when", "with", "extends", "for", "by", "over", "of", "to",
    "at", "or", "declared", "class",
];

/// How many letters have to be put in, left out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips() {
        assert_eq!(nearest("modle", RESERVED), Some("model"));
        assert_eq!(nearest("extend", RESERVED), Some("extends"));
        assert_eq!(nearest("rennmae", RESERVED), Some("rename"));
        assert_eq!(nearest("View", RESERVED), Some("view"));
        assert_eq!(nearest("tensor", RESERVED), None);
        assert_eq!(nearest("x", RESERVED), None);
    }

    #[test]
    fn counts_a_swap_once() {
        assert_eq!(distance("rneame", "rename"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
