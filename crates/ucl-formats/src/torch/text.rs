//! Scalars of a pickle: integers of any length, strings, and the text forms of protocol 0.

use std::str;

use super::error::PickleProblem;
use super::limits::MAX_NAME_BYTES;
use super::node::{Global, Node};

/// An integer from two's complement, little-endian. No bytes are zero.
pub(super) fn integer(bytes: &[u8]) -> Node {
    let mut bytes = bytes;
    // A last byte that only repeats the sign says nothing.
    while let [rest @ .., before, last] = bytes {
        let sign = if before & 0x80 == 0 { 0x00 } else { 0xff };
        if *last != sign {
            break;
        }
        bytes = &bytes[..rest.len() + 1];
    }
    if bytes.len() > 8 {
        return Node::BigInt(bytes.into());
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    Node::Int(i64::from_le_bytes(wide))
}

pub(super) fn string(bytes: &[u8]) -> Node {
    match str::from_utf8(bytes) {
        Ok(text) => Node::Str(text.into()),
        Err(_) => Node::RawStr(bytes.into()),
    }
}

pub(super) fn old_string(bytes: &[u8]) -> Node {
    match str::from_utf8(bytes) {
        Ok(text) => Node::Str(text.into()),
        Err(_) => Node::Bytes(bytes.into()),
    }
}

/// A module and a name. Control characters are refused: they would break the text opcode on the way
/// out, and terminals.
pub(super) fn global(module: &[u8], name: &[u8]) -> Result<Global, PickleProblem> {
    let clean = |bytes| {
        let text = str::from_utf8(bytes).ok();
        text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
    };
    let (Some(module), Some(name)) = (clean(module), clean(name)) else {
        return Err(PickleProblem::Text("name of a class"));
    };
    if module.len() + name.len() > MAX_NAME_BYTES {
        let limit = MAX_NAME_BYTES as u64;
        return Err(PickleProblem::Limit { what: "bytes in the name of a class", limit });
    }
    Ok(Global { module: module.into(), name: name.into() })
}

/// `I42`, and `I00` and `I01` for booleans.
pub(super) fn int_line(line: &[u8]) -> Result<Node, PickleProblem> {
    match line {
        b"00" => Ok(Node::Bool(false)),
        b"01" => Ok(Node::Bool(true)),
        _ => long_line(line),
    }
}

/// `L42L`. Only what fits 64 bits: protocol 0 is not written by torch.
pub(super) fn long_line(line: &[u8]) -> Result<Node, PickleProblem> {
    let digits = line.strip_suffix(b"L").unwrap_or(line);
    let number = str::from_utf8(digits).ok().and_then(|text| text.trim().parse().ok());
    number.map(Node::Int).ok_or(PickleProblem::Text("64-bit integer"))
}

pub(super) fn float_line(line: &[u8]) -> Result<Node, PickleProblem> {
    let number = str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok());
    number.map(Node::Float).ok_or(PickleProblem::Text("float"))
}

pub(super) fn memo_line(line: &[u8]) -> Result<u32, PickleProblem> {
    let number = str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or(PickleProblem::Text("memo number"))
}

/// A quoted string of Python 2 with backslash escapes.
pub(super) fn string_line(line: &[u8]) -> Result<Node, PickleProblem> {
    let bad = PickleProblem::Text("quoted string");
    let line = line.trim_ascii();
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(bad),
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let [escape, tail @ ..] = rest else { return Err(bad) };
        rest = tail;
        match escape {
            b'n' => bytes.push(b'\n'),
            b'r' => bytes.push(b'\r'),
            b't' => bytes.push(b'\t'),
            b'\\' | b'\'' | b'"' => bytes.push(*escape),
            b'x' => {
                let (code, tail) = hex(rest, 2).ok_or(bad_escape())?;
                bytes.push(code as u8);
                rest = tail;
            }
            _ => return Err(bad),
        }
    }
    Ok(old_string(&bytes))
}

/// A string with `\uXXXX` escapes; other bytes are Latin-1.
pub(super) fn unicode_line(line: &[u8]) -> Result<Node, PickleProblem> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let [first, tail @ ..] = rest {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        if digits == 0 {
            text.push(char::from(*first));
            rest = tail;
            continue;
        }
        let (code, tail) = hex(&rest[2..], digits).ok_or(bad_escape())?;
        text.push(char::from_u32(code).ok_or(bad_escape())?);
        rest = tail;
    }
    Ok(Node::Str(text.into()))
}

fn bad_escape() -> PickleProblem {
    PickleProblem::Text("escape in a string")
}

fn hex(bytes: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (digits, rest) = bytes.split_at_checked(digits)?;
    let mut code = 0;
    for digit in digits {
        code = code << 4 | char::from(*digit).to_digit(16)?;
    }
    Some((code, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_in_their_shortest_form() {
        let int = |bytes: &[u8]| match integer(bytes) {
            Node::Int(value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(int(&[]), 0);
        assert_eq!(int(&[0xff]), -1);
        assert_eq!(int(&[0xff, 0x00]), 255);
        assert_eq!(int(&[0, 0, 0, 0, 0, 0, 0, 0x80]), i64::MIN);
        assert_eq!(int(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 1);
        assert!(matches!(integer(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]), Node::BigInt(_)));
    }

    #[test]
    fn text_of_protocol_0() {
        assert!(matches!(string_line(br"'a\x41\n'"), Ok(Node::Str(text)) if &*text == "aA\n"));
        assert!(matches!(unicode_line(br"h\u00e9"), Ok(Node::Str(text)) if &*text == "h\u{e9}"));
        assert!(string_line(b"'").is_err());
        assert!(unicode_line(br"\ud800").is_err());
        assert!(global(b"a\nb", b"c").is_err());
    }
}
