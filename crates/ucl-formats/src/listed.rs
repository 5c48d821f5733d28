//! Lists of names in sentences.

/// How many names a sentence lists.
const LISTED: usize = 8;

/// The first names, and how many more there are.
pub(crate) fn listed<T: AsRef<str>>(names: &[T], between: &str) -> String {
    let first: Vec<&str> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    match names.len() - first.len() {
        0 => first.join(between),
        more => format!("{} and {more} more", first.join(between)),
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn no_more_than_eight() {
        let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(listed(&names[..8], ", "), "0, 1, 2, 3, 4, 5, 6, 7");
        assert_eq!(listed(&names, ", "), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(listed(&names[..1], "; "), "0");
    }
}
