//! The `ucl` command: arguments and streams in, an exit code out.

use std::process::ExitCode;
use ucl_cli::{Terminal, run_on};

fn main() -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut terminal = Terminal::of_process(&mut out, &mut err);
    let code = run_on(std::env::args_os(), &mut terminal);
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}
