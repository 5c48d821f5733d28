//! Element types.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The type of one stored element, little-endian.
///
/// The text form is the one of safetensors headers (`F32`, `BF16`, `F8_E4M3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned 8 bits.
    U8,
    /// Signed 8 bits.
    I8,
    /// Unsigned 16 bits.
    U16,
    /// Signed 16 bits.
    I16,
    /// Unsigned 32 bits.
    U32,
    /// Signed 32 bits.
    I32,
    /// Unsigned 64 bits.
    U64,
    /// Signed 64 bits.
    I64,
    /// IEEE half.
    F16,
    /// The upper half of an F32.
    BF16,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
    /// OCP float8, 4 exponent bits, finite (torch `float8_e4m3fn`).
    F8E4M3,
    /// OCP float8, 5 exponent bits (torch `float8_e5m2`).
    F8E5M2,
    /// Float8 with an unsigned zero, 4 exponent bits.
    F8E4M3Fnuz,
    /// Float8 with an unsigned zero, 5 exponent bits.
    F8E5M2Fnuz,
    /// A power of two, 8 exponent bits: the scale of block formats.
    F8E8M0,
    /// Two F32: real, imaginary.
    C64,
    /// Two F64: real, imaginary. Safetensors has no name for it.
    C128,
}

const NAMES: [(DType, &str, u64); 20] = [
    (DType::Bool, "BOOL", 1),
    (DType::U8, "U8", 1),
    (DType::I8, "I8", 1),
    (DType::U16, "U16", 2),
    (DType::I16, "I16", 2),
    (DType::U32, "U32", 4),
    (DType::I32, "I32", 4),
    (DType::U64, "U64", 8),
    (DType::I64, "I64", 8),
    (DType::F16, "F16", 2),
    (DType::BF16, "BF16", 2),
    (DType::F32, "F32", 4),
    (DType::F64, "F64", 8),
    (DType::F8E4M3, "F8_E4M3", 1),
    (DType::F8E5M2, "F8_E5M2", 1),
    (DType::F8E4M3Fnuz, "F8_E4M3FNUZ", 1),
    (DType::F8E5M2Fnuz, "F8_E5M2FNUZ", 1),
    (DType::F8E8M0, "F8_E8M0", 1),
    (DType::C64, "C64", 8),
    (DType::C128, "C128", 16),
];

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> u64 {
        NAMES[self as usize].2
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// The type of that name, in any case; also the short names people type (`fp32`, `bf16`).
    pub fn parse(text: &str) -> Option<DType> {
        let upper = text.to_ascii_uppercase();
        let name = match upper.as_str() {
            "FP32" | "FLOAT32" | "FLOAT" => "F32",
            "FP16" | "FLOAT16" | "HALF" => "F16",
            "BFLOAT16" => "BF16",
            "FP64" | "FLOAT64" | "DOUBLE" => "F64",
            other => other,
        };
        NAMES.iter().find(|entry| entry.1 == name).map(|entry| entry.0)
    }

    /// How many of these elements are infinite or no number; none for types that are no reals.
    pub fn not_finite(self, bytes: &[u8]) -> u64 {
        fn count<const N: usize>(bytes: &[u8], all: impl Fn([u8; N]) -> bool) -> u64 {
            bytes.as_chunks::<N>().0.iter().filter(|element| all(**element)).count() as u64
        }
        match self {
            DType::F16 => count(bytes, |x| u16::from_le_bytes(x) & 0x7c00 == 0x7c00),
            DType::BF16 => count(bytes, |x| u16::from_le_bytes(x) & 0x7f80 == 0x7f80),
            DType::F32 => count(bytes, |x| !f32::from_le_bytes(x).is_finite()),
            DType::F64 => count(bytes, |x| !f64::from_le_bytes(x).is_finite()),
            DType::F8E5M2 => count(bytes, |[x]| x & 0x7c == 0x7c),
            DType::F8E4M3 => count(bytes, |[x]| x & 0x7f == 0x7f),
            DType::F8E4M3Fnuz | DType::F8E5M2Fnuz => count(bytes, |[x]| x == 0x80),
            _ => 0,
        }
    }

    /// The smallest of the usual types that holds the values of both: itself for one and the same, the
    /// wider of two reals, and `F32` where neither holds the other. `None` where one is no real.
    pub fn common(self, other: DType) -> Option<DType> {
        if self == other {
            return Some(self);
        }
        if !self.is_float() || !other.is_float() {
            return None;
        }
        Some(match self.size_bytes().cmp(&other.size_bytes()) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            // E4M3 and E5M2, bf16 and fp16.
            std::cmp::Ordering::Equal => DType::F32,
        })
    }

    /// Whether values are rounded reals, so that casts between two such types make sense.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            DType::F16
                | DType::BF16
                | DType::F32
                | DType::F64
                | DType::F8E4M3
                | DType::F8E5M2
                | DType::F8E4M3Fnuz
                | DType::F8E5M2Fnuz
        )
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<DType> for String {
    fn from(dtype: DType) -> String {
        dtype.name().to_owned()
    }
}

impl TryFrom<String> for DType {
    type Error = String;
    fn try_from(text: String) -> Result<DType, String> {
        DType::parse(&text).ok_or_else(|| format!("unknown dtype {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_counted() {
        let halves = [0x3c00_u16, 0x7bff, 0x7c00, 0xfc00, 0x7e00].map(u16::to_le_bytes).concat();
        assert_eq!(DType::F16.not_finite(&halves), 3);
        let halves = [0x3f80_u16, 0x7f7f, 0x7f80, 0xff80, 0x7fc0].map(u16::to_le_bytes).concat();
        assert_eq!(DType::BF16.not_finite(&halves), 3);
        let reals = [1.0, f32::MAX, f32::INFINITY, f32::NAN].map(f32::to_le_bytes).concat();
        assert_eq!(DType::F32.not_finite(&reals), 2);
        assert_eq!(DType::F8E4M3.not_finite(&[0x7e, 0x7f, 0xff]), 2);
        assert_eq!(DType::I64.not_finite(&[0xff; 16]), 0);
    }

    #[test]
    fn what_is_common_to_two_types() {
        assert_eq!(DType::BF16.common(DType::F32), Some(DType::F32));
        assert_eq!(DType::F16.common(DType::BF16), Some(DType::F32));
        assert_eq!(DType::F8E4M3.common(DType::BF16), Some(DType::BF16));
        assert_eq!(DType::I64.common(DType::F32), None);
    }

    #[test]
    fn table_is_in_enum_order() {
        for (index, (dtype, name, _)) in NAMES.iter().enumerate() {
            assert_eq!(*dtype as usize, index);
            assert_eq!(DType::parse(name), Some(*dtype));
        }
    }
}
