//! Mistakes that are recognised by what is written: habits from other languages, statements in the
//! wrong block, words that are taken.

use super::draft::Patch;
use super::mistake::{Mistake, Read};
use crate::grammar::Rule;
use crate::suggest::is_reserved;
use crate::tokens::{Token, TokenKind};

/// The mistake, if it is one of these.
pub(super) fn known(read: &Read<'_>) -> Option<Mistake> {
    if let Some(mistake) = two_keys(read).or_else(|| no_axis(read)) {
        return Some(mistake);
    }
    let token = *read.token()?;
    nameless(read, &token)
        .or_else(|| question(read, &token))
        .or_else(|| comparison(read, &token))
        .or_else(|| other_block(read, &token))
        .or_else(|| quotes(read, &token))
        .or_else(|| shape(read, &token))
        .or_else(|| arithmetic(read, &token))
        .or_else(|| when_tied(read, &token))
        .or_else(|| reserved(read, &token))
}

/// `n = a b` in a `from` block
fn two_keys(read: &Read<'_>) -> Option<Mistake> {
    let (first, second) = (read.word(-2), *read.before()?);
    let same_line = !read.text[..second.start].rsplit(first).next()?.contains('\n');
    let is_key = first.starts_with(|c: char| c.is_ascii_alphanumeric()) || first == ")";
    if read.rule != Rule::strict_from
        || second.kind != TokenKind::Word
        || !is_key
        || !same_line
        || !read.stop.wants.signs.contains("=")
    {
        return None;
    }
    // `k` in `n = a k = b` was read as the next line, and is one.
    let word = read.word(-1);
    let message = format!("`{word}` cannot follow `{first}`");
    let mistake =
        Mistake::new("ucl::unexpected", message, &second, "expected an operator, or the next line");
    Some(mistake.help(format!("write `{first} ?? {word}` if `{word}` counts where `{first}` is missing, or `{word} = …` for a line of its own")))
}

/// `shard n` without `over`
fn no_axis(read: &Read<'_>) -> Option<Mistake> {
    let (lead, wants) = (read.lead(), &read.stop.wants);
    let known =
        matches!(lead, "shard" | "stage" | "average" | "sum") && wants.words.contains("over");
    if !known || read.token().is_some() && !read.at_start() {
        return None;
    }
    let here = read.here();
    let message = format!("this `{lead}` does not say over which axis");
    let mistake =
        Mistake::new("ucl::missing", message, &here, "`over` and a mesh axis have to follow");
    Some(mistake.help(format!("write `{} over tp`", read.statement())))
}

/// `: h = norm`
fn nameless(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    let what = match (read.rule, read.word(0)) {
        (Rule::strict_view, ":") => "equation",
        (Rule::strict_model | Rule::strict_each, ":") => "parameter",
        (Rule::strict_from | Rule::strict_test, "=") => "line",
        _ => return None,
    };
    let line = super::line_start(read.text, token.start);
    let begins = read.stop.at == 0 || line > 0 && read.text[line..token.start].trim().is_empty();
    begins.then(|| {
        let message = format!("this {what} has no name");
        Mistake::new("ucl::missing", message, token, "a name belongs before this")
    })
}

/// `a ? b`
fn question(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    if read.word(0) != "?" || !read.stop.wants.signs.contains("??") {
        return None;
    }
    let mistake =
        Mistake::new("ucl::unexpected", "`?` is not an operator", token, "did you mean `??`?");
    let patch = Patch { start: token.start, end: token.end, text: "??".to_owned() };
    Some(mistake.mend([patch]).show(read.text))
}

/// `==`, `<=`, `>=`
fn comparison(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    let before = read.before().filter(|before| before.end == token.start)?;
    let (first, second) = (read.word(-1), read.word(0));
    if second != "=" || !matches!(first, "=" | "<" | ">") {
        return None;
    }
    let both = Token { start: before.start, ..*token };
    let help = match first {
        "=" => "write `=`: a single one compares",
        "<" => "write `a < b + 1`",
        _ => "write `a > b - 1`",
    };
    let message = format!("`{first}=` is not a comparison");
    let mistake = Mistake::new("ucl::unexpected", message, &both, "not known");
    Some(mistake.help(help).mend([Patch::erase(read.text, token.start, token.end)]))
}

/// `shard` in a view, an equation in a layout.
fn other_block(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    if !(read.at_start() || read.stop.at == 0) {
        return None;
    }
    let word = read.word(0);
    let home = match word {
        "mesh" | "shard" | "stage" | "pad" | "copy" | "average" | "sum" | "keep" => "a layout",
        "under" | "rename" | "ignore" | "base" | "shift" | "scale" | "class" => "a view",
        "each" | "drop" => "a model",
        "require" => "a model or a layout",
        "dims" | "from" => "a model or a view",
        "on" | "expect" => "a test",
        _ if token.kind == TokenKind::String => "a view",
        _ => return None,
    };
    let (block, _) = read.block();
    // `base : h` in a model is a parameter with a name that is taken.
    let is_param = matches!(read.word(1), ":" | "?");
    if read.stop.wants.words.contains(word)
        || home.contains(block)
        || is_param && read.stop.wants.name
    {
        return None;
    }
    let what = if token.kind == TokenKind::String { "an equation" } else { &format!("`{word}`") };
    let mistake = Mistake::new(
        "ucl::unexpected",
        format!("{what} does not belong in {block}"),
        token,
        format!("belongs in {home}"),
    );
    Some(match read.rule {
        Rule::strict_file => mistake.help("is a `}` too much above, or a block's head missing?"),
        _ => mistake.help(format!("move it into {home}")),
    })
}

