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
    /// Numbers and shapes that are pinned.
    pub expects: Vec<Expect>,
    /// Where it stands.
    pub span: Span,
}

/// What is known of one stored tensor: in this view, on this mesh, at this rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expect {
    /// The view.
    pub view: String,
    /// The layout; without one the first that has the mesh's axes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The mesh.
    pub mesh: Mesh,
    /// The rank's coordinates.
    pub rank: Mesh,
    /// The stored tensor's whole name.
    pub name: String,
    /// What is pinned.
    pub pin: Pin,
    /// Where it stands.
    pub span: Span,
}

/// What an [`Expect`] pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pin {
    /// The element of the stored tensor at `index` is the element of the parameter at `at`.
    Element {
        /// The element in the stored shape.
        index: Vec<u64>,
        /// The parameter.
        param: String,
        /// The element by dims, which the parameter is made of (`l=0 k=1 d=0 h=3`), in global indices.
        at: IndexMap<String, u64>,
    },
    /// The shape that the rank's header shows.
    Shape(Vec<u64>),
}
