//! `config.json`: a few values change, the rest stays as it was written.

use crate::inventory::Problem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::Path;
use ucl_tensor::DType;

/// What torch and configs call an element type; `None` for what no model is held in.
pub fn torch_name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "float64",
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        DType::F8E4M3 => "float8_e4m3fn",
        DType::F8E5M2 => "float8_e5m2",
        DType::F8E4M3Fnuz => "float8_e4m3fnuz",
        DType::F8E5M2Fnuz => "float8_e5m2fnuz",
        _ => return None,
    })
}

/// A `config.json` is never larger, in bytes.
const LARGEST: u64 = 16 << 20;

/// Reads a `config.json`.
///
/// # Errors
/// The file can't be read, is too large, or holds no JSON object.
pub fn read_config(path: &Path) -> Result<Map<String, Value>, Problem> {
    let wrong = |message: String| Problem::new(path, message);
    let unread = |error: &dyn std::fmt::Display| wrong(format!("it can't be read: {error}"));
    let bytes = fs::metadata(path).map_err(|error| unread(&error))?.len();
    if bytes > LARGEST {
        return Err(unread(&format!("it has {bytes} bytes, too many for a config")));
    }
    let text = fs::read_to_string(path).map_err(|error| unread(&error))?;
    match serde_json::from_str(&spelled(&text, |_| "null".to_owned())) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(wrong("it is not a JSON object".to_owned())),
        Err(error) => Err(unread(&error)),
    }
}

/// Python's json writes numbers that JSON does not know.
const NOT_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with others for such numbers, which stand outside of its strings.
fn spelled(text: &str, other: impl Fn(&str) -> String) -> Cow<'_, str> {
    if !NOT_FINITE.iter().any(|number| text.contains(number)) {
        return Cow::Borrowed(text);
    }
    let mut made = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(letter) = rest.chars().next() {
        let number = NOT_FINITE.iter().find(|number| !quoted && rest.starts_with(**number));
        let taken = match (number, letter) {
            (Some(number), _) => {
                made.push_str(&other(number));
                number.len()
            }
            (None, '\\') if quoted => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => {
                quoted ^= letter == '"';
                letter.len_utf8()
            }
        };
        if number.is_none() {
            made.push_str(&rest[..taken]);
        }
        rest = &rest[taken..];
    }
    Cow::Owned(made)
}

/// The text of a config with other values for some keys. A key that it lacks is added at its end; every
/// other byte stays.
///
/// # Errors
/// The text is no JSON object.
pub fn changed(text: &str, values: &[(String, Value)]) -> Result<String, serde_json::Error> {
    let mut text = text.to_owned();
    for (key, value) in values {
        let places = places(&text)?;
        match places.iter().rfind(|(known, _)| known == key) {
            Some((_, place)) => text.replace_range(place.clone(), &value.to_string()),
            None => {
                let entry = format!("{}: {value}", Value::from(key.as_str()));
                let end = places.last().map(|(_, place)| place.end);
                let (at, new) = match end {
                    Some(end) => (end, format!(",\n  {entry}")),
                    None => (text.find('{').map_or(0, |brace| brace + 1), entry),
                };
                text.insert_str(at, &new);
            }
        }
    }
    Ok(text)
}

/// The keys of an object, and where the text of each value is.
fn places(text: &str) -> Result<Vec<(String, Range<usize>)>, serde_json::Error> {
    // Every place stays where it is in the text that was given.
    let text = &*spelled(text, |number| "1".repeat(number.len()));
    // All that follows relies on this: it is a whole object.
    serde_json::from_str::<Map<String, Value>>(text)?;
    let mut places = Vec::new();
    let mut at = text.find('{').map_or(0, |brace| brace + 1);
    loop {
        at = skip(text, at, ',');
        if text[at..].starts_with('}') {
            return Ok(places);
        }
        let (key, end) = value::<String>(text, at)?;
        let start = skip(text, end, ':');
        let (_, end) = value::<IgnoredAny>(text, start)?;
        places.push((key, start..end));
        at = end;
    }
}

/// The value that starts here, and where it ends.
fn value<'a, T: Deserialize<'a>>(
    text: &'a str,
    at: usize,
) -> Result<(T, usize), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<T>();
    match values.next() {
        Some(found) => Ok((found?, at + values.byte_offset())),
        None => Err(serde::de::Error::custom("it ends too early")),
    }
}

/// Passes over white space and one mark.
fn skip(text: &str, at: usize, mark: char) -> usize {
    let rest = text[at..].trim_start();
    let rest = rest.strip_prefix(mark).unwrap_or(rest).trim_start();
    text.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(text: &str, key: &str, value: Value) -> String {
        changed(text, &[(key.to_owned(), value)]).unwrap()
    }

    #[test]
    fn one_value_changes_and_nothing_else() {
        let text =
            "{\n \"a\" :  [1, {\"dtype\": \"no\"}],\n\t\"dtype\": \"float32\" ,\n \"z\":1e-06}\n";
        let expected =
            "{\n \"a\" :  [1, {\"dtype\": \"no\"}],\n\t\"dtype\": \"bfloat16\" ,\n \"z\":1e-06}\n";
        assert_eq!(with(text, "dtype", json!("bfloat16")), expected);
        assert_eq!(with(text, "z", json!(true)), text.replace("1e-06", "true"));
        assert_eq!(changed(text, &[]).unwrap(), text);
    }

    #[test]
    fn a_key_that_is_not_there_is_added() {
        assert_eq!(
            with("{\n  \"a\": 1\n}\n", "b", json!(true)),
            "{\n  \"a\": 1,\n  \"b\": true\n}\n"
        );
        assert_eq!(with("{}", "b", json!(true)), "{\"b\": true}");
        assert_eq!(with(" { } ", "b", json!("x")), " {\"b\": \"x\" } ");
    }

    #[test]
    fn the_last_of_two_counts_as_it_does_for_readers() {
        assert_eq!(with(r#"{"a":1,"a":2}"#, "a", json!(3)), r#"{"a":1,"a":3}"#);
    }

    #[test]
    fn numbers_that_python_alone_knows() {
        let text =
            r#"{"a": NaN, "b": "NaN \" Infinity", "c": [-Infinity, {"d": Infinity}], "e": 1}"#;
        let read: Value = serde_json::from_str(&spelled(text, |_| "null".to_owned())).unwrap();
        let expected = json!({"a": null, "b": "NaN \" Infinity", "c": [null, {"d": null}], "e": 1});
        assert_eq!(read, expected);
        assert_eq!(with(text, "e", json!(2)), text.replace("\"e\": 1", "\"e\": 2"));
        assert_eq!(with(text, "a", json!(2)), text.replace("\"a\": NaN", "\"a\": 2"));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "{", "{\"a\":}", "{} x"] {
            assert!(changed(text, &[("a".to_owned(), json!(1))]).is_err(), "{text}");
        }
    }
}
