//! Two sums that prove a plan: every element exactly once, every address exactly once.
//!
//! Both are order-free and cost one term per box. They fail to see a fault with a chance of about
//! one in 2^58, whatever the fault is.

/// Arithmetic is modulo this Mersenne prime.
const PRIME: u64 = (1 << 61) - 1;

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "the low 61 bits are meant")]
    let (low, high) = ((product & u128::from(PRIME)) as u64, (product >> 61) as u64);
    add(low, high)
}

fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= PRIME { sum - PRIME } else { sum }
}

fn subtract(a: u64, b: u64) -> u64 {
    add(a, PRIME - b)
}

fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, base);
        }
        base = multiply(base, base);
        exponent >>= 1;
    }
    result
}

/// A number that looks random, the same in every run: the proof never changes what is written.
fn mix(key: u64) -> u64 {
    let mut x = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ (x >> 31)) % PRIME
}

fn boundary(dim: usize, x: u64) -> u64 {
    mix(mix(dim as u64 + 1) ^ x)
}

/// The weight of a box: a product over its dims of a random weight of its interval, so that weights of
/// disjoint boxes add up to the weight of their union, and of nothing else.
pub(crate) fn weight(bounds: &[(u64, u64)]) -> u64 {
    bounds.iter().enumerate().fold(1, |product, (dim, (lo, hi))| {
        multiply(product, subtract(boundary(dim, *hi), boundary(dim, *lo)))
    })
}

/// The sum of weights.
pub(crate) fn total(weights: impl Iterator<Item = u64>) -> u64 {
    weights.fold(0, add)
}

/// A weight that is counted several times.
pub(crate) fn times(count: u64, weight: u64) -> u64 {
    multiply(count % PRIME, weight)
}

/// The claims on the addresses of one buffer: Σ r^address over all that was claimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses(u64);

impl Addresses {
    /// Claims the addresses `base + Σ stride · i` for all `i` below the counts: a geometric series
    /// per dim.
    pub fn claim(&mut self, base: u64, dims: impl Iterator<Item = (u64, u64)>) {
        let root = mix(0x5eed);
        let sum = dims
            .filter(|(count, _)| *count > 1)
            .fold(power(root, base), |product, (count, stride)| {
                multiply(product, series(power(root, stride), count))
            });
        self.0 = add(self.0, sum);
    }

    /// Whether exactly the addresses `0..len` were claimed, each once.
    pub fn cover(self, len: u64) -> bool {
        self.0 == series(mix(0x5eed), len)
    }
}

/// 1 + q + … + q^(n−1).
fn series(q: u64, n: u64) -> u64 {
    match q {
        1 => n % PRIME,
        q => multiply(subtract(power(q, n), 1), power(subtract(q, 1), PRIME - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_a_partition_add_up() {
        let whole = weight(&[(0, 7), (2, 9)]);
        let parts = [[(0, 3), (2, 9)], [(3, 7), (2, 5)], [(3, 7), (5, 9)]];
        assert_eq!(total(parts.iter().map(|part| weight(part))), whole);
        let overlap = [[(0, 3), (2, 9)], [(3, 7), (2, 6)], [(3, 7), (5, 9)]];
        assert_ne!(total(overlap.iter().map(|part| weight(part))), whole);
        let shifted_pair = [[(0, 3), (2, 9)], [(2, 7), (2, 9)]];
        assert_ne!(total(shifted_pair.iter().map(|part| weight(part))), whole);
    }

    #[test]
    fn addresses_see_offsets_and_strides() {
        let claims = |second: u64, stride: u64| {
            let mut sum = Addresses::default();
            sum.claim(0, [(3, 4), (2, 1)].into_iter());
            sum.claim(second, [(3, stride), (2, 1)].into_iter());
            sum
        };
        assert!(claims(2, 4).cover(12));
        assert!(!claims(1, 4).cover(12));
        assert!(!claims(2, 3).cover(12));
        assert!(!claims(2, 4).cover(13));
    }
}
