//! Python's regular expressions as `re.match` reads them: at the beginning, not to the end.

use regex_lite::{Regex, RegexBuilder};
use std::collections::HashMap;

/// A compiled pattern is no larger, in bytes: `(a{1000}){1000}` would be.
const LARGEST: usize = 1 << 20;
/// No pattern is longer, in bytes.
const LONGEST: usize = 1 << 12;

/// The patterns of one category, by their own text.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    texts: Vec<String>,
    /// `^a\.b$` can only mean one name, and a model has one for every parameter.
    whole: HashMap<String, Vec<usize>>,
    others: Vec<(usize, Regex)>,
}

impl Patterns {
    /// Compiles the patterns of a category.
    ///
    /// # Errors
    /// Says what is wrong with one, or that it is beyond what can be matched in linear time.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let number = self.texts.len();
        match whole(text) {
            Some(name) => self.whole.entry(name).or_default().push(number),
            None => self.others.push((number, compile(text)?)),
        }
        self.texts.push(text.to_owned());
        Ok(())
    }

    /// The numbers of all patterns that match a name.
    pub(super) fn matching(&self, name: &str) -> Vec<usize> {
        let others = self.others.iter().filter(|(_, regex)| regex.is_match(name));
        let whole = self.whole.get(name).into_iter().flatten().copied();
        let mut found: Vec<usize> = whole.chain(others.map(|(number, _)| *number)).collect();
        found.sort_unstable();
        found
    }

    /// A pattern as it was written.
    pub(super) fn text(&self, number: usize) -> &str {
        self.texts.get(number).map_or("", String::as_str)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// The one name that a pattern means, if it is `^name$` with nothing special in the name.
fn whole(text: &str) -> Option<String> {
    let inner = text.strip_prefix('^')?.strip_suffix('$')?;
    let mut name = String::with_capacity(inner.len());
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => name.push(letters.next().filter(char::is_ascii_punctuation)?),
            letter if r".^$*+?{}[]|()".contains(letter) => return None,
            letter => name.push(letter),
        }
    }
    Some(name)
}

fn compile(text: &str) -> Result<Regex, String> {
    if text.len() > LONGEST {
        return Err(format!("it is {} bytes long, longer than {LONGEST}", text.len()));
    }
    for lookaround in ["(?=", "(?!", "(?<=", "(?<!"] {
        if text.contains(lookaround) {
            return Err(format!("it looks ahead or behind (`{lookaround}`)"));
        }
    }
    let translated = translate(text)?;
    let mut builder = RegexBuilder::new(&format!(r"\A(?:{translated})"));
    builder.size_limit(LARGEST).build().map_err(|error| error.to_string())
}

/// What Python spells otherwise: `\Z`, escapes of signs that need none, a brace that is no count.
fn translate(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let letters: Vec<char> = text.chars().collect();
    let (mut at, mut in_class) = (0, false);
    while let Some(letter) = letters.get(at) {
        at += 1;
        match letter {
            '\\' => {
                let Some(next) = letters.get(at) else {
                    return Err("it ends in a backslash".to_owned());
                };
                at += 1;
                match next {
                    'Z' => out.push_str(r"\z"),
                    '1'..='9' if !in_class => {
                        return Err(format!("it refers back to a group (`\\{next}`)"));
                    }
                    // An escape that stands for the sign itself.
                    next if !next.is_ascii_alphanumeric() => out.push_str(&quoted(*next)),
                    next => out.extend(['\\', *next]),
                }
            }
            '[' if in_class => out.push_str(r"\["),
            '[' => {
                in_class = true;
                out.push('[');
                // `[]a]` and `[^]a]` hold a bracket.
                if letters.get(at) == Some(&'^') {
                    out.push('^');
                    at += 1;
                }
                if letters.get(at) == Some(&']') {
                    out.push_str(r"\]");
                    at += 1;
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.push_str(&quoted(*letter)),
            '{' if !in_class && !is_count(&letters[at..]) => out.push_str(r"\{"),
            letter => out.push(*letter),
        }
    }
    Ok(out)
}

/// A sign that stands for itself, inside and outside of brackets.
fn quoted(letter: char) -> String {
    match letter {
        letter if letter.is_ascii_punctuation() && !matches!(letter, '_' | '<' | '>') => {
            format!("\\{letter}")
        }
        letter => letter.to_string(),
    }
}

/// Whether `3}`, `3,}`, `,5}` or `3,5}` follows a `{`.
fn is_count(rest: &[char]) -> bool {
    let end = rest.iter().position(|letter| *letter == '}');
    let Some(inner) = end.and_then(|end| rest.get(..end)) else { return false };
    let digits = inner.iter().filter(|letter| letter.is_ascii_digit()).count();
    let commas = inner.iter().filter(|letter| **letter == ',').count();
    digits > 0 && commas <= 1 && digits + commas == inner.len() && inner.first() != Some(&',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let mut patterns = Patterns::default();
        patterns.add(pattern).unwrap();
        !patterns.matching(name).is_empty()
    }

    /// What Python 3.11 says to `re.match(pattern, name) is not None`.
    #[test]
    fn as_python_matches() {
        let cases = [
            (r"\d+.weight", "5.weight", true),
            (r"\d+.weight", "12xweight_norm", true),
            (r"\d+.weight", "a5.weight", false),
            (r"\d+.weight", "5.input_layernorm.weight", false),
            (r"^model\.norm\.weight$", "model.norm.weight", true),
            (r"^model\.norm\.weight$", "model.norm.weight_g", false),
            (r"^model\.norm\.weight$", "model.normxweight", false),
            (r"^a\-b$", "a-b", true),
            (r"(q|k)_proj.(weight|bias)", "k_proj.bias", true),
            (r"q|k_proj", "quack", true),
            (r"h.[0-9]{1,2}.w", "h.12.w", true),
            (r"h.[0-9]{1,2}.w", "h.123.w", false),
            (r"h\.[^.]+\.w\Z", "h.x.w", true),
            (r"h\.[^.]+\.w\Z", "h.x.wq", false),
            (r"[]x]a", "]a", true),
            (r"[[]a", "[a", true),
            (r"a{b}", "a{b}", true),
            (r"a\_b", "a_b", true),
            (r"(?P<n>\w+)\.w", "long_name.w", true),
            (r".*mlp", "model.layers.0.mlp.up", true),
            (r"", "anything", true),
            (r"a+?b", "aab", true),
            (r"[a-c&&b]", "a", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_refused() {
        let too_long = "a".repeat(LONGEST + 1);
        let patterns =
            ["(", "[a", "(?=a)b", "(?<!a)b", r"(a)\1", r"a\", "(a{900}){900}", &too_long];
        for pattern in patterns {
            assert!(Patterns::default().add(pattern).is_err(), "{pattern}");
        }
    }

    /// Python would not come back from this.
    #[test]
    fn a_pattern_that_explodes_elsewhere() {
        let name = "a".repeat(4000);
        assert!(!matches("(a+)+b", &name));
        assert!(!matches("(a|a)*$x", &name));
    }
}
