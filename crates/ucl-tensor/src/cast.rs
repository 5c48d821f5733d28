//! Casts between the element types that hold rounded reals, on little-endian bytes of any alignment.
//!
//! A cast rounds once, to nearest, ties to even. NaN stays NaN: quiet, with its sign and the top bits of
//! its payload. What is too large becomes infinite, or NaN in the types that have no infinity (all
//! float8 but `F8_E5M2`), as torch does. A cast of a type to itself copies bytes and changes nothing,
//! and every type but the float types can only be cast to itself.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::DType;
use crate::minifloat::{self, Format};

/// Values that pass through registers and the first cache level at a time.
pub(crate) const CHUNK: usize = 256;

/// A cast that has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("values of type {from} cannot be cast to {to}")]
pub struct CastError {
    /// The type of the values.
    pub from: DType,
    /// The type asked for.
    pub to: DType,
}

/// Whether [`cast`] knows how.
///
/// # Errors
///
/// When the types differ and are not both float types.
pub fn castable(from: DType, to: DType) -> Result<(), CastError> {
    if from == to || (from.is_float() && to.is_float()) {
        return Ok(());
    }
    Err(CastError { from, to })
}

/// Casts every element of `source` into `target`; surplus elements of the longer one are left alone.
///
/// # Errors
///
/// See [`castable`].
pub fn cast(from: DType, source: &[u8], to: DType, target: &mut [u8]) -> Result<(), CastError> {
    castable(from, to)?;
    match (from, to) {
        _ if from == to => {
            let len = source.len().min(target.len());
            target[..len].copy_from_slice(&source[..len]);
        }
        (DType::F32, DType::BF16) => each(source, target, narrow_bf16),
        (DType::BF16, DType::F32) => each(source, target, widen_bf16),
        (DType::F64, DType::F32) => each(source, target, narrow_f64),
        (DType::F32, DType::F64) => each(source, target, widen_f32),
        // Every 16- and 8-bit type is exact in F32, so going through it rounds once.
        (_, DType::F32 | DType::F16 | DType::BF16) if from != DType::F64 => {
            let count = elements(from, source).min(elements(to, target));
            let (from_size, to_size) = (from.size_bytes() as usize, to.size_bytes() as usize);
            let mut values = [0_f32; CHUNK];
            for start in (0..count).step_by(CHUNK) {
                let end = count.min(start + CHUNK);
                let values = &mut values[..end - start];
                load_f32(from, &source[start * from_size..end * from_size], values);
                store_f32(to, values, &mut target[start * to_size..end * to_size]);
            }
        }
        _ => {
            let count = elements(from, source).min(elements(to, target));
            let (from_size, to_size) = (from.size_bytes() as usize, to.size_bytes() as usize);
            let mut values = [0_f64; CHUNK];
            for start in (0..count).step_by(CHUNK) {
                let end = count.min(start + CHUNK);
                let values = &mut values[..end - start];
                load_f64(from, &source[start * from_size..end * from_size], values);
                store_f64(to, values, &mut target[start * to_size..end * to_size]);
            }
        }
    }
    Ok(())
}

