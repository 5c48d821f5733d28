//! Mistakes, with the lines of the spec that they are in.

use super::{Style, clean};
use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode,
    ThemeCharacters, ThemeStyles,
};
use serde_json::{Value, json};
use std::fmt;
use ucl_ir::{Diagnostic, Label, Source};
use ucl_load::Failure;

/// All mistakes, the places in specs with their lines.
pub(crate) fn failure(failure: &Failure, style: Style, width: usize) -> String {
    let mut out = String::new();
    for (number, diagnostic) in failure.diagnostics.iter().enumerate() {
        if diagnostic.labels.iter().any(|label| source(label, &failure.sources).is_some()) {
            if number > 0 {
                out.push('\n');
            }
            out.push_str(&with_lines(diagnostic, &failure.sources, style, width));
        } else {
            out.push_str(&plain(diagnostic, style));
        }
    }
    out
}

/// `error: …` and `help: …`; lines are not broken, so that commands can be copied.
fn plain(diagnostic: &Diagnostic, style: Style) -> String {
    let mut out = format!("{} {}\n", style.wrong("error:"), clean(&diagnostic.message));
    for (number, line) in diagnostic.help.iter().flat_map(|help| help.lines()).enumerate() {
        let head = if number == 0 { style.help("help:") } else { " ".repeat(5) };
        out.push_str(&format!("  {head} {}\n", clean(line)));
    }
    out
}

fn with_lines(diagnostic: &Diagnostic, sources: &[Source], style: Style, width: usize) -> String {
    let styles = if style.colour { ThemeStyles::ansi() } else { ThemeStyles::none() };
    let theme = GraphicalTheme { characters: ThemeCharacters::unicode(), styles };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(width)
        .with_links(false)
        .with_context_lines(1);
    let mut out = String::new();
    match handler.render_report(&mut out, &Report::new(diagnostic, sources)) {
        Ok(()) => out,
        // A span that is not in its text must not hide the message.
        Err(fmt::Error) => plain(diagnostic, style),
    }
}

fn source<'a>(label: &Label, sources: &'a [Source]) -> Option<&'a Source> {
    let source = sources.get(label.span.source as usize)?;
    let (start, end) = (label.span.start as usize, label.span.end as usize);
    (start <= end && end <= source.text.len()).then_some(source)
}

/// A mistake as the renderer takes it: one file, and further files as remarks of their own.
#[derive(Debug)]
struct Report {
    code: Option<String>,
    message: String,
    help: Option<String>,
    text: NamedSource<String>,
    labels: Vec<LabeledSpan>,
    others: Vec<Report>,
}

impl Report {
    fn new(diagnostic: &Diagnostic, sources: &[Source]) -> Report {
        let mut of_file: Vec<(u32, &Source, Vec<LabeledSpan>)> = Vec::new();
        for label in &diagnostic.labels {
            let Some(source) = source(label, sources) else { continue };
            let span = label.span;
            let shown = Some(clean(&label.text)).filter(|text| !text.is_empty());
            let len = (span.end - span.start) as usize;
            let first = of_file.is_empty();
            let shown = match first {
                true => LabeledSpan::new_primary_with_span(shown, (span.start as usize, len)),
                false => LabeledSpan::new_with_span(shown, (span.start as usize, len)),
            };
            match of_file.iter_mut().find(|known| known.0 == span.source) {
                Some(known) => known.2.push(shown),
                None => of_file.push((span.source, source, vec![shown])),
            }
        }
        let mut parts = of_file.into_iter().map(|(_, source, labels)| Report {
            code: None,
            message: "the other place".to_owned(),
            help: None,
            text: NamedSource::new(clean(&source.name), source.text.clone()),
            labels,
            others: Vec::new(),
        });
        let first = parts.next().unwrap_or_else(|| Report {
            code: None,
            message: String::new(),
            help: None,
            text: NamedSource::new("", String::new()),
            labels: Vec::new(),
            others: Vec::new(),
        });
        Report {
            code: Some(diagnostic.code.to_owned()),
            message: clean(&diagnostic.message),
            help: diagnostic.help.as_deref().map(clean),
            others: parts.collect(),
            ..first
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report {}

impl miette::Diagnostic for Report {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.as_ref().map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<Severity> {
        Some(if self.code.is_some() { Severity::Error } else { Severity::Advice })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.others.is_empty() {
            return None;
        }
        Some(Box::new(self.others.iter().map(|other| other as &dyn miette::Diagnostic)))
    }
}

/// All mistakes as data: places by file, line and column, counted from 1.
pub(crate) fn failure_json(failure: &Failure) -> Value {
    let one = |diagnostic: &Diagnostic| {
        let labels = diagnostic.labels.iter().filter_map(|label| {
            let source = source(label, &failure.sources)?;
            let before = source.text.get(..label.span.start as usize)?;
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            Some(json!({
                "file": source.name, "line": line, "column": column,
                "start": label.span.start, "end": label.span.end, "text": label.text,
            }))
        });
        json!({
            "code": diagnostic.code,
            "message": diagnostic.message,
            "help": diagnostic.help,
            "labels": labels.collect::<Vec<_>>(),
        })
    };
    failure.diagnostics.iter().map(one).collect()
}
