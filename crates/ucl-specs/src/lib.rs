//! The specs that come with the program.

#![forbid(unsafe_code)]

use ucl_parser::Library;

/// A spec: its file's name and its text. A base stands before what extends it.
pub const SPECS: [(&str, &str); 7] = [
    ("decoder.ucl", include_str!("../specs/decoder.ucl")),
    ("llama.ucl", include_str!("../specs/llama.ucl")),
    ("mixtral.ucl", include_str!("../specs/mixtral.ucl")),
    ("phi3.ucl", include_str!("../specs/phi3.ucl")),
    ("phi3-small.ucl", include_str!("../specs/phi3-small.ucl")),
    ("gpt-neox.ucl", include_str!("../specs/gpt-neox.ucl")),
    ("gpt2.ucl", include_str!("../specs/gpt2.ucl")),
];

/// A library with all of them; a user's spec for the same model takes the place of one of these.
pub fn library() -> Library {
    let mut library = Library::new();
    for (name, text) in SPECS {
        library.add_shipped(name, text);
    }
    library
}
