//! Specs: those that come with the program, and those that a user names.

use crate::failure::{Failure, Stop, of_problem};
use std::path::{Path, PathBuf};
use ucl_formats::{Inventory, Problem};
use ucl_ir::Program;
use ucl_parser::Library;
use ucl_plan::HUGGING_FACE_VIEW;

/// The built-in specs and these files; a file's model takes the place of a built-in one.
///
/// Fails where a file cannot be read; mistakes in specs stay in the library.
pub(crate) fn library(files: &[PathBuf]) -> Result<Library, Stop> {
    let mut library = ucl_specs::library();
    for file in files {
        library.add(&shown(file), &read(file)?);
    }
    Ok(library)
}

/// The programs to try on a checkpoint: the one it carries, and, if that is what built-in families share,
/// these; else all that are built in.
pub(crate) fn for_inventory(inventory: &Inventory) -> Result<Vec<Program>, Stop> {
    let carried = inventory
        .universal
        .as_ref()
        .and_then(|manifest| Some((manifest.model.as_str(), manifest.spec.as_deref()?)));
    match carried {
        Some((model, text)) => {
            let mut library = Library::new();
            library.add("ucl.json", text);
            let own = compile(&library, model)?;
            // What families have in common has no name of theirs: one of them may be meant.
            let families = match own.views.contains_key(HUGGING_FACE_VIEW) {
                true => Vec::new(),
                false => all(&ucl_specs::library())?,
            };
            let extends = |family: &Program| family.model.ancestors.contains(&own.model.name);
            let families: Vec<Program> = families.into_iter().filter(extends).collect();
            Ok([vec![own], families].concat())
        }
        None => all(&ucl_specs::library()),
    }
}

/// The programs of what the user named: files, or a built-in model.
pub(crate) fn named(specs: &[PathBuf]) -> Result<Vec<Program>, Stop> {
    let is_file = |spec: &&PathBuf| spec.is_file() || spec.extension().is_some_and(|e| e == "ucl");
    match specs.first() {
        Some(first) if !is_file(&first) => {
            let files: Vec<PathBuf> = specs.iter().filter(is_file).cloned().collect();
            let library = library(&files)?;
            sound(&library)?;
            Ok(vec![compile(&library, &shown(first))?])
        }
        _ => of_files(specs),
    }
}

/// The programs of the first of these files: one, or one for each model that it extends.
pub(crate) fn of_files(files: &[PathBuf]) -> Result<Vec<Program>, Stop> {
    let library = library(files)?;
    sound(&library)?;
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let name = shown(first);
    let own = |program: &Program| program.sources.first().is_some_and(|source| source.name == name);
    Ok(all(&library)?.into_iter().filter(own).collect())
}

/// Fails with every mistake of every spec.
pub(crate) fn sound(library: &Library) -> Result<(), Stop> {
    match library.diagnostics() {
        mistakes if mistakes.is_empty() => Ok(()),
        mistakes => Err(Failure::in_specs(mistakes, library.sources().to_vec()).into()),
    }
}

/// Every model's program.
pub(crate) fn all(library: &Library) -> Result<Vec<Program>, Stop> {
    library.models().iter().map(|model| compile(library, model)).collect()
}

/// A model's program.
pub(crate) fn compile(library: &Library, model: &str) -> Result<Program, Stop> {
    let sources = || library.sources().to_vec();
    library.compile(model).map_err(|wrong| Failure::in_specs(wrong, sources()).into())
}

/// The text of a file.
pub(crate) fn read(file: &Path) -> Result<String, Stop> {
    std::fs::read_to_string(file).map_err(|error| {
        let problem = Problem::new(file, format!("it can't be read: {error}."));
        of_problem(&problem.help("a spec is a text file, usually NAME.ucl")).into()
    })
}

/// A file's name as the user typed it.
pub(crate) fn shown(file: &Path) -> String {
    file.display().to_string()
}

/// A program as one text without inheritance, and without the view that was made for reading a
/// universal folder. Without `sources` it does not say where lines come from: a universal checkpoint
/// holds no paths.
pub(crate) fn flat(program: &Program, sources: bool) -> String {
    let mut program = program.clone();
    program.views.shift_remove("universal");
    if !sources {
        program.sources.clear();
    }
    program.to_string()
}