/// Whether every value of `master` rounds to the value stored beside it: the check of a 16-bit copy
/// against its master weights. Two NaN agree whatever their payload.
///
/// # Errors
///
/// See [`castable`].
pub fn round_equal(
    from: DType,
    master: &[u8],
    to: DType,
    stored: &[u8],
) -> Result<bool, CastError> {
    castable(from, to)?;
    let (from_size, to_size) = (from.size_bytes() as usize, to.size_bytes() as usize);
    if elements(from, master) != elements(to, stored) {
        return Ok(false);
    }
    let mut rounded = [0_u8; CHUNK * 16];
    for (values, expected) in master.chunks(CHUNK * from_size).zip(stored.chunks(CHUNK * to_size)) {
        let rounded = &mut rounded[..expected.len()];
        cast(from, values, to, rounded)?;
        if rounded != expected && !same_values(to, rounded, expected) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_values(dtype: DType, left: &[u8], right: &[u8]) -> bool {
    let size = dtype.size_bytes() as usize;
    left.chunks_exact(size)
        .zip(right.chunks_exact(size))
        .all(|(left, right)| left == right || (is_nan(dtype, left) && is_nan(dtype, right)))
}

/// Whether these bytes are a NaN of that type.
pub(crate) fn is_nan(dtype: DType, bytes: &[u8]) -> bool {
    let mut value = [0_f64];
    dtype.is_float() && {
        load_f64(dtype, bytes, &mut value);
        value[0].is_nan()
    }
}

fn elements(dtype: DType, bytes: &[u8]) -> usize {
    bytes.len() / dtype.size_bytes() as usize
}

fn each<const N: usize, const M: usize>(
    source: &[u8],
    target: &mut [u8],
    function: impl Fn([u8; N]) -> [u8; M],
) {
    for (to, from) in target.as_chunks_mut::<M>().0.iter_mut().zip(source.as_chunks::<N>().0) {
        *to = function(*from);
    }
}

fn narrow_bf16(bytes: [u8; 4]) -> [u8; 2] {
    let bits = u32::from_le_bytes(bytes);
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    let nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if nan { quiet as u16 } else { rounded as u16 }).to_le_bytes()
}

fn widen_bf16(bytes: [u8; 2]) -> [u8; 4] {
    let bits = u32::from(u16::from_le_bytes(bytes)) << 16;
    let nan = bits & 0x7fff_ffff > 0x7f80_0000;
    (if nan { bits | 0x40_0000 } else { bits }).to_le_bytes()
}

fn narrow_f64(bytes: [u8; 8]) -> [u8; 4] {
    let value = f64::from_le_bytes(bytes);
    let bits = value.to_bits();
    let quiet = (bits >> 32) as u32 & 0x8000_0000 | 0x7fc0_0000 | (bits >> 29) as u32 & 0x3f_ffff;
    (if value.is_nan() { quiet } else { (value as f32).to_bits() }).to_le_bytes()
}

fn widen_f32(bytes: [u8; 4]) -> [u8; 8] {
    let value = f32::from_le_bytes(bytes);
    let bits = u64::from(value.to_bits());
    let quiet = bits >> 31 << 63 | 0x7ff8 << 48 | (bits & 0x3f_ffff) << 29;
    (if value.is_nan() { quiet } else { f64::from(value).to_bits() }).to_le_bytes()
}

/// Loads values of at most 32 bits.
fn load_f32(dtype: DType, source: &[u8], values: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (value, bytes) in values.iter_mut().zip(source.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        DType::BF16 => {
            for (value, bytes) in values.iter_mut().zip(source.as_chunks::<2>().0) {
                *value = f32::from_le_bytes(widen_bf16(*bytes));
            }
        }
        DType::F16 => {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..values.len()];
            for (half, bytes) in halves.iter_mut().zip(source.as_chunks::<2>().0) {
                *half = f16::from_le_bytes(*bytes);
            }
            halves.convert_to_f32_slice(values);
        }
        _ => {
            let format = Format::of(dtype);
            for (value, byte) in values.iter_mut().zip(source) {
                let wide = minifloat::decode(u64::from(*byte), format);
                *value = f32::from_le_bytes(narrow_f64(wide.to_le_bytes()));
            }
        }
    }
}

fn store_f32(dtype: DType, values: &[f32], target: &mut [u8]) {
    match dtype {
        DType::F32 => {
            for (bytes, value) in target.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        DType::BF16 => {
            for (bytes, value) in target.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *bytes = narrow_bf16(value.to_le_bytes());
            }
        }
        _ => {
            debug_assert_eq!(dtype, DType::F16);
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            for (bytes, half) in target.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
                *bytes = half.to_le_bytes();
            }
        }
    }
}

