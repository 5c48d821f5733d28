//! Diagnostics as plain text: what a reader sees, without colours and boxes.

use std::fmt::Write;
use ucl_ir::{Diagnostic, Source, Span};

/// All of them, each with its places, the lines they point at, and the help.
pub fn render(sources: &[Source], diagnostics: &[Diagnostic]) -> String {
    let texts: Vec<String> = diagnostics.iter().map(|one| render_one(sources, one)).collect();
    texts.join("\n")
}

fn render_one(sources: &[Source], diagnostic: &Diagnostic) -> String {
    let mut text = format!("error[{}]: {}\n", diagnostic.code, diagnostic.message);
    for label in &diagnostic.labels {
        let _ = place(&mut text, sources, label.span, &label.text);
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(text, "  help: {help}");
    }
    text
}

fn place(text: &mut String, sources: &[Source], span: Span, label: &str) -> std::fmt::Result {
    let Some(source) = sources.get(span.source as usize) else {
        return writeln!(text, "  --> nowhere: {label}");
    };
    let (start, end) = (span.start as usize, span.end as usize);
    let line_start = source.text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = source.text[line_start..].lines().next().unwrap_or("");
    let number = source.text[..start].matches('\n').count() + 1;
    let column = source.text[line_start..start].chars().count();
    let width = source.text[start..end.min(line_start + line.len()).max(start)].chars().count();
    writeln!(text, "  --> {}:{number}:{}", source.name, column + 1)?;
    writeln!(text, "   | {line}")?;
    writeln!(text, "   | {}{} {label}", " ".repeat(column), "^".repeat(width.max(1)))
}
