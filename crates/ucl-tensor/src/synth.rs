//! Values made from addresses: any slice of a checkpoint of any size can be made, and checked, without
//! the rest of it.

use crate::DType;
use crate::cast::{CHUNK, CastError, cast, castable};

/// Set in seeds whose values must not be negative.
const NOT_NEGATIVE: u64 = 1 << 63;

/// The seed of one state of a parameter.
///
/// States that hold second moments (`exp_avg_sq` and the like) get values that are not negative.
pub fn synth_seed(param: &str, state: &str) -> u64 {
    // FNV-1a, with a byte between that no name has.
    let text = param.bytes().chain([0xff]).chain(state.bytes());
    let hash = text.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = mix(hash) & !NOT_NEGATIVE;
    if state.ends_with("_sq") { hash | NOT_NEGATIVE } else { hash }
}

/// The number at an address: below 1/16 in size, with a full F32 mantissa.
pub fn synth_f32(seed: u64, address: u64) -> f32 {
    // 24 bits are exact in F32, and so is their product with a power of two.
    let bits = (hash(seed, address) >> 40) as i32;
    let scale = 2_f32.powi(-28);
    if seed & NOT_NEGATIVE == 0 {
        (2 * bits - 0xff_ffff) as f32 * scale / 2.0
    } else {
        bits as f32 * scale
    }
}

/// Fills `target` with the values of consecutive multiples of `stride` from `address` on.
///
/// Float types round the same F32 values; integers are the low bits of a hash, without the sign.
///
/// # Errors
///
/// Never for the types of [`DType`]: complex ones get the same value in each half.
pub fn synth(
    seed: u64,
    address: u64,
    stride: i64,
    dtype: DType,
    target: &mut [u8],
) -> Result<(), CastError> {
    castable(dtype, dtype)?;
    let size = dtype.size_bytes() as usize;
    let at = |index: usize| address.wrapping_add_signed((index as i64).wrapping_mul(stride));
    if dtype.is_float() {
        let mut values = [0_u8; 4 * CHUNK];
        for (chunk, out) in target.chunks_mut(CHUNK * size).enumerate() {
            let count = out.len() / size;
            for (index, value) in values.as_chunks_mut::<4>().0[..count].iter_mut().enumerate() {
                *value = synth_f32(seed, at(chunk * CHUNK + index)).to_le_bytes();
            }
            cast(DType::F32, &values[..4 * count], dtype, out)?;
        }
        return Ok(());
    }
    for (index, out) in target.chunks_exact_mut(size).enumerate() {
        let address = at(index);
        match dtype {
            DType::C64 => out.as_chunks_mut::<4>().0.fill(synth_f32(seed, address).to_le_bytes()),
            DType::C128 => {
                let value = f64::from(synth_f32(seed, address)).to_le_bytes();
                out.as_chunks_mut::<8>().0.fill(value);
            }
            DType::Bool => out[0] = (hash(seed, address) & 1) as u8,
            // Near one, so that products of scales stay finite.
            DType::F8E8M0 => out[0] = 120 + (hash(seed, address) & 7) as u8,
            _ => {
                out.copy_from_slice(&hash(seed, address).to_le_bytes()[..size]);
                out[size - 1] &= 0x7f;
            }
        }
    }
    Ok(())
}

fn hash(seed: u64, address: u64) -> u64 {
    mix(seed.wrapping_add(address.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finaliser of splitmix64.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_agree_with_the_whole() {
        for dtype in [DType::F32, DType::BF16, DType::I64, DType::Bool, DType::C64, DType::F8E5M2] {
            let size = dtype.size_bytes() as usize;
            let seed = synth_seed("l.0.attn.q", "fp32");
            let mut whole = vec![0; 1000 * size];
            synth(seed, 5, 1, dtype, &mut whole).unwrap();
            let mut part = vec![0; 100 * size];
            synth(seed, 5 + 300, 7, dtype, &mut part).unwrap();
            for index in 0..100 {
                let from = (300 + 7 * index) * size;
                assert_eq!(part[index * size..][..size], whole[from..][..size]);
            }
        }
    }

    #[test]
    fn values_are_small_distinct_and_signed_as_asked() {
        let seed = synth_seed("a", "fp32");
        let squares = synth_seed("a", "exp_avg_sq");
        let values: Vec<f32> = (0..1000).map(|address| synth_f32(seed, address)).collect();
        assert!(values.iter().all(|value| value.abs() <= 1.0 / 16.0));
        assert!(values.iter().any(|value| *value < 0.0) && values.iter().any(|value| *value > 0.0));
        assert!((0..1000).all(|address| synth_f32(squares, address) >= 0.0));
        assert_ne!(synth_seed("ab", "c"), synth_seed("a", "bc"));
    }

    #[test]
    fn values_are_pinned() {
        // Checkpoints that were synthesised once must be recognised later.
        assert_eq!(synth_seed("embed", "fp32"), 7_797_881_340_342_463_756);
        assert_eq!(synth_f32(1, 2).to_bits(), 1_014_738_486);
    }
}