/// The values of a float type, exactly; of another type, as near as F64 comes (complex: real parts).
pub(crate) fn load_f64(dtype: DType, source: &[u8], values: &mut [f64]) {
    fn load<const N: usize>(source: &[u8], values: &mut [f64], read: impl Fn([u8; N]) -> f64) {
        for (value, bytes) in values.iter_mut().zip(source.as_chunks::<N>().0) {
            *value = read(*bytes);
        }
    }
    match dtype {
        DType::F64 => load(source, values, f64::from_le_bytes),
        DType::F32 => load(source, values, |bytes| f64::from_le_bytes(widen_f32(bytes))),
        DType::BF16 => {
            load(source, values, |bytes| f64::from_le_bytes(widen_f32(widen_bf16(bytes))));
        }
        DType::F16 => {
            let format = Format::of(dtype);
            load(source, values, |bytes| {
                minifloat::decode(u64::from(u16::from_le_bytes(bytes)), format)
            });
        }
        DType::Bool | DType::U8 => load(source, values, |[byte]: [u8; 1]| f64::from(byte)),
        DType::I8 => load(source, values, |bytes| f64::from(i8::from_le_bytes(bytes))),
        DType::U16 => load(source, values, |bytes| f64::from(u16::from_le_bytes(bytes))),
        DType::I16 => load(source, values, |bytes| f64::from(i16::from_le_bytes(bytes))),
        DType::U32 => load(source, values, |bytes| f64::from(u32::from_le_bytes(bytes))),
        DType::I32 => load(source, values, |bytes| f64::from(i32::from_le_bytes(bytes))),
        DType::U64 => load(source, values, |bytes| u64::from_le_bytes(bytes) as f64),
        DType::I64 => load(source, values, |bytes| i64::from_le_bytes(bytes) as f64),
        DType::F8E8M0 => load(source, values, |[byte]: [u8; 1]| match byte {
            255 => f64::NAN,
            _ => f64::from_bits((u64::from(byte) + 1023 - 127) << 52),
        }),
        DType::C64 => load(source, values, |bytes: [u8; 8]| {
            f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        }),
        DType::C128 => {
            load(source, values, |bytes: [u8; 16]| {
                f64::from_bits(u128::from_le_bytes(bytes) as u64)
            });
        }
        DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz => {
            let format = Format::of(dtype);
            load(source, values, |[byte]: [u8; 1]| minifloat::decode(u64::from(byte), format));
        }
    }
}

