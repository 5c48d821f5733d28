//! Name templates: matched against stored names, and filled in to make them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A stored name with indices in it: `model.layers.{l}.mlp.experts.{e}.w1.weight`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Template {
    /// Its parts, in order; two indices never touch.
    pub segments: Vec<Segment>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Segment {
    /// Text as it is.
    Text(String),
    /// `{l + 2}`: the index of a dim, shifted.
    Index {
        /// The dim.
        dim: String,
        /// What is added to the index.
        plus: u64,
    },
    /// `{#l + 2}`: the number of indices of a dim in the whole model, shifted.
    Count {
        /// The dim.
        dim: String,
        /// What is added to the number.
        plus: u64,
    },
    /// `*`: any text, in `ignore` only.
    Any,
}

/// A number found in a name where a template has an index or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The dim.
    pub dim: String,
    /// The index, or the number of indices, with the shift taken off.
    pub value: u64,
    /// Whether it is the number of indices.
    pub is_count: bool,
}

/// As it is written in a spec, without the quotes.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hole = |f: &mut fmt::Formatter<'_>, mark: &str, dim: &str, plus: u64| match plus {
            0 => write!(f, "{{{mark}{dim}}}"),
            plus => write!(f, "{{{mark}{dim} + {plus}}}"),
        };
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Text(text) => f.write_str(text),
            Segment::Index { dim, plus } => hole(f, "", dim, *plus),
            Segment::Count { dim, plus } => hole(f, "#", dim, *plus),
            Segment::Any => f.write_str("*"),
        })
    }
}

impl Template {
    /// The numbers in `name` if it is spelled by this template.
    ///
    /// Numbers are decimal without leading zeros, so that a name has one reading. The same dim twice
    /// has to be the same number.
    pub fn capture(&self, name: &str) -> Option<Vec<Capture>> {
        let mut captures = Vec::new();
        matches_from(&self.segments, name, &mut captures).then_some(captures)
    }

    /// The name at these indices and counts; `None` if one of them is missing.
    pub fn fill(
        &self,
        index: impl Fn(&str) -> Option<u64>,
        count: impl Fn(&str) -> Option<u64>,
    ) -> Option<String> {
        let mut name = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => name.push_str(text),
                Segment::Index { dim, plus } => name.push_str(&(index(dim)? + plus).to_string()),
                Segment::Count { dim, plus } => name.push_str(&(count(dim)? + plus).to_string()),
                Segment::Any => return None,
            }
        }
        Some(name)
    }

    /// The dims whose index is in the name, in order.
    pub fn indices(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Index { dim, .. } => Some(dim.as_str()),
            _ => None,
        })
    }
}

fn matches_from(segments: &[Segment], name: &str, captures: &mut Vec<Capture>) -> bool {
    let Some((first, rest)) = segments.split_first() else { return name.is_empty() };
    match first {
        Segment::Text(text) => {
            name.strip_prefix(text.as_str()).is_some_and(|tail| matches_from(rest, tail, captures))
        }
        Segment::Index { dim, plus } => number(name).is_some_and(|(value, tail)| {
            accept(dim, *plus, value, false, captures) && matches_from(rest, tail, captures)
        }),
        Segment::Count { dim, plus } => number(name).is_some_and(|(value, tail)| {
            accept(dim, *plus, value, true, captures) && matches_from(rest, tail, captures)
        }),
        Segment::Any => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            let known = captures.len();
            for end in ends {
                if matches_from(rest, &name[end..], captures) {
                    return true;
                }
                captures.truncate(known);
            }
            false
        }
    }
}

fn accept(dim: &str, plus: u64, value: u64, is_count: bool, captures: &mut Vec<Capture>) -> bool {
    let Some(value) = value.checked_sub(plus) else { return false };
    match captures.iter().find(|known| known.dim == dim && known.is_count == is_count) {
        Some(known) => known.value == value,
        None => {
            captures.push(Capture { dim: dim.to_owned(), value, is_count });
            true
        }
    }
}

/// A larger number in a name is no index.
const LARGEST: u64 = u32::MAX as u64;

/// The decimal number at the start of `text`, and what follows it.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let digits = &text[..end];
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let number = digits.parse().ok().filter(|number| *number <= LARGEST)?;
    Some((number, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        let mut segments = Vec::new();
        for (number, part) in text.split(['{', '}']).enumerate() {
            match (number % 2, part.split_once('+')) {
                (0, _) if part.is_empty() => {}
                (0, _) => segments.push(Segment::Text(part.to_owned())),
                (_, Some((dim, plus))) => segments
                    .push(Segment::Index { dim: dim.to_owned(), plus: plus.parse().unwrap() }),
                (_, None) => segments.push(Segment::Index { dim: part.to_owned(), plus: 0 }),
            }
        }
        Template { segments }
    }

    #[test]
    fn captures_and_fills() {
        let name = template("model.layers.{l}.experts.{e}.w1.weight");
        let found = name.capture("model.layers.12.experts.3.w1.weight").unwrap();
        assert_eq!(found.iter().map(|c| c.value).collect::<Vec<_>>(), [12, 3]);
        assert_eq!(
            name.fill(|dim| Some(if dim == "l" { 12 } else { 3 }), |_| None).unwrap(),
            "model.layers.12.experts.3.w1.weight"
        );
    }

    #[test]
    fn numbers_have_one_spelling() {
        let name = template("{l+2}.weight");
        assert!(name.capture("01.weight").is_none());
        assert!(name.capture("1.weight").is_none());
        assert_eq!(name.capture("2.weight").unwrap()[0].value, 0);
    }
}
