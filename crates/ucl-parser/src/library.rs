//! The specs at hand: models are found in it by name.

use crate::any::goes_with;
use crate::ast;
use crate::check::{Known, check_beside};
use crate::resolve::{Chain, Replaced, Report, list, resolve, spans};
use ucl_ir::{Diagnostic, Program, Source, Span};

/// Specs that know each other by the names of their models.
///
/// A model that `extends any` is made once for each other model that has the views it builds on, and
/// is called by both names: `reward-llama`.
#[derive(Clone, Debug, Default)]
pub struct Library {
    sources: Vec<Source>,
    entries: Vec<Entry>,
}

/// A file of the library; its number is that of its source.
#[derive(Clone, Debug)]
struct Entry {
    file: ast::File,
    mistakes: Vec<Diagnostic>,
    shipped: bool,
}

/// A model: its own file and those it extends, by number, the own first; and what it is called.
#[derive(Clone, Debug)]
struct Path {
    name: String,
    ancestors: Vec<String>,
    files: Vec<usize>,
}

impl Library {
    /// A library without specs.
    pub fn new() -> Library {
        Library::default()
    }

    /// Adds a spec; `name` is how a reader knows the file.
    pub fn add(&mut self, name: &str, text: &str) {
        self.push(name, text, false);
    }

    /// Adds a spec that comes with the program: one that a user adds for the same model, before or
    /// after, takes its place.
    pub fn add_shipped(&mut self, name: &str, text: &str) {
        self.push(name, text, true);
    }

    fn push(&mut self, name: &str, text: &str, shipped: bool) {
        let number = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        let (file, mistakes) = crate::parse(number, text);
        self.sources.push(Source { name: name.to_owned(), text: text.to_owned() });
        self.entries.push(Entry { file, mistakes, shipped });
    }

