//! Float types of any width up to 32 bits, by integers: the exact reference that the fast casts are
//! tested against, and the only implementation of float8.

use crate::DType;

/// How the bits of a float type are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    exponent: u32,
    mantissa: u32,
    bias: i64,
    special: Special,
}

/// What the patterns at the edge mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// The top exponent is infinity and NaN.
    Ieee,
    /// No infinity; all ones is NaN.
    Finite,
    /// No infinity and no negative zero, whose pattern is NaN.
    Unsigned,
}

impl Format {
    /// The format of a float type; F64 and the types that are not floats have none, and give F32's.
    pub(crate) fn of(dtype: DType) -> Format {
        let format =
            |exponent, mantissa, bias, special| Format { exponent, mantissa, bias, special };
        match dtype {
            DType::F16 => format(5, 10, 15, Special::Ieee),
            DType::BF16 => format(8, 7, 127, Special::Ieee),
            DType::F8E4M3 => format(4, 3, 7, Special::Finite),
            DType::F8E5M2 => format(5, 2, 15, Special::Ieee),
            DType::F8E4M3Fnuz => format(4, 3, 8, Special::Unsigned),
            DType::F8E5M2Fnuz => format(5, 2, 16, Special::Unsigned),
            _ => format(8, 23, 127, Special::Ieee),
        }
    }

    fn sign_bit(self) -> u64 {
        1 << (self.exponent + self.mantissa)
    }

    /// The pattern of infinity, or of the NaN that stands in its place, without a sign.
    fn ceiling(self) -> u64 {
        match self.special {
            Special::Ieee => ((1 << self.exponent) - 1) << self.mantissa,
            Special::Finite => self.sign_bit() - 1,
            Special::Unsigned => self.sign_bit(),
        }
    }
}

/// The value of a pattern, exactly.
pub(crate) fn decode(bits: u64, format: Format) -> f64 {
    let Format { mantissa, bias, special, .. } = format;
    let sign = u64::from(bits & format.sign_bit() != 0) << 63;
    let magnitude = bits & (format.sign_bit() - 1);
    let fraction = magnitude & ((1 << mantissa) - 1);
    let nan = match special {
        Special::Ieee => magnitude > format.ceiling(),
        Special::Finite => magnitude == format.ceiling(),
        Special::Unsigned => bits == format.ceiling(),
    };
    if nan {
        return f64::from_bits(sign | 0x7ff8 << 48 | fraction << (52 - mantissa));
    }
    if special == Special::Ieee && magnitude == format.ceiling() {
        return f64::from_bits(sign | 0x7ff << 52);
    }
    let field = (magnitude >> mantissa) as i64;
    let (significand, power) = match field {
        0 => (fraction, 1 - bias - i64::from(mantissa)),
        _ => (fraction | 1 << mantissa, field - bias - i64::from(mantissa)),
    };
    // Every such power of two is a normal F64.
    let value = significand as f64 * f64::from_bits(((power + 1023) as u64) << 52);
    f64::from_bits(value.to_bits() | sign)
}

/// The pattern nearest to a value, ties to even.
pub(crate) fn encode(value: f64, format: Format) -> u64 {
    let Format { mantissa, bias, special, .. } = format;
    let bits = value.to_bits();
    let sign = if bits >> 63 == 1 { format.sign_bit() } else { 0 };
    if value.is_nan() {
        return match special {
            Special::Ieee => {
                let payload = (bits & ((1 << 52) - 1)) >> (52 - mantissa);
                sign | format.ceiling() | payload | 1 << (mantissa - 1)
            }
            Special::Finite => sign | format.ceiling(),
            Special::Unsigned => format.ceiling(),
        };
    }
    let overflow =
        if special == Special::Unsigned { format.ceiling() } else { sign | format.ceiling() };
    if value.is_infinite() {
        return overflow;
    }
    let field = (bits >> 52 & 0x7ff) as i64;
    // Subnormal F64 values are far below half of the smallest pattern of every format.
    let significand = if field == 0 { 0 } else { bits & ((1 << 52) - 1) | 1 << 52 };
    let smallest = 1 - bias;
    let exponent = field - 1023;
    let shift = (52 - i64::from(mantissa) + (smallest - exponent).max(0)).min(60) as u32;
    let rest = significand & ((1 << shift) - 1);
    let half = 1_u64 << (shift - 1);
    let mut rounded = significand >> shift;
    rounded += u64::from(rest > half || (rest == half && rounded & 1 == 1));
    // The hidden bit of a normal number adds one to the exponent field, and so does a carry.
    let magnitude = rounded + (((exponent - smallest).max(0) as u64) << mantissa);
    if magnitude >= format.ceiling() {
        return overflow;
    }
    if special == Special::Unsigned && magnitude == 0 { 0 } else { sign | magnitude }
}
