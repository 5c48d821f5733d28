//! A compiled spec.

use crate::{Layout, Mesh, Model, Source, Span, View};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Everything that a model's spec says, inheritance resolved: all that the later stages see of the
/// language.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// The model.
    pub model: Model,
    /// Its views by name.
    pub views: IndexMap<String, View>,
    /// Its layouts by name.
    pub layouts: IndexMap<String, Layout>,
    /// The `test` blocks of its own file.
    pub tests: Vec<Test>,
    /// The texts that spans point into: the model's own first, then its ancestors'.
    pub sources: Vec<Source>,
}

/// A `test` block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Sizes of dims and other numbers (`m`).
    pub sizes: IndexMap<String, u64>,
    /// The meshes to test on.
    pub meshes: Vec<Mesh>,
    /// Numbers that are pinned.
    pub expects: Vec<Expect>,
    /// Where it stands.
    pub span: Span,
}

/// One pinned element: in this view, on this mesh, at this rank, the element of the stored tensor
/// at `index` is the element of the parameter at `at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// The view.
    pub view: String,
    /// The mesh.
    pub mesh: Mesh,
    /// The rank's coordinates.
    pub rank: Mesh,
    /// The stored tensor's whole name.
    pub name: String,
    /// The element in its stored shape.
    pub index: Vec<u64>,
    /// The parameter.
    pub param: String,
    /// The element by dims, which the parameter is made of (`l=0 k=1 d=0 h=3`).
    pub at: IndexMap<String, u64>,
    /// Where it stands.
    pub span: Span,
}
