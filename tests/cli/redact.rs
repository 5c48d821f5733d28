//! Takes out of a text what differs from run to run: paths and times.

use std::path::Path;
use ucl_tests::command::Ended;

/// The text of a run for a snapshot; `scratch` is shown as `TMP`.
pub(crate) fn redacted(ended: &Ended, scratch: &Path) -> String {
    let fixtures = ucl_tests::fixture("");
    let fixtures = fixtures.to_string_lossy();
    let text = ended
        .text()
        .replace(fixtures.trim_end_matches('/'), "FIXTURES")
        .replace(&*scratch.to_string_lossy(), "TMP");
    text.lines().map(|line| times(line) + "\n").collect()
}

/// `took  0.01 s: read 2 MB, wrote 1 MB (80 MB/s)` without what a clock says.
fn times(line: &str) -> String {
    let Some((_, rest)) =
        line.trim_start().strip_prefix("took").and_then(|rest| rest.split_once(':'))
    else {
        return line.to_owned();
    };
    let rest = rest.rsplit_once('(').map_or(rest, |(rest, _)| rest);
    format!("  took TIME:{rest}(RATE)")
}