    /// The texts that the spans of diagnostics point into.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The names of all models, in the order in which they were added.
    pub fn models(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let Some(model) = &entry.file.model else { continue };
            if self.number(&model.name.value) != Some(number) {
                continue;
            }
            match self.is_for_any(number) {
                false => names.push(model.name.value.clone()),
                true => names
                    .extend(self.bases(number).into_iter().map(|base| self.joined(number, base))),
            }
        }
        names
    }

    /// The program of a model.
    ///
    /// # Errors
    ///
    /// All mistakes of its file and of those it extends, in the order of the library and of their
    /// places, which are in [`Library::sources`].
    pub fn compile(&self, model: &str) -> Result<Program, Vec<Diagnostic>> {
        let path = self.path(model).map_err(|diagnostic| vec![diagnostic])?;
        let mut report = Report::default();
        for start in (1..path.files.len()).rev() {
            let ancestor = Path {
                name: path.ancestors[start - 1].clone(),
                ancestors: path.ancestors[start..].to_vec(),
                files: path.files[start..].to_vec(),
            };
            let (_, mistakes) = self.run(&ancestor);
            mistakes.into_iter().for_each(|mistake| report.say(mistake));
        }
        let (program, mistakes) = self.run(&path);
        mistakes.into_iter().for_each(|mistake| report.say(mistake));
        if report.all.is_empty() { Ok(program) } else { Err(sorted(report.all)) }
    }

    /// All mistakes of all models.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = Vec::new();
        let mut add = |mistake: Diagnostic| {
            let place = |d: &Diagnostic| d.labels.first().map(|label| label.span);
            // One mistake in a base shows in all that is built on it.
            let same = |known: &Diagnostic| {
                known.code == mistake.code
                    && place(known) == place(&mistake)
                    && place(known).is_some()
            };
            if !all.iter().any(same) {
                all.push(mistake);
            }
        };
        for (number, entry) in self.entries.iter().enumerate() {
            entry.mistakes.iter().cloned().for_each(&mut add);
            let Some(model) = &entry.file.model else { continue };
            match self.number(&model.name.value) {
                Some(known) if known != number && self.entries[known].shipped == entry.shipped => {
                    if let Some(first) = &self.entries[known].file.model {
                        add(twice(&model.name, &first.name));
                    }
                }
                _ => {}
            }
            if self.is_for_any(number) && self.bases(number).is_empty() {
                add(self.nothing_to_extend(&model.name, number));
            }
        }
        let mut broken: Vec<String> = Vec::new();
        let paths = self.models().into_iter().map(|model| (self.path(&model), model));
        let (made, plain): (Vec<_>, Vec<_>) = paths
            .partition(|(path, _)| path.as_ref().is_ok_and(|path| self.is_for_any(path.files[0])));
        for (path, model) in plain.into_iter().chain(made) {
            let mistakes = match path {
                // What is made of a wrong model says no better what is wrong with it.
                Ok(path)
                    if self.is_for_any(path.files[0])
                        && path.ancestors.iter().any(|base| broken.contains(base)) =>
                {
                    continue;
                }
                Ok(path) => self.run(&path).1,
                Err(mistake) => vec![mistake],
            };
            if !mistakes.is_empty() {
                broken.push(model);
            }
            mistakes.into_iter().for_each(&mut add);
        }
        sorted(all)
    }

    /// What a path says, with its mistakes, in the places of the library.
    fn run(&self, path: &Path) -> (Program, Vec<Diagnostic>) {
        let own = &self.entries[path.files[0]];
        let mut report = Report { all: own.mistakes.clone(), ..Report::default() };
        version(&own.file, &mut report);
        let unread =
            path.files[1..].iter().any(|number| !self.entries[*number].mistakes.is_empty());
        let chain = Chain {
            name: path.name.clone(),
            ancestors: path.ancestors.clone(),
            files: path.files.iter().map(|number| &self.entries[*number].file).collect(),
        };
        let mut found = Report::default();
        let mut program = resolve(&chain, &mut found);
        program.sources = path.files.iter().map(|number| self.sources[*number].clone()).collect();
        if unread {
            // What an unreadable base lacks is no mistake of this file.
            return (program, report.all);
        }
        if is_model_broken(own) {
            found.all.retain(|mistake| mistake.code != "ucl::name");
        }
        std::mem::take(&mut found.all).into_iter().for_each(|mistake| report.say(mistake));
        let inward = |span: &mut Span| {
            let at = path.files.iter().position(|n| Some(*n) == usize::try_from(span.source).ok());
            span.source = at.and_then(|at| u32::try_from(at).ok()).unwrap_or(0);
        };
        let outward = |span: &mut Span| {
            let number = usize::try_from(span.source).ok().and_then(|at| path.files.get(at));
            span.source = number.and_then(|n| u32::try_from(*n).ok()).unwrap_or(0);
        };
        spans::map(&mut program, inward);
        let known = known(own, &report.all, inward);
        for mut mistake in check_beside(&program, &known) {
            forgotten(&mut mistake, &program, &found.replaced, inward);
            spans::map_diagnostic(&mut mistake, outward);
            unpin(&mut report.all, &mistake);
            report.say(mistake);
        }
        (program, report.all)
    }

    /// The file of a model: a user's before a shipped one.
    fn number(&self, model: &str) -> Option<usize> {
        let named = |entry: &&Entry| {
            entry.file.model.as_ref().is_some_and(|known| known.name.value == model)
        };
        let found = self.entries.iter().find(|entry| named(entry) && !entry.shipped);
        let found = found.or_else(|| self.entries.iter().find(named))?;
        self.entries.iter().position(|entry| std::ptr::eq(entry, found))
    }

    fn name(&self, number: usize) -> &str {
        self.entries[number].file.model.as_ref().map_or("", |model| &model.name.value)
    }

    fn is_for_any(&self, number: usize) -> bool {
        let extends = self.entries[number].file.model.as_ref().and_then(|m| m.extends.as_ref());
        extends.is_some_and(|name| name.value == "any")
    }

    fn joined(&self, number: usize, base: usize) -> String {
        format!("{}-{}", self.name(number), self.name(base))
    }

    /// The models that one for `any` is made for: those with the views that it builds on and the
    /// parameters that it names; if none has all these, those with the views, and it is wrong for each.
    fn bases(&self, number: usize) -> Vec<usize> {
        let needed = self.needed_views(number);
        let others = (0..self.entries.len()).filter(|other| {
            self.number(self.name(*other)) == Some(*other) && !self.is_for_any(*other)
        });
        let fits = others.filter(|other| {
            let Ok(path) = self.path_of(*other) else { return false };
            let has = |name: &&str| {
                let mut views = path.files.iter().flat_map(|n| &self.entries[*n].file.views);
                views.any(|view| view.name.value == **name)
            };
            needed.iter().all(has)
        });
        let all: Vec<usize> = fits.collect();
        let goes_with = |other: &usize| {
            let files = self.path_of(*other).map(|path| path.files).unwrap_or_default();
            let files: Vec<&ast::File> = files.iter().map(|n| &self.entries[*n].file).collect();
            goes_with(&self.entries[number].file, &files)
        };
        let some: Vec<usize> = all.iter().copied().filter(goes_with).collect();
        if some.is_empty() { all } else { some }
    }

    /// The views that a file extends and does not hold.
    fn needed_views(&self, number: usize) -> Vec<&str> {
        let views = &self.entries[number].file.views;
        let extended = views.iter().filter_map(|view| view.extends.as_ref());
        let missing = |name: &&str| !views.iter().any(|view| view.name.value == **name);
        extended.map(|name| name.value.as_str()).filter(missing).collect()
    }

    fn path(&self, model: &str) -> Result<Path, Diagnostic> {
        if let Some(number) = self.number(model) {
            if !self.is_for_any(number) {
                return self.path_of(number);
            }
            let name = self.entries[number].file.model.as_ref().map(|model| &model.name);
            let names: Vec<String> =
                self.bases(number).into_iter().map(|base| self.joined(number, base)).collect();
            return Err(match name {
                Some(name) if names.is_empty() => self.nothing_to_extend(name, number),
                _ => {
                    Diagnostic::new("ucl::name", format!("`{model}` extends any model: which one?"))
                        .help(format!("one of {}", names.join(", ")))
                }
            });
        }
        // Of two files for one model, that which `number` takes.
        let for_any = |number: &usize| {
            self.is_for_any(*number) && self.number(self.name(*number)) == Some(*number)
        };
        for number in (0..self.entries.len()).filter(for_any) {
            for base in self.bases(number) {
                if self.joined(number, base) == model {
                    let mut path = self.path_of(base)?;
                    path.ancestors.insert(0, path.name);
                    path.files.insert(0, number);
                    path.name = model.to_owned();
                    return Ok(path);
                }
            }
        }
        let models = self.models();
        let near = crate::suggest::nearest(model, models.iter().map(String::as_str));
        Err(Diagnostic::new("ucl::name", format!("there is no model `{model}`")).help(match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if models.is_empty() => "no spec is loaded; give one with --spec FILE".to_owned(),
            None => format!("known: {}; others with --spec FILE", models.join(", ")),
        }))
    }

    fn path_of(&self, number: usize) -> Result<Path, Diagnostic> {
        let mut path =
            Path { name: self.name(number).to_owned(), ancestors: Vec::new(), files: vec![number] };
        let mut at = number;
        while let Some(base) = self.entries[at].file.model.as_ref().and_then(|m| m.extends.as_ref())
        {
            let next = self.number(&base.value).ok_or_else(|| {
                // Not `models`: that asks for the paths of all.
                let others = (0..self.entries.len()).filter(|other| !self.is_for_any(*other));
                let known: Vec<&str> = others
                    .map(|other| self.name(other))
                    .filter(|name| !name.is_empty() && *name != path.name)
                    .collect();
                let mut report = Report::default();
                report.unknown("the library", "model", base, known);
                report.all.remove(0)
            })?;
            if path.files.contains(&next) {
                let text = format!("the model `{}` extends itself", base.value);
                return Err(Diagnostic::new("ucl::cycle", text)
                    .at(base.span, format!("by way of `{}`", self.name(at)))
                    .help("take one `extends` out, or give the model another name"));
            }
            path.ancestors.push(base.value.clone());
            path.files.push(next);
            at = next;
        }
        Ok(path)
    }

    fn nothing_to_extend(&self, name: &ast::Name, number: usize) -> Diagnostic {
        let views: Vec<String> = self.needed_views(number).into_iter().map(str::to_owned).collect();
        Diagnostic::new(
            "ucl::name",
            format!(
                "`{}` extends any model with the view {}, but the library has none",
                name.value,
                list(&views)
            ),
        )
        .at(name.span, "nothing to extend")
        .help("add the spec of a model with that view")
    }
}

