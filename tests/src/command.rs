//! Runs `ucl` in this process.

use std::path::Path;

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    /// Both streams and the code, for a snapshot.
    pub fn text(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}--- exit {}\n", self.out, self.err, self.code)
    }
}

/// Runs `ucl` with these arguments.
pub fn ucl(arguments: &[&str]) -> Ended {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let arguments = ["ucl"].iter().chain(arguments).map(Into::into);
    let code = ucl_cli::run(arguments.collect::<Vec<std::ffi::OsString>>(), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("the command prints UTF-8");
    Ended { code, out: text(out), err: text(err) }
}

/// Converts, and expects that to work.
pub fn convert(source: &Path, target: &Path, flags: &[&str]) -> Ended {
    let (source, target) = (source.to_string_lossy(), target.to_string_lossy());
    let mut arguments = vec!["convert", &source, &target];
    arguments.extend(flags);
    let ended = ucl(&arguments);
    assert_eq!(ended.code, 0, "{arguments:?}\n{}", ended.text());
    ended
}
