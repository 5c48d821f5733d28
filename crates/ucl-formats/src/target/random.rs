//! Random states of ranks that the source had none of.

/// Says that ranks go on with the random states of the source's first rank: `repeated` of the `written` ranks,
/// where the source had those of `known`.
pub(crate) fn repeated(known: usize, written: usize, repeated: usize) -> Option<String> {
    (repeated > 0).then(|| {
        format!(
            "The source has the random states of {known} of its ranks: of the {written} that are written, {repeated} go on with those of the first, so their dropout repeats its until they are seeded anew."
        )
    })
}