/// What an `expect` says of a line that is wrong itself is no mistake of the `expect`.
fn unpin(mistakes: &mut Vec<Diagnostic>, wrong: &Diagnostic) {
    let Some(line) = wrong.labels.first().filter(|_| wrong.code == "ucl::balance") else { return };
    let follows = |mistake: &Diagnostic| {
        mistake.code == "ucl::expect" && mistake.labels.iter().any(|label| label.span == line.span)
    };
    mistakes.retain(|mistake| !follows(mistake));
}

/// A view that lacks a parameter may have had it in a line that it replaced.
fn forgotten(
    mistake: &mut Diagnostic,
    program: &Program,
    replaced: &[Replaced],
    inward: impl Fn(&mut Span),
) {
    let at = mistake.labels.first().map(|label| label.span);
    let views = program.views.values().filter(|view| Some(view.span) == at);
    let Some(view) = views.into_iter().find(|_| mistake.code == "ucl::cover") else { return };
    for line in replaced.iter().filter(|line| line.view == view.name) {
        let lost: Vec<String> =
            line.terms.iter().filter(|term| view.lacking.contains(term)).cloned().collect();
        if !lost.is_empty() {
            let (mut old, mut new) = (line.old, line.new);
            inward(&mut old);
            inward(&mut new);
            let text = format!("this line held {} too …", list(&lost));
            *mistake = mistake.clone().at(old, text).at(new, "… and this one replaces all of it");
        }
    }
}