/// A name of a tensor without quotes, a parameter with them.
fn quotes(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    let (word, wants) = (read.word(0), &read.stop.wants);
    let set = |text: String| Patch { start: token.start, end: token.end, text };
    let stays = !read.at_start();
    match token.kind {
        TokenKind::Word if wants.quoted && !wants.name && !is_reserved(word) => {
            let patch = set(format!("\"{word}\""));
            // At the start of a statement it may be a misspelt keyword.
            let name = word.contains('.')
                || matches!(read.word(1), ":" | "or")
                || !read.at_start() && read.stop.at > 0;
            read.better(std::slice::from_ref(&patch)).filter(|_| name)?;
            let what = match read.lead() {
                "type" => "types",
                "class" => "classes and types",
                _ => "names of tensors",
            };
            let message = format!("{what} are quoted");
            let mistake = Mistake::new("ucl::quotes", message, token, "has no quotes");
            Some(mistake.help(format!("write `\"{word}\"`")).mend([patch]))
        }
        TokenKind::String if wants.name && !wants.quoted && stays => {
            let inner = word.trim_matches('"');
            let patch = set(format!(" {inner} "));
            read.better(std::slice::from_ref(&patch))?;
            let message = "names of parameters, dims and views are not quoted";
            let mistake = Mistake::new("ucl::quotes", message, token, "has quotes");
            Some(mistake.help(format!("write `{inner}`")).mend([patch]))
        }
        _ => None,
    }
}

/// `[v, h]`, `n * d`, `3 h`
fn shape(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    if !(read.stop.wants.name && read.stop.wants.signs.contains("1")) {
        return None;
    }
    let word = read.word(0);
    if token.kind == TokenKind::Number {
        let message = format!("`{word}` is not a dim");
        let mistake =
            Mistake::new("ucl::shape", message, token, "only `1` stands for itself in a shape");
        let patch = Patch { start: token.start, end: token.end, text: "1".to_owned() };
        return Some(
            mistake.help(format!("give the size a name: `dims r = {word}`")).mend([patch]),
        );
    }
    let behind = read.stop.tokens[read.stop.at..].iter();
    let signs: Vec<Patch> = match word {
        "[" => behind
            .take_while(|token| !matches!(token.text(read.text), "=" | "declared"))
            .filter(|token| matches!(token.text(read.text), "[" | "]" | ","))
            .map(|token| Patch::erase(read.text, token.start, token.end))
            .collect(),
        "*" | "," => vec![Patch::erase(read.text, token.start, token.end)],
        _ => return None,
    };
    read.better(&signs)?;
    let mistake = Mistake::new(
        "ucl::shape",
        format!("a shape has no `{word}`"),
        token,
        "dims stand side by side",
    );
    Some(
        mistake
            .help("write `v h` for two stored dims, `(n d) h` where n and d are one of them")
            .mend(signs),
    )
}

/// `= attn.norm + 1`
fn arithmetic(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    let (sign, param) = (read.word(0), read.word(-1));
    if !(read.lead().starts_with('"')
        && matches!(sign, "+" | "-" | "*" | "/")
        && read.stop.wants.signs.contains("|"))
    {
        return None;
    }
    let line = match sign {
        "+" | "-" => {
            format!("shift {param} by {}{}", if sign == "-" { "-" } else { "" }, read.word(1))
        }
        _ => format!("scale {param} by {}", read.word(1)),
    };
    let mistake = Mistake::new(
        "ucl::unexpected",
        "an equation does not change values",
        token,
        "no arithmetic here",
    );
    Some(mistake.help(format!("write `{line}` as a line of its own")))
}

/// `"a" when pp > 1`
fn when_tied(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    if read.word(-1) != "when"
        || !read.stop.wants.words.contains("tied")
        || token.kind == TokenKind::Word
            && crate::suggest::nearest(read.word(0), ["tied"]).is_some()
    {
        return None;
    }
    let mistake = Mistake::new(
        "ucl::unexpected",
        "a name knows no condition but `when tied`",
        token,
        "expected `tied`",
    );
    Some(mistake.help("put other conditions on a view: `view NAME extends OTHER when …`"))
}

/// A reserved word where a name is wanted.
fn reserved(read: &Read<'_>, token: &Token) -> Option<Mistake> {
    let word = read.word(0);
    let taken = word
        .split('.')
        .find(|part| is_reserved(part) && (*part != "bias" || part.len() == word.len()))?;
    let partly = taken.len() < word.len();
    if !(read.stop.wants.name || partly) {
        return None;
    }
    let renamed = Patch { start: token.start, end: token.end, text: "x".to_owned() };
    let name = read.better(std::slice::from_ref(&renamed));
    // The word may be right, and the name in front of it missing.
    let missing = read.better(&[Patch::insert(read.here().end, " x ")]).filter(|_| !partly);
    if !partly && (name.is_none() || missing.is_some_and(|missing| Some(missing) <= name)) {
        return None;
    }
    let label = if partly {
        format!("`{taken}` cannot be part of a name")
    } else {
        "cannot be a name".to_owned()
    };
    let mistake =
        Mistake::new("ucl::reserved", format!("`{taken}` is a reserved word"), token, label);
    // Read on with the name that is proposed, so that every use is reported.
    let other = word.replace(taken, &format!("{taken}_"));
    let patch = Patch { start: token.start, end: token.end, text: other.clone() };
    Some(mistake.help(format!("choose another name, `{other}` for example")).mend([patch]))
}
