//! What could stand where a statement breaks off.

use super::draft::Patch;
use super::mistake::{Mistake, Read};
use super::stop::Wants;
use crate::grammar::Rule;

impl Read<'_> {
    /// A name, a number or a quoted name that is missing. It cannot be made up.
    pub(super) fn lacks_name(&self) -> Option<Mistake> {
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
        let (lead, wants) = (self.lead(), &self.stop.wants);
        match word {
            "model" | "view" | "layout" | "extends" => "a name",
            "for" => "a view",
            "each" | "dims" | "pad" | "(" => "a dim",
            "set" | "in" | "not" if self.rule == Rule::strict_model => "a set",
            "over" | "mesh" => "a mesh axis",
            "drop" | "require" | "of" | "tied" | "shift" | "scale" | "average" | "sum" => {
                "a parameter"
            }
            "=" if lead.starts_with('"') || lead == "expect" => "a parameter",
            "under" | "rename" | "ignore" | "base" | "type" | "class" => "a quoted name",
            "to" | "by" | "=" | "+" | "-" | "*" | "/" | "??" | "if" | "else" | "not" | "<"
            | ">" | "%" | "when" => "a number or a key",
            "," | "|" | "or" | "and" => "another name",
            _ if !wants.name && wants.quoted => "a quoted name",
            _ if !wants.name => "a number",
            _ => "a name",
        }
    }

    /// Nothing better to say than what could stand here.
    pub(super) fn unexpected(&self) -> Mistake {
        let expected = list(&self.expectations());
        let Some(token) = self.token() else {
            let here = self.here();
            let message =
                format!("this statement ends too early, behind `{}`", here.text(self.text));
            let label = format!("{expected} has to follow");
            return Mistake::new("ucl::unexpected", message, &here, label);
        };
        let found = self.word(0);
        if self.at_start() || self.stop.at == 0 {
            let (block, holds) = self.block();
            let message = format!("`{found}` begins no statement of {block}");
            return Mistake::new("ucl::unexpected", message, token, "is not known here")
                .help(format!("{block} holds {holds}"));
        }
        let behind = self.word(-1);
        Mistake::new(
            "ucl::unexpected",
            format!("`{found}` cannot follow `{behind}`"),
            token,
            format!("expected {expected}"),
        )
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
                "parameters (`attn.q : n d h`), `type`, `set`, `dims`, `each`, `drop`, `require` and `from`",
            ),
            Rule::strict_each => {
                ("an `each` block", "parameters (`attn.q : n d h`) and further `each` blocks")
            }
            Rule::strict_from => ("a `from` block", "lines like `k = num_key_value_heads ?? n`"),
            Rule::strict_view => (
                "a view",
                "equations (`\"name\" : shape = parameter`), `under`, `rename`, `ignore`, `base`, `dims`, `shift`, `scale` and `from`",
            ),
            Rule::strict_layout => (
                "a layout",
                "`mesh`, `shard`, `stage`, `pad`, `copy tied`, `average`, `sum`, `keep` and `require`",
            ),
            _ => ("a test", "sizes (`l = 2`), `on` and `expect`"),
        }
    }
}

/// Whether a new statement could begin where this is wanted.
pub(super) fn between_statements(rule: Rule, wants: &Wants) -> bool {
    let begins = starters(rule);
    !begins.is_empty() && begins.iter().all(|word| wants.words.contains(*word))
}

/// The keywords that begin a statement.
pub(super) fn starters(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::strict_file => &["view", "layout", "test", "model"],
        Rule::strict_model => &["type", "set", "dims", "each", "drop", "require", "from"],
        Rule::strict_each => &["each"],
        Rule::strict_view => {
            &["under", "rename", "ignore", "base", "dims", "shift", "scale", "from", "class"]
        }
        Rule::strict_layout => {
            &["mesh", "shard", "stage", "pad", "copy", "average", "sum", "keep", "require"]
        }
        Rule::strict_test => &["on", "expect"],
        _ => &[],
    }
}

/// `a, b or c`
fn list(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