fn twice(second: &ast::Name, first: &ast::Name) -> Diagnostic {
    Diagnostic::new("ucl::duplicate", format!("model `{}` is declared twice", second.value))
        .at(second.span, "again here")
        .at(first.span, "first here")
        .help("give one of the two another name")
}

fn version(file: &ast::File, report: &mut Report) {
    if file.version.value != 1 && file.model.is_some() {
        let text = format!("this is version {} of the language", file.version.value);
        report.say(
            Diagnostic::new("ucl::version", text)
                .at(file.version.span, "only version 1 is known")
                .help("write `ucl 1`, or use a newer `ucl`"),
        );
    }
}

/// Whether a statement of the model could not be read: names that it declares are then missing.
fn is_model_broken(entry: &Entry) -> bool {
    let Some(model) = &entry.file.model else { return true };
    entry
        .mistakes
        .iter()
        .flat_map(|mistake| mistake.labels.first())
        .any(|label| model.span.start <= label.span.start && label.span.start <= model.span.end)
}

/// What the proofs should not tell again.
fn known(own: &Entry, mistakes: &[Diagnostic], inward: impl Fn(&mut Span)) -> Known {
    // An unknown name is told once with all its places; otherwise the first place is the wrong one.
    let of = |mistake: &Diagnostic| if mistake.code == "ucl::name" { usize::MAX } else { 1 };
    let labels = mistakes.iter().flat_map(|mistake| mistake.labels.iter().take(of(mistake)));
    let places: Vec<Span> = labels.map(|label| label.span).collect();
    let holds = |view: &&ast::View| {
        places.iter().any(|place| {
            place.source == view.span.source
                && view.span.start <= place.start
                && place.start <= view.span.end
        })
    };
    let views = own.file.views.iter().filter(holds).map(|view| view.name.value.clone()).collect();
    let mut spans = places.clone();
    spans.iter_mut().for_each(inward);
    Known { spans, views }
}

/// In the order of the library and of their places.
fn sorted(mut mistakes: Vec<Diagnostic>) -> Vec<Diagnostic> {
    mistakes.sort_by_key(|mistake| mistake.labels.first().map(|l| (l.span.source, l.span.start)));
    mistakes
}
