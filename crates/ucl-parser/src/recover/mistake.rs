//! What is wrong with a statement, and what would mend it.

use super::corrected;
use super::draft::Patch;
use super::known::known;
use super::statements::statement_starts;
use super::stop::{Stop, Wants, stop, unread, wants_instead};
use crate::grammar::Rule;
use crate::suggest::nearest;
use crate::tokens::{Token, TokenKind, words};

/// A mistake in a piece of text; places count from its start.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) labels: Vec<(usize, usize, String)>,
    pub(super) help: Option<String>,
    /// What mends it, or takes it out.
    pub(super) patches: Vec<Patch>,
}

impl Mistake {
    pub(super) fn new(
        code: &'static str,
        message: impl Into<String>,
        token: &Token,
        label: impl Into<String>,
    ) -> Mistake {
        let labels = vec![(token.start, token.end, label.into())];
        Mistake { code, message: message.into(), labels, help: None, patches: Vec::new() }
    }

    /// Where it is.
    pub(super) fn place(&self) -> usize {
        self.labels.first().map_or(0, |label| label.0)
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }

    pub(super) fn mend(mut self, patches: impl IntoIterator<Item = Patch>) -> Mistake {
        self.patches.extend(patches);
        self
    }

    /// Shows the line as it would be after mending.
    fn show(self, text: &str) -> Mistake {
        let (Some(first), fixed) = (self.patches.first(), mended(text, &self.patches)) else {
            return self;
        };
        let start = super::line_start(&fixed, first.start.min(fixed.len()));
        let line = fixed[start..].lines().next().unwrap_or_default();
        let help = corrected(line);
        self.help(help)
    }
}

/// The cost of a keyword that is put in.
const WORD: usize = 3;

/// The first mistake in a text that should match the rule; none if there is none. The first line is
/// indented by `indent`. What cannot be mended is to be taken out.
pub(super) fn mistake(rule: Rule, text: &str, indent: usize) -> Option<Mistake> {
    let whole = stop(rule, text)?;
    let place = whole.place(text);
    let starts = statement_starts(text, &whole.tokens, indent);
    // A statement that is not finished where the next one begins may swallow some of that one.
    let unfinished = |&&start: &&usize| start > 0 && start <= place && stop(rule, &text[..start]).is_some();
    let end = starts.iter().find(unfinished).or_else(|| starts.iter().find(|&&start| start > place));
    // Only the statement itself is looked at: what comes next may be broken too.
    let text = &text[..end.copied().unwrap_or(text.len())];
    let stop = if end.is_some() { stop(rule, text).unwrap_or(whole) } else { whole };
    let read = Read { rule, text, stop, starts };
    let mistake = known(&read)
        .or_else(|| read.misspelt())
        .or_else(|| read.mended())
        .or_else(|| read.lacks_name())
        .unwrap_or_else(|| read.unexpected());
    Some(if mistake.patches.is_empty() { mistake.mend([read.take_out()]) } else { mistake })
}

/// The text with patches in it.
pub(super) fn mended(text: &str, patches: &[Patch]) -> String {
    let mut patches: Vec<&Patch> = patches.iter().collect();
    patches.sort_by_key(|patch| patch.start);
    patches.iter().rev().fold(text.to_owned(), |text, patch| patch.on(&text))
}

/// A text as far as it could be read.
pub(super) struct Read<'t> {
    pub(super) rule: Rule,
    pub(super) text: &'t str,
    pub(super) stop: Stop,
    /// Where statements begin.
    starts: Vec<usize>,
}