/// Rounds values to a float type; the bytes of other types are left alone.
pub(crate) fn store_f64(dtype: DType, values: &[f64], target: &mut [u8]) {
    match dtype {
        DType::F64 => {
            for (bytes, value) in target.as_chunks_mut::<8>().0.iter_mut().zip(values) {
                *bytes = value.to_le_bytes();
            }
        }
        DType::F32 => {
            for (bytes, value) in target.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = narrow_f64(value.to_le_bytes());
            }
        }
        DType::BF16 | DType::F16 => {
            let format = Format::of(dtype);
            for (bytes, value) in target.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *bytes = (minifloat::encode(*value, format) as u16).to_le_bytes();
            }
        }
        DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz => {
            let format = Format::of(dtype);
            for (byte, value) in target.iter_mut().zip(values) {
                *byte = minifloat::encode(*value, format) as u8;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    const FLOATS: [DType; 8] = [
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
        DType::F8E4M3,
        DType::F8E5M2,
        DType::F8E4M3Fnuz,
        DType::F8E5M2Fnuz,
    ];

    fn one(from: DType, bytes: &[u8], to: DType) -> Vec<u8> {
        let mut out = vec![0; to.size_bytes() as usize];
        cast(from, bytes, to, &mut out).unwrap();
        out
    }

    /// Every pattern of every narrow type survives a trip through every type that holds it.
    #[test]
    fn narrow_patterns_round_trip() {
        for narrow in FLOATS.into_iter().filter(|dtype| dtype.size_bytes() <= 2) {
            let size = narrow.size_bytes() as usize;
            let all: Vec<u8> = (0..1_u32 << (8 * size))
                .flat_map(|bits| bits.to_le_bytes()[..size].to_vec())
                .collect();
            for wide in [DType::F32, DType::F64] {
                let mut up = vec![0; all.len() / size * wide.size_bytes() as usize];
                cast(narrow, &all, wide, &mut up).unwrap();
                let mut down = vec![0; all.len()];
                cast(wide, &up, narrow, &mut down).unwrap();
                for (before, after) in all.chunks(size).zip(down.chunks(size)) {
                    let same_class = is_nan(narrow, before) && is_nan(narrow, after);
                    assert!(before == after || same_class, "{narrow} {wide} {before:?} {after:?}");
                }
            }
        }
    }

    /// F32 values at every exponent, with mantissas at and around every tie, against the nearest of the
    /// narrow neighbours by exact integers.
    #[test]
    fn f32_rounds_like_integers_say() {
        for (narrow, exponent, mantissa) in [(DType::F16, 5, 10), (DType::BF16, 8, 7)] {
            let drop = 23 - mantissa;
            let mut cases = Vec::new();
            for field in 0..255_u32 {
                for top in [0, 1, 2, (1 << mantissa) - 2, (1 << mantissa) - 1, 0x55] {
                    for low in [0, 1, (1 << (drop - 1)) - 1, 1 << (drop - 1), (1 << (drop - 1)) + 1]
                        .into_iter()
                        .chain([(1 << drop) - 1])
                    {
                        cases.push(field << 23 | top << drop | low);
                    }
                }
                // Ties of subnormal results lie higher in the mantissa.
                for bit in 0..23 {
                    cases.push(field << 23 | 1 << bit);
                    cases.push((field << 23) | ((1 << bit) - 1));
                    cases.push(field << 23 | 0x7f_ffff & !(1 << bit));
                }
            }
            for bits in cases {
                for sign in [0, 1_u32 << 31] {
                    let got = one(DType::F32, &(bits | sign).to_le_bytes(), narrow);
                    let got = u32::from(u16::from_le_bytes([got[0], got[1]]));
                    assert_eq!(got >> 15, sign >> 31);
                    assert_eq!(
                        got & 0x7fff,
                        nearest(bits, exponent, mantissa),
                        "{narrow} {bits:#x}"
                    );
                }
            }
        }
    }

    /// A finite positive pattern as a significand and a power of two, by the definition of the type.
    fn split(bits: u32, exponent: u32, mantissa: u32) -> (u128, i32) {
        let bias = (1_i32 << (exponent - 1)) - 1;
        let fraction = u128::from(bits & ((1 << mantissa) - 1));
        match (bits >> mantissa) as i32 {
            0 => (fraction, 1 - bias - mantissa as i32),
            field => (fraction | 1 << mantissa, field - bias - mantissa as i32),
        }
    }

    /// Compares two such numbers by integers only.
    fn order(left: (u128, i32), right: (u128, i32)) -> Ordering {
        let low = left.1.min(right.1);
        let (left_shift, right_shift) = (left.1 - low, right.1 - low);
        match () {
            () if left.0 != 0 && left_shift > 90 => Ordering::Greater,
            () if right.0 != 0 && right_shift > 90 => Ordering::Less,
            () => (left.0 << left_shift.min(90)).cmp(&(right.0 << right_shift.min(90))),
        }
    }

    /// The narrow pattern nearest to a finite positive f32, by search: independent of the code under
    /// test.
    fn nearest(bits: u32, exponent: u32, mantissa: u32) -> u32 {
        let value = split(bits, 8, 23);
        // The largest pattern that is not above the value; infinity stands for what would come next.
        let (mut low, mut high) = (0, ((1_u32 << exponent) - 1) << mantissa);
        while high - low > 1 {
            let middle = low.midpoint(high);
            match order(split(middle, exponent, mantissa), value) {
                Ordering::Greater => high = middle,
                _ => low = middle,
            }
        }
        // Halfway between two neighbours lies an odd pattern of the type with one more bit.
        match order(value, split(low << 1 | 1, exponent, mantissa + 1)) {
            Ordering::Less => low,
            Ordering::Greater => low + 1,
            Ordering::Equal => low + (low & 1),
        }
    }

    /// The fast paths and the general one are two implementations of one function.
    #[test]
    fn fast_paths_agree_with_the_general_one() {
        let mut state = 7_u64;
        for _ in 0..200_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 32) as u32;
            for to in FLOATS {
                let mut value = [0.0];
                load_f64(DType::F32, &bits.to_le_bytes(), &mut value);
                let mut slow = vec![0; to.size_bytes() as usize];
                store_f64(to, &value, &mut slow);
                let fast = one(DType::F32, &bits.to_le_bytes(), to);
                if to != DType::F32 {
                    assert_eq!(fast, slow, "{to} {bits:#x}");
                }
            }
        }
    }

    #[test]
    fn nan_keeps_sign_and_top_payload() {
        let nan = 0xffa4_0001_u32.to_le_bytes();
        assert_eq!(one(DType::F32, &nan, DType::BF16), 0xffe4_u16.to_le_bytes());
        assert_eq!(one(DType::F32, &nan, DType::F16), 0xff20_u16.to_le_bytes());
        assert_eq!(one(DType::F32, &nan, DType::F32), nan);
        assert_eq!(one(DType::F32, &nan, DType::F64), 0xfffc_8000_2000_0000_u64.to_le_bytes());
        assert_eq!(one(DType::F32, &nan, DType::F8E4M3Fnuz), [0x80]);
        assert_eq!(one(DType::F32, &nan, DType::F8E4M3), [0xff]);
    }

    #[test]
    fn overflow_is_what_torch_makes_of_it() {
        let big = 1e6_f32.to_le_bytes();
        assert_eq!(one(DType::F32, &big, DType::F16), 0x7c00_u16.to_le_bytes());
        assert_eq!(one(DType::F32, &big, DType::F8E5M2), [0x7c]);
        assert_eq!(one(DType::F32, &big, DType::F8E4M3), [0x7f]);
        assert_eq!(one(DType::F32, &464_f32.to_le_bytes(), DType::F8E4M3), [0x7e]);
        assert_eq!(one(DType::F32, &464.1_f32.to_le_bytes(), DType::F8E4M3), [0x7f]);
        assert_eq!(one(DType::F32, &big, DType::F8E5M2Fnuz), [0x80]);
        assert_eq!(
            one(DType::F64, &1e300_f64.to_le_bytes(), DType::F32),
            f32::INFINITY.to_le_bytes()
        );
        assert_eq!(one(DType::F32, &(-1e-9_f32).to_le_bytes(), DType::F8E4M3Fnuz), [0]);
    }

    #[test]
    fn f64_rounds_once() {
        // Through F32 this would be a tie and round down.
        let value = 1.0 + 2_f64.powi(-8) + 2_f64.powi(-40);
        assert_eq!(one(DType::F64, &value.to_le_bytes(), DType::BF16), 0x3f81_u16.to_le_bytes());
    }

    #[test]
    fn integers_are_only_themselves() {
        assert!(cast(DType::I32, &[0; 4], DType::I64, &mut [0; 8]).is_err());
        assert_eq!(
            one(DType::I64, &[1, 2, 3, 4, 5, 6, 7, 8], DType::I64),
            [1, 2, 3, 4, 5, 6, 7, 8]
        );
    }

    #[test]
    fn masters_round_to_their_copies() {
        let master = [1.0_f32, f32::NAN, -0.3].map(f32::to_le_bytes).concat();
        let mut copy = vec![0; 6];
        cast(DType::F32, &master, DType::BF16, &mut copy).unwrap();
        assert_eq!(round_equal(DType::F32, &master, DType::BF16, &copy), Ok(true));
        copy[2] ^= 1; // another NaN
        assert_eq!(round_equal(DType::F32, &master, DType::BF16, &copy), Ok(true));
        copy[4] ^= 1;
        assert_eq!(round_equal(DType::F32, &master, DType::BF16, &copy), Ok(false));
    }
}
