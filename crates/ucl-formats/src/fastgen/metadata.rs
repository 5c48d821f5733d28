//! `metadata_rank_R_of_N.json`: where the parameters lie in the bytes, as JSON in a string of JSON.

use crate::huggingface::torch_name;
use crate::inventory::row_major;
use crate::target::Held;
use indexmap::IndexMap;
use serde::Serialize;

/// What a file says.
#[derive(Serialize)]
pub(super) struct ModelMetadata {
    policy: String,
    layers: IndexMap<String, Layer>,
}

#[derive(Default, Serialize)]
struct Layer {
    params: IndexMap<String, Parameter>,
}

#[derive(Serialize)]
struct Parameter {
    core_param: TensorMetadata,
    /// What belongs to quantised weights.
    aux_params: IndexMap<String, TensorMetadata>,
}

/// A parameter in the bytes.
#[derive(Serialize)]
pub(super) struct TensorMetadata {
    dtype: String,
    shape: Option<Vec<u64>>,
    /// In elements.
    strides: Option<Vec<i64>>,
    /// In bytes; -1 where the rank has none.
    offset: i64,
}

impl TensorMetadata {
    /// A dense tensor that begins at an offset.
    pub(super) fn of(held: &Held, offset: u64) -> TensorMetadata {
        let dtype = torch_name(held.dtype).unwrap_or_default();
        let shape = held.shape.clone();
        // Torch counts a dim of no elements as one of one.
        let strides = row_major(&shape.iter().map(|len| (*len).max(1)).collect::<Vec<_>>());
        TensorMetadata {
            dtype: format!("torch.{dtype}"),
            shape: Some(shape),
            strides: Some(strides),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
        }
    }

    /// A tensor that other ranks have: the type is a word, as it is to FastGen.
    pub(super) fn absent() -> TensorMetadata {
        TensorMetadata { dtype: "None".to_owned(), shape: None, strides: None, offset: -1 }
    }
}

impl ModelMetadata {
    /// A model without layers.
    pub(super) fn of(policy: &str) -> ModelMetadata {
        ModelMetadata { policy: policy.to_owned(), layers: IndexMap::new() }
    }

    /// Adds a parameter to a layer.
    pub(super) fn add(&mut self, layer: &str, name: &str, core_param: TensorMetadata) {
        let params = &mut self.layers.entry(layer.to_owned()).or_default().params;
        params.insert(name.to_owned(), Parameter { core_param, aux_params: IndexMap::new() });
    }

    /// The text of the file.
    pub(super) fn text(&self) -> String {
        let inner = serde_json::to_string(self).unwrap_or_default();
        serde_json::Value::from(inner).to_string()
    }
}