impl Read<'_> {
    /// The token that does not fit.
    pub(super) fn token(&self) -> Option<&Token> {
        self.stop.tokens.get(self.stop.at)
    }

    /// The token in front of it.
    pub(super) fn before(&self) -> Option<&Token> {
        self.stop.at.checked_sub(1).map(|before| &self.stop.tokens[before])
    }

    /// The text of the token so many places behind the one that does not fit, or in front of it.
    pub(super) fn word(&self, away: isize) -> &str {
        let token = self.stop.at.checked_add_signed(away).and_then(|at| self.stop.tokens.get(at));
        token.map_or("", |token| token.text(self.text))
    }

    /// Where a label says that something is missing.
    pub(super) fn here(&self) -> Token {
        let nothing = Token { kind: TokenKind::Sign, start: 0, end: 0 };
        self.before().or(self.token()).copied().unwrap_or(nothing)
    }

    /// The statement that is read, as far as it is right.
    pub(super) fn statement(&self) -> &str {
        let place = self.stop.place(self.text);
        let before = self.starts.iter().copied().rfind(|&start| start < place);
        self.text[before.unwrap_or(0)..place].trim()
    }

    /// Its first word.
    pub(super) fn lead(&self) -> &str {
        let statement = self.statement();
        words(statement).first().map_or("", |token| token.text(statement))
    }

    /// Whether the token that does not fit begins a statement.
    pub(super) fn at_start(&self) -> bool {
        self.token().is_some_and(|token| self.starts.contains(&token.start))
    }

    /// Whether the patches let the text be read beyond the token and the one behind it; if so, how
    /// much is still not read.
    pub(super) fn better(&self, patches: &[Patch]) -> Option<usize> {
        let behind = self.stop.tokens.get(self.stop.at + 1);
        let limit = behind.map_or(0, |behind| self.text.len() - behind.start);
        let rest = unread(self.rule, &mended(self.text, patches)).map_or(0, |rest| rest + 1);
        (rest <= limit).then_some(rest)
    }

    /// As little as has to go: the rest of the statement, or all of it.
    pub(super) fn take_out(&self) -> Patch {
        let (place, end) = (self.stop.place(self.text), self.text.len());
        let rest = Patch::erase(self.text, place, end);
        let has_rest = self.token().is_some() && !self.at_start();
        if has_rest && unread(self.rule, &rest.on(self.text)).is_none() {
            return rest;
        }
        let last = |most: usize| self.starts.iter().copied().rfind(|&start| start <= most);
        let start = if self.token().is_some() { last(place) } else { last(place.saturating_sub(1)) };
        Patch::erase(self.text, start.unwrap_or(0), end)
    }

    /// A word that is nearly a keyword; the one in front too, which may have passed for a name.
    fn misspelt(&self) -> Option<Mistake> {
        let wants = &self.stop.wants.words;
        let wanted = self.token().and_then(|token| self.keyword_for(token, wants));
        wanted.or_else(|| {
            let before = self.before()?;
            self.keyword_for(before, &wants_instead(self.rule, self.text, before).words)
        })
    }

    fn keyword_for(
        &self,
        token: &Token,
        wants: &std::collections::BTreeSet<String>,
    ) -> Option<Mistake> {
        let word = token.text(self.text);
        if token.kind != TokenKind::Word {
            return None;
        }
        let meant = nearest(word, wants.iter().map(String::as_str))?;
        let patch = Patch { start: token.start, end: token.end, text: meant.to_owned() };
        self.better(std::slice::from_ref(&patch))?;
        let message = format!("`{word}` is not a word of the language");
        let label = format!("did you mean `{meant}`?");
        let mistake = Mistake::new("ucl::misspelt", message, token, label);
        Some(mistake.mend([patch]).show(self.text))
    }

    /// A sign that is missing, too much, or another one than it should be: the change that lets
    /// most be read.
    fn mended(&self) -> Option<Mistake> {
        if self.at_start() && between_statements(self.rule, &self.stop.wants) {
            return None;
        }
        let changes = self.swap().into_iter().chain(self.changes()).chain(self.leave_out());
        let tried = changes.filter_map(|(mistake, cost)| {
            Some(((self.better(&mistake.patches)?, cost), mistake))
        });
        let mut tried: Vec<_> = tried.collect();
        tried.sort_by_key(|(rank, _)| *rank);
        // Of two that do as well, nobody knows which was meant.
        if let [((_, WORD), _), ((_, WORD), _), ..] = tried[..] {
            return None;
        }
        tried.into_iter().next().map(|(_, mistake)| mistake.show(self.text))
    }

    /// `"a" = v h : embed`
    fn swap(&self) -> Option<(Mistake, usize)> {
        let (token, word) = (self.token()?, self.word(0));
        let other = match word {
            "=" => ":",
            ":" => "=",
            _ => return None,
        };
        let behind = self.stop.tokens[self.stop.at + 1..].iter();
        let second = behind.take_while(|t| t.kind != TokenKind::String).find(|t| t.is(self.text, other))?;
        let set = |token: &Token, text: &str| Patch { start: token.start, end: token.end, text: text.to_owned() };
        let mut mistake =
            Mistake::new("ucl::swapped", "`:` and `=` have changed places", token, format!("`{other}` belongs here"));
        mistake.labels.push((second.start, second.end, format!("and `{word}` here")));
        Some((mistake.mend([set(token, other), set(second, word)]), 0))
    }

    fn changes(&self) -> impl Iterator<Item = (Mistake, usize)> {
        let Wanted { signs, words } = self.wanted();
        let replaced = signs.clone().into_iter().filter_map(|sign| self.replace(&sign));
        let signs = signs.into_iter().map(|sign| (self.insert(&sign), 2)).collect::<Vec<_>>();
        let words = words.into_iter().map(|word| (self.insert(&word), WORD)).collect::<Vec<_>>();
        replaced.chain(signs).chain(words).chain(self.equals()).collect::<Vec<_>>().into_iter()
    }

    /// `"a" : v h embed`: the parameter has passed for a dim.
    fn equals(&self) -> Option<(Mistake, usize)> {
        let before = self.before().filter(|before| before.kind == TokenKind::Word)?;
        let shape = self.stop.tokens.get(self.stop.at.checked_sub(2)?)?;
        if !self.stop.wants.signs.contains("=") || shape.is(self.text, ":") || !self.lead().starts_with('"') {
            return None;
        }
        // A dim has a short name; then the parameter is missing as well.
        if before.end - before.start < 3 {
            let message = format!("`=` and a parameter are missing behind `{}`", before.text(self.text));
            let mistake = Mistake::new("ucl::missing", message, before, "of which parameter is this the shape?");
            return Some((mistake.mend([self.take_out()]), 2));
        }
        let message = "`=` is missing between shape and parameter";
        let mistake = Mistake::new("ucl::missing", message, shape, "`=` is missing behind this");
        Some((mistake.mend([Patch::insert(before.start, "= ")]), 2))
    }

    fn wanted(&self) -> Wanted {
        let wants = &self.stop.wants;
        // A `?` or a `-` changes the meaning; nobody forgets it by accident.
        // Brackets are paired by now.
        let signs = wants.signs.iter().filter(|sign| !matches!(sign.as_str(), "?" | "-" | "1"));
        let signs = signs.filter(|sign| !"{}()[]".contains(sign.as_str()));
        let words = wants.words.iter().filter(|_| !wants.name);
        Wanted { signs: signs.cloned().collect(), words: words.cloned().collect() }
    }

    fn replace(&self, sign: &str) -> Option<(Mistake, usize)> {
        let token = self.token().filter(|token| token.kind == TokenKind::Sign)?;
        let word = token.text(self.text);
        // What opens or closes was paired before.
        if "{}()[]".contains(word) {
            return None;
        }
        let patch = Patch { start: token.start, end: token.end, text: sign.to_owned() };
        let message = format!("`{sign}` is expected, not `{word}`");
        let mistake = Mistake::new("ucl::unexpected", message, token, format!("`{sign}` belongs here"));
        Some((mistake.mend([patch]), if matches!(sign, ":" | "=") { 1 } else { 4 }))
    }

    fn insert(&self, what: &str) -> Mistake {
        let here = self.here();
        let patch = match what {
            "," => Patch::insert(here.end, ","),
            _ => Patch::insert(here.end, format!(" {what} ")),
        };
        let behind = here.text(self.text);
        let message = match (what, self.lead()) {
            (":", lead) if lead.starts_with('"') => "`:` is missing between name and shape".to_owned(),
            ("=", lead) if lead.starts_with('"') => {
                "`=` is missing between shape and parameter".to_owned()
            }
            (":", _) => format!("`:` is missing between `{behind}` and its dims"),
            ("|", lead) if lead.starts_with('"') => "`|` is missing between two parameters".to_owned(),
            _ => format!("`{what}` is missing"),
        };
        Mistake::new("ucl::missing", message, &here, format!("`{what}` is missing behind this")).mend([patch])
    }

    fn leave_out(&self) -> Option<(Mistake, usize)> {
        let token = self.token()?;
        let word = token.text(self.text);
        if "{}()[]".contains(word) || self.at_start() {
            return None;
        }
        let patch = Patch::erase(self.text, token.start, token.end);
        let mistake =
            Mistake::new("ucl::unexpected", format!("`{word}` is too much here"), token, "does not belong here");
        Some((mistake.mend([patch]), 5))
    }

    /// A name, a number or a quoted name that is missing. It cannot be made up.
    fn lacks_name(&self) -> Option<Mistake> {
        let wants = &self.stop.wants;
        let dummy = match () {
            () if wants.name => " x ",
            () if wants.quoted => " \"x\" ",
            () if wants.number => " 1 ",
            () => return None,
        };
        let here = self.here();
        self.better(&[Patch::insert(here.end, dummy)])?;
        let what = self.name_behind(here.text(self.text));
        let message = format!("{what} is missing behind `{}`", here.text(self.text));
        Some(Mistake::new("ucl::missing", message, &here, format!("{what} belongs behind this")))
    }

    fn name_behind(&self, word: &str) -> &'static str {
        let lead = self.lead();
        match word {
            "model" | "view" | "layout" | "extends" => "a name",
            "for" => "a view",
            "each" | "dims" | "pad" | "(" => "a dim",
            "over" | "mesh" => "a mesh axis",
            "drop" | "require" | "of" | "tied" | "shift" | "scale" | "average" | "sum" => "a parameter",
            "=" if lead.starts_with('"') || lead == "expect" => "a parameter",
            "under" | "rename" | "ignore" | "base" => "a quoted name",
            "to" | "by" | "=" | "+" | "-" | "*" | "/" | "??" | "if" | "else" | "not" | "<" | ">"
            | "%" | "when" => "a number or a key",
            "," | "|" | "or" | "and" => "another name",
            _ if !self.stop.wants.name && self.stop.wants.quoted => "a quoted name",
            _ if !self.stop.wants.name => "a number",
            _ => "a name",
        }
    }

    /// Nothing better to say than what could stand here.
    pub(super) fn unexpected(&self) -> Mistake {
        let expected = list(&self.expectations());
        let found = match self.token() {
            Some(token) => format!("`{}`", token.text(self.text)),
            None => "the end".to_owned(),
        };
        if self.token().is_none() {
            let here = self.here();
            let message = format!("this statement ends too early, behind `{}`", here.text(self.text));
            return Mistake::new("ucl::unexpected", message, &here, format!("{expected} has to follow"));
        }
        let token = self.token().copied().unwrap_or_else(|| self.here());
        if self.at_start() || self.stop.at == 0 {
            let (block, holds) = self.block();
            let message = format!("{found} begins no statement of {block}");
            return Mistake::new("ucl::unexpected", message, &token, "is not known here")
                .help(format!("{block} holds {holds}"));
        }
        let behind = self.word(-1);
        Mistake::new("ucl::unexpected", format!("{found} cannot follow `{behind}`"), &token, format!("expected {expected}"))
    }

    /// What could stand here, in words.
    fn expectations(&self) -> Vec<String> {
        let wants = &self.stop.wants;
        let mut all = Vec::new();
        if wants.name {
            all.push("a name".to_owned());
        }
        if wants.number {
            all.push("a number".to_owned());
        }
        // Where a statement may begin, only what goes on with this one is of interest.
        let begins = starters(self.rule);
        let is_new = between_statements(self.rule, wants);
        if wants.quoted && !is_new {
            all.push("a quoted name".to_owned());
        }
        let signs = wants.signs.iter().filter(|sign| !(is_new && *sign == "}"));
        let words = wants.words.iter().filter(|word| !(is_new && begins.contains(&word.as_str())));
        all.extend(signs.chain(words).map(|word| format!("`{word}`")));
        if is_new {
            all.push("the next statement".to_owned());
        }
        all
    }

    /// The block that is read, and what it holds.
    pub(super) fn block(&self) -> (&'static str, &'static str) {
        match self.rule {
            Rule::strict_file => ("a file", "one `model`, then `view`, `layout` and `test` blocks"),
            Rule::strict_model => (
                "a model",
                "parameters (`attn.q : n d h`), `dims`, `each`, `drop`, `require` and `from`",
            ),
            Rule::strict_each => ("an `each` block", "parameters (`attn.q : n d h`) and further `each` blocks"),
            Rule::strict_from => ("a `from` block", "lines like `k = num_key_value_heads ?? n`"),
            Rule::strict_view => (
                "a view",
                "equations (`\"name\" : shape = parameter`), `under`, `rename`, `ignore`, `base`, `dims`, `shift`, `scale` and `from`",
            ),
            Rule::strict_layout => (
                "a layout",
                "`mesh`, `shard`, `stage`, `pad`, `copy tied`, `average`, `sum` and `require`",
            ),
            _ => ("a test", "sizes (`l = 2`), `on` and `expect`"),
        }
    }
}

/// Whether a new statement could begin where this is wanted.
fn between_statements(rule: Rule, wants: &Wants) -> bool {
    let begins = starters(rule);
    !begins.is_empty() && begins.iter().all(|word| wants.words.contains(*word))
}

/// The keywords that begin a statement.
fn starters(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::strict_file => &["view", "layout", "test", "model"],
        Rule::strict_model => &["dims", "each", "drop", "require", "from"],
        Rule::strict_each => &["each"],
        Rule::strict_view => &["under", "rename", "ignore", "base", "dims", "shift", "scale", "from"],
        Rule::strict_layout => &["mesh", "shard", "stage", "pad", "copy", "average", "sum", "require"],
        Rule::strict_test => &["on", "expect"],
        _ => &[],
    }
}

struct Wanted {
    signs: Vec<String>,
    words: Vec<String>,
}

/// `a, b or c`
fn list(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
