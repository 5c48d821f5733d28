//! The parameters of a plan: names and dims with numbers.

use serde::Serialize;

/// A parameter with its true extents; layer and expert are dims like any other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Param {
    /// Its path in the model (`attn.q`); the stored name for the identity model.
    pub path: String,
    /// Its dims, those of its name first.
    pub dims: Vec<ParamDim>,
    /// How many of the dims are part of its universal name.
    pub each: usize,
    /// How the other dims form the dims of its universal shape: counts, in order.
    pub groups: Vec<usize>,
}

/// A dim of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParamDim {
    /// An atom's name, or several that do not follow one by one: `k q r i`.
    pub name: String,
    /// Its true extent.
    pub extent: u64,
}

impl Param {
    /// The universal name at these indices: `l.3.attn.q`.
    pub fn name(&self, indices: &[u64]) -> String {
        let each = self.dims.iter().zip(indices);
        let prefix: String = each.map(|(dim, index)| format!("{}.{index}.", dim.name)).collect();
        prefix + &self.path
    }

    /// The universal shape and the dims in it, one text per stored dim.
    pub fn shape(&self) -> (Vec<u64>, Vec<String>) {
        let mut rest = &self.dims[self.each..];
        let mut shape = Vec::new();
        let mut names = Vec::new();
        for group in &self.groups {
            let (these, others) = rest.split_at(*group);
            shape.push(these.iter().map(|dim| dim.extent).product());
            names.push(these.iter().map(|dim| dim.name.as_str()).collect::<Vec<_>>().join(" "));
            rest = others;
        }
        (shape, names)
    }
}

/// All index tuples below these extents, in order.
pub(crate) fn every(extents: &[u64]) -> Vec<Vec<u64>> {
    extents.iter().fold(vec![Vec::new()], |tuples, extent| {
        tuples
            .into_iter()
            .flat_map(|tuple| {
                (0..*extent).map(move |index| {
                    let mut longer = tuple.clone();
                    longer.push(index);
                    longer
                })
            })
            .collect()
    })
}
