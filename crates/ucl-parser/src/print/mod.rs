//! A program as one text: what it says, with nothing inherited. Reading the text gives the program
//! again, but for places, ancestors and tests.

mod expr;
mod layout;
mod model;
mod view;

use ucl_ir::{Factor, Program, Sum};

/// The text of a program.
///
/// Views that do not spell the whole model are left out: they cannot be used.
pub fn print(program: &Program) -> String {
    let mut text = String::from("ucl 1\n\n");
    model::print(&program.model, &mut text);
    let views: Vec<_> = program.views.values().filter(|view| view.lacking.is_empty()).collect();
    for view in &views {
        view::print(view, &program.model, &mut text);
    }
    for layout in program.layouts.values() {
        layout::print(layout, &views, &mut text);
    }
    crate::format(&text).unwrap_or(text)
}

/// `(k d) h`
fn shape(factors: &[Factor]) -> String {
    let factors = factors.iter().map(|factor| match factor {
        Factor::One => "1".to_owned(),
        Factor::Name(name) => name.clone(),
        Factor::Group(inner) => format!("({})", sum(inner)),
    });
    factors.collect::<Vec<_>>().join(" ")
}

/// `k q d | k d`
fn sum(sum: &Sum) -> String {
    sum.alternatives.iter().map(|product| shape(product)).collect::<Vec<_>>().join(" | ")
}

/// A text in quotes.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use crate::Library;
    use ucl_ir::Program;

    /// What a text says, apart from where and by way of whom.
    fn meaning(program: &Program) -> Program {
        let mut program = program.clone();
        let usable: Vec<String> = program
            .views
            .values()
            .filter(|view| view.lacking.is_empty())
            .map(|view| view.name.clone())
            .collect();
        program.views.retain(|name, _| usable.contains(name));
        program.views.values_mut().for_each(|view| view.ancestors.clear());
        program.model.ancestors.clear();
        for layout in program.layouts.values_mut() {
            layout.views.clear();
        }
        program.tests.clear();
        program.sources.clear();
        crate::resolve::spans::map(&mut program, |span| *span = ucl_ir::Span::default());
        program
    }

    #[test]
    fn a_printed_program_is_the_program() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs");
        let mut library = Library::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            library.add(&path.to_string_lossy(), &std::fs::read_to_string(&path).unwrap());
        }
        for model in library.models() {
            let program = library.compile(&model).unwrap();
            let text = super::print(&program);
            let mut alone = Library::new();
            alone.add("printed.ucl", &text);
            let again = alone.compile(&model).unwrap_or_else(|wrong| panic!("{wrong:#?}\n{text}"));
            assert_eq!(meaning(&again), meaning(&program), "{text}");
            assert_eq!(super::print(&again), text);
        }
    }
}
