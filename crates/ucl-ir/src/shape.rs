//! Stored shapes over named dims, before any number is known.

use serde::{Deserialize, Serialize};

/// The shape of a stored tensor, outermost stored dim first. Empty is a scalar.
pub type Shape = Vec<Factor>;

/// One stored dim of a [`Shape`], or one factor of a product inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Factor {
    /// `1`: a place without a dim.
    One,
    /// A dim, atomic or composite, by name.
    Name(String),
    /// `( a b | c )`: alternatives one after the other; a single alternative is a product.
    Group(Sum),
}

/// Products one after the other: `k q d | k d | k d`. At least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sum {
    /// The alternatives, first in memory first; each a row-major product, the rightmost fastest.
    pub alternatives: Vec<Vec<Factor>>,
}
