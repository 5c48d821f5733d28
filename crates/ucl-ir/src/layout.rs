//! How dims are cut over the axes of a mesh.

use crate::{Cond, Expr, Span};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// A mesh: sizes (or coordinates) by axis.
pub type Mesh = IndexMap<String, u64>;

/// A layout with everything that it inherits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Its name.
    pub name: String,
    /// The views named by `for`.
    pub views: Vec<String>,
    /// Its axes, in order of declaration.
    pub axes: Vec<Axis>,
    /// The cuts; of two for the same dim and parameter the more special one counts.
    pub shards: Vec<Shard>,
    /// Dims that are padded before any cut.
    pub pads: Vec<Pad>,
    /// When the last stage keeps its own copy of a tied parameter.
    pub copy_tied: Option<Cond>,
    /// Parameters whose replicas along an axis differ, and how they become one.
    pub merges: Vec<Merge>,
    /// Parameters that some ranks of an axis lack.
    pub keeps: Vec<Keep>,
    /// Obligations of the mesh.
    pub requires: Vec<(Cond, Span)>,
    /// Where it is declared.
    pub span: Span,
}

/// A mesh axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Its name.
    pub name: String,
    /// The axis whose coordinate it shares unless the mesh says otherwise (`etp = tp`).
    pub same_as: Option<String>,
}

/// A dim that is cut over axes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The dim, atomic or composite.
    pub dim: String,
    /// The axes, outermost first.
    pub over: Vec<String>,
    /// Only in parameters under these paths; empty means all.
    pub of: Vec<String>,
    /// What happens where sizes do not divide.
    pub rest: Rest,
    /// Whether names keep global numbers.
    pub global: bool,
    /// Whether it was written `stage`: parameters without the dim lie on the first or last stage.
    pub stage: bool,
    /// Where it stands.
    pub span: Span,
}

/// What happens where sizes do not divide; nothing of it means that they must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The first ranks get one more.
    pub uneven: Option<Uneven>,
    /// With more ranks than indices each index lies on `n / size` neighbours.
    pub repeat: bool,
}

/// What the first ranks of an uneven cut get one more of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uneven {
    /// Runs of so many indices.
    Runs(u64),
    /// Indices within each one of this dim where it has fewer than there are ranks, else whole ones of
    /// it.
    Within(String),
}

impl Rest {
    /// Whether sizes must divide.
    pub fn is_exact(&self) -> bool {
        *self == Rest::default()
    }
}

/// `pad v to m * tp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    /// The dim.
    pub dim: String,
    /// Padded to the least multiple of this.
    pub to: Expr,
    /// What a writer puts there.
    pub with: PadFill,
    /// Where it stands.
    pub span: Span,
}

/// What a writer puts into padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PadFill {
    /// Zeros.
    Zero,
    /// The last true row again.
    Last,
    /// The mean of the true rows.
    Mean,
}

/// Parameters whose replicas along an axis are merged by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// How.
    pub op: MergeOp,
    /// Of these (a path means all below it).
    pub params: Vec<String>,
    /// Along this axis.
    pub over: String,
    /// Where it stands.
    pub span: Span,
}

/// Parameters that only the ranks of one coordinate have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// These (a path means all below it).
    pub params: Vec<String>,
    /// The axis.
    pub over: String,
    /// The coordinate along it.
    pub at: u64,
    /// Where it stands.
    pub span: Span,
}

/// How replicas become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeOp {
    /// The mean of all states.
    Average,
    /// Weights add up; moments are replicas.
    Sum,
}
