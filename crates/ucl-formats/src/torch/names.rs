//! Torch's names for element types: storage classes and dtype constants.

use ucl_tensor::DType;

use super::node::{Element, Global};

/// Storage classes of modules `torch`, `torch.cuda`, `torch.storage`.
const STORAGES: [(&str, Element); 19] = [
    ("DoubleStorage", Element::Typed(DType::F64)),
    ("FloatStorage", Element::Typed(DType::F32)),
    ("HalfStorage", Element::Typed(DType::F16)),
    ("BFloat16Storage", Element::Typed(DType::BF16)),
    ("LongStorage", Element::Typed(DType::I64)),
    ("IntStorage", Element::Typed(DType::I32)),
    ("ShortStorage", Element::Typed(DType::I16)),
    ("CharStorage", Element::Typed(DType::I8)),
    ("ByteStorage", Element::Typed(DType::U8)),
    ("BoolStorage", Element::Typed(DType::Bool)),
    ("ComplexFloatStorage", Element::Typed(DType::C64)),
    ("ComplexDoubleStorage", Element::Typed(DType::C128)),
    ("UntypedStorage", Element::Untyped),
    ("_UntypedStorage", Element::Untyped),
    ("QInt8Storage", Element::Unsupported(1)),
    ("QUInt8Storage", Element::Unsupported(1)),
    ("QInt32Storage", Element::Unsupported(4)),
    ("QUInt4x2Storage", Element::Unsupported(1)),
    ("QUInt2x4Storage", Element::Unsupported(1)),
];

/// Dtype constants of module `torch`. The first name of a type is the one written.
const DTYPES: [(&str, DType); 27] = [
    ("float64", DType::F64),
    ("double", DType::F64),
    ("float32", DType::F32),
    ("float", DType::F32),
    ("float16", DType::F16),
    ("half", DType::F16),
    ("bfloat16", DType::BF16),
    ("int64", DType::I64),
    ("long", DType::I64),
    ("int32", DType::I32),
    ("int", DType::I32),
    ("int16", DType::I16),
    ("short", DType::I16),
    ("int8", DType::I8),
    ("uint8", DType::U8),
    ("uint16", DType::U16),
    ("uint32", DType::U32),
    ("uint64", DType::U64),
    ("bool", DType::Bool),
    ("float8_e4m3fn", DType::F8E4M3),
    ("float8_e5m2", DType::F8E5M2),
    ("float8_e4m3fnuz", DType::F8E4M3Fnuz),
    ("float8_e5m2fnuz", DType::F8E5M2Fnuz),
    ("float8_e8m0fnu", DType::F8E8M0),
    ("complex64", DType::C64),
    ("cfloat", DType::C64),
    ("complex128", DType::C128),
];

/// What a storage class holds. Classes of other modules are no storages of torch.
pub(super) fn storage_element(class: &Global) -> Element {
    let ours = matches!(&*class.module, "torch" | "torch.cuda" | "torch.storage");
    let found = STORAGES.iter().find(|entry| ours && entry.0 == &*class.name);
    found.map_or(Element::Unsupported(0), |entry| entry.1)
}

/// The class that holds a type in a typed storage; `None` if torch keeps it untyped.
pub(super) fn storage_class(dtype: DType) -> Option<&'static str> {
    STORAGES.iter().find(|entry| entry.1 == Element::Typed(dtype)).map(|entry| entry.0)
}

/// The type a `torch.<name>` constant stands for.
pub(super) fn dtype(global: &Global) -> Option<DType> {
    let found = DTYPES.iter().find(|entry| entry.0 == &*global.name);
    found.filter(|_| &*global.module == "torch").map(|entry| entry.1)
}

/// The name of a type in module `torch`.
pub(super) fn dtype_name(dtype: DType) -> Option<&'static str> {
    DTYPES.iter().find(|entry| entry.1 == dtype).map(|entry| entry.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dtypes_of_torch_have_one_name_each() {
        assert_eq!(dtype_name(DType::F8E8M0), Some("float8_e8m0fnu"));
        assert_eq!(storage_class(DType::BF16), Some("BFloat16Storage"));
        assert_eq!(storage_class(DType::U16), None);
        let foreign = Global { module: "evil".into(), name: "FloatStorage".into() };
        assert_eq!(storage_element(&foreign), Element::Unsupported(0));
    }
}
