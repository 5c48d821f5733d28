//! The specs that come with the program.

#![forbid(unsafe_code)]

use ucl_parser::Library;

/// The specs: each file's name and its text, by name. They need no order: a base is found by its name.
pub const SPECS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/specs.rs"));

/// A library with all of them; a user's spec for the same model takes the place of one of these.
pub fn library() -> Library {
    let mut library = Library::new();
    for &(name, text) in SPECS {
        library.add_shipped(name, text);
    }
    library
}
