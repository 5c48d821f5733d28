//! What was meant by a name that does not exist.

/// A sentence for the help of a diagnostic: the nearest known name, else all of them if few.
pub(super) fn meant(name: &str, kind: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(name, known) {
        return format!("did you mean `{near}`?");
    }
    if kind == "number" {
        return format!("known: {}; others are bound in a `from` of the model", known.join(", "));
    }
    match known.len() {
        0 => format!("there is no {kind} here at all"),
        1..=16 => {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("known: {}", names.join(", "))
        }
        more => format!("{more} others are known; is the name complete (`attn.q`)?"),
    }
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A path of which only the end was typed.
    let dotted = format!(".{name}");
    let mut ends = known.iter().filter(|other| other.ends_with(&dotted));
    if let (Some(only), None) = (ends.next(), ends.next()) {
        return Some(only);
    }
    // Dims are called by a letter or two: every other one would be near.
    let near = crate::suggest::nearest(name, known.iter().copied())?;
    (name.chars().count() > 2).then_some(near)
}
