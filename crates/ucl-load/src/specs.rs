//! Specs: those that come with the program, and those that a user names.

use crate::failure::{Failure, of_problem};
use std::path::{Path, PathBuf};
use ucl_formats::{Inventory, Problem};
use ucl_ir::Program;
use ucl_parser::Library;
use ucl_plan::HUGGING_FACE_VIEW;

/// The built-in specs and these files; a file's model takes the place of a built-in one.
///
/// Mistakes in specs stay in the library.
///
/// # Errors
/// A file that cannot be read.
pub fn library(files: &[PathBuf]) -> Result<Library, Failure> {
    let mut library = ucl_specs::library();
    for file in files {
        library.add(&shown(file), &read(file)?);
    }
    Ok(library)
}

/// The programs to try on a checkpoint: the one it carries, and, if that is what built-in families share,
/// these; else all that are built in.
///
/// # Errors
/// A spec that the checkpoint carries and that does not compile.
pub fn for_inventory(inventory: &Inventory) -> Result<Vec<Program>, Failure> {
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
///
/// # Errors
/// A file that cannot be read, a mistake in a spec, or a name that nobody knows.
pub fn named(specs: &[PathBuf]) -> Result<Vec<Program>, Failure> {
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
///
/// # Errors
/// As [`named`].
pub fn of_files(files: &[PathBuf]) -> Result<Vec<Program>, Failure> {
    let library = library(files)?;
    sound(&library)?;
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let name = shown(first);
    let own = |program: &Program| program.sources.first().is_some_and(|source| source.name == name);
    Ok(all(&library)?.into_iter().filter(own).collect())
}

/// Fails with every mistake of every spec.
///
/// # Errors
/// All mistakes.
pub fn sound(library: &Library) -> Result<(), Failure> {
    match library.diagnostics() {
        mistakes if mistakes.is_empty() => Ok(()),
        mistakes => Err(Failure::in_specs(mistakes, library.sources().to_vec())),
    }
}

/// Every model's program.
///
/// # Errors
/// A model that does not compile.
pub fn all(library: &Library) -> Result<Vec<Program>, Failure> {
    library.models().iter().map(|model| compile(library, model)).collect()
}

/// A model's program.
///
/// # Errors
/// There is no such model, or it does not compile.
pub fn compile(library: &Library, model: &str) -> Result<Program, Failure> {
    let sources = || library.sources().to_vec();
    library.compile(model).map_err(|wrong| Failure::in_specs(wrong, sources()))
}

/// The text of a file.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let problem = Problem::new(file, format!("it can't be read: {error}."));
        Failure::one(of_problem(&problem.help("a spec is a text file, usually NAME.ucl")))
    })
}

/// A file's name as the user typed it.
pub fn shown(file: &Path) -> String {
    file.display().to_string()
}

/// A program as one text without inheritance, and without the view that was made for reading a
/// universal folder. Without `sources` it does not say where lines come from: a universal checkpoint
/// holds no paths.
pub fn flat(program: &Program, sources: bool) -> String {
    let mut program = program.clone();
    program.views.shift_remove("universal");
    if !sources {
        program.sources.clear();
    }
    program.to_string()
}
