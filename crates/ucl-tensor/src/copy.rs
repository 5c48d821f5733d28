//! The inner loops: what happens to each row of a [`Walk`].

use crate::DType;
use crate::cast::{CHUNK, CastError, cast, castable, is_nan, load_f64, store_f64};
use crate::synth::synth;
use crate::walk::{Step, Walk};

/// stored = universal × scale + shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// The factor.
    pub scale: f64,
    /// What is added.
    pub shift: f64,
}

impl Affine {
    /// Stored values are the universal ones.
    pub const IDENTITY: Affine = Affine { scale: 1.0, shift: 0.0 };

    /// Whether it is [`Affine::IDENTITY`], under which bytes are not touched.
    pub fn is_identity(self) -> bool {
        self == Affine::IDENTITY
    }
}

/// Copies elements, whatever they mean.
pub fn copy(walk: &Walk, source: &[u8], target: &mut [u8]) {
    let walk = walk.clone().by_bytes();
    match walk.unit {
        1 => copy_units::<1>(walk, source, target),
        2 => copy_units::<2>(walk, source, target),
        4 => copy_units::<4>(walk, source, target),
        8 => copy_units::<8>(walk, source, target),
        16 => copy_units::<16>(walk, source, target),
        32 => copy_units::<32>(walk, source, target),
        _ => copy_units::<64>(walk, source, target),
    }
}

fn copy_units<const N: usize>(walk: Walk, source: &[u8], target: &mut [u8]) {
    walk.rows(|row, from, to| {
        let count = row.count as usize;
        if count == 0 {
            return;
        }
        let (from_dense, to_dense) = (row.from == N as i64, row.to == N as i64);
        if (from_dense && to_dense) || count == 1 {
            let (from, to, len) = (from as usize, to as usize, count * N);
            target[to..to + len].copy_from_slice(&source[from..from + len]);
        } else if to_dense {
            let out = &mut target[to as usize..to as usize + count * N];
            gather::<N>(source, from, row.from, out);
        } else {
            scatter::<N>(source, from, row.from, target, to, row.to, count);
        }
    });
}

fn gather<const N: usize>(source: &[u8], mut from: isize, stride: i64, out: &mut [u8]) {
    for out in out.as_chunks_mut::<N>().0 {
        let start = from as usize;
        out.copy_from_slice(&source[start..start + N]);
        from += stride as isize;
    }
}

fn scatter<const N: usize>(
    source: &[u8],
    mut from: isize,
    from_stride: i64,
    target: &mut [u8],
    mut to: isize,
    to_stride: i64,
    count: usize,
) {
    for _ in 0..count {
        let (start, out) = (from as usize, to as usize);
        target[out..out + N].copy_from_slice(&source[start..start + N]);
        from += from_stride as isize;
        to += to_stride as isize;
    }
}

/// Copies elements of `from` as elements of `to`, undoing what the source did to the values.
///
/// The arithmetic is in F64 and the result is rounded once.
///
/// # Errors
///
/// When the types differ, or values change, and a type is not a float type.
pub fn convert(
    walk: &Walk,
    affine: Affine,
    (from_type, source): (DType, &[u8]),
    (to_type, target): (DType, &mut [u8]),
) -> Result<(), CastError> {
    let caster = Caster::new(from_type, affine, to_type)?;
    if from_type == to_type && affine.is_identity() {
        copy(walk, source, target);
        return Ok(());
    }
    let size = to_type.size_bytes() as usize;
    let mut cast = [0; CHUNK * 16];
    chunks(walk, source, |values, count, to, stride| {
        if stride == 1 {
            let start = to as usize * size;
            caster.apply(values, &mut target[start..start + count * size]);
        } else {
            let cast = &mut cast[..count * size];
            caster.apply(values, cast);
            spread(size, cast, target, to, stride, count);
        }
    });
    Ok(())
}

/// Fills elements with made values: the walk's source offsets are addresses.
///
/// # Errors
///
/// See [`convert`].
pub fn convert_synth(
    walk: &Walk,
    affine: Affine,
    seed: u64,
    from_type: DType,
    (to_type, target): (DType, &mut [u8]),
) -> Result<(), CastError> {
    let caster = Caster::new(from_type, affine, to_type)?;
    let (from_size, size) = (from_type.size_bytes() as usize, to_type.size_bytes() as usize);
    let (mut made, mut cast) = ([0; CHUNK * 16], [0; CHUNK * 16]);
    let mut result = Ok(());
    walk.clone().rows(|row, from, to| {
        for start in (0..row.count).step_by(CHUNK) {
            let count = CHUNK.min((row.count - start) as usize);
            let address = from as i64 + start as i64 * row.from;
            let made = &mut made[..count * from_size];
            result = result.and(synth(seed, address as u64, row.from, from_type, made));
            let to = to + start as isize * row.to as isize;
            let cast = &mut cast[..count * size];
            caster.apply(made, cast);
            spread(size, cast, target, to, row.to as isize, count);
        }
    });
    result
}

/// A cast with the inverse of an affine map in front.
struct Caster {
    from: DType,
    to: DType,
    affine: Affine,
}

impl Caster {
    fn new(from: DType, affine: Affine, to: DType) -> Result<Caster, CastError> {
        castable(from, to)?;
        if !affine.is_identity() && !from.is_float() {
            return Err(CastError { from, to });
        }
        Ok(Caster { from, to, affine })
    }

    /// Casts stored values to universal ones.
    fn apply(&self, source: &[u8], target: &mut [u8]) {
        if self.affine.is_identity() {
            // `new` has checked the types.
            let _ = cast(self.from, source, self.to, target);
            return;
        }
        self.map(source, target, |value| (value - self.affine.shift) / self.affine.scale);
    }

    /// Casts universal values (of type `to`) back to stored ones (of type `from`).
    fn undo(&self, source: &[u8], target: &mut [u8]) {
        if self.affine.is_identity() {
            let _ = cast(self.to, source, self.from, target);
            return;
        }
        let back = Caster { from: self.to, to: self.from, affine: self.affine };
        back.map(source, target, |value| value * self.affine.scale + self.affine.shift);
    }

    fn map(&self, source: &[u8], target: &mut [u8], function: impl Fn(f64) -> f64) {
        let (from_size, size) = (self.from.size_bytes() as usize, self.to.size_bytes() as usize);
        let mut values = [0.0; CHUNK];
        for (source, target) in
            source.chunks(CHUNK * from_size).zip(target.chunks_mut(CHUNK * size))
        {
            let values = &mut values[..source.len() / from_size];
            load_f64(self.from, source, values);
            values.iter_mut().for_each(|value| *value = function(*value));
            store_f64(self.to, values, target);
        }
    }
}

/// Calls `body` with the bytes of up to [`CHUNK`] elements of the source, their number, and where their
/// place in the target starts and steps.
fn chunks(walk: &Walk, source: &[u8], mut body: impl FnMut(&[u8], usize, isize, isize)) {
    let size = walk.unit;
    let mut gathered = [0; CHUNK * 16];
    walk.clone().rows(|row: Step, from, to| {
        for start in (0..row.count).step_by(CHUNK) {
            let count = CHUNK.min((row.count - start) as usize);
            let from = from + start as isize * row.from as isize;
            let to = to + start as isize * row.to as isize;
            if row.from == size as i64 {
                let from = from as usize;
                body(&source[from..from + count * size], count, to, row.to as isize);
                continue;
            }
            let out = &mut gathered[..count * size];
            pick(size, source, from, row.from, out);
            body(out, count, to, row.to as isize);
        }
    });
}

/// Gathers elements of a size that is known late. The stride is in bytes.
fn pick(size: usize, source: &[u8], from: isize, stride: i64, out: &mut [u8]) {
    match size {
        1 => gather::<1>(source, from, stride, out),
        2 => gather::<2>(source, from, stride, out),
        4 => gather::<4>(source, from, stride, out),
        8 => gather::<8>(source, from, stride, out),
        _ => gather::<16>(source, from, stride, out),
    }
}

/// Scatters dense elements. `to` and the stride are in elements.
fn spread(size: usize, dense: &[u8], target: &mut [u8], to: isize, stride: isize, count: usize) {
    let bytes = size as isize;
    let (to, stride) = (to * bytes, (stride * bytes) as i64);
    match size {
        _ if stride == size as i64 => {
            target[to as usize..to as usize + dense.len()].copy_from_slice(dense);
        }
        1 => scatter::<1>(dense, 0, 1, target, to, stride, count),
        2 => scatter::<2>(dense, 0, 2, target, to, stride, count),
        4 => scatter::<4>(dense, 0, 4, target, to, stride, count),
        8 => scatter::<8>(dense, 0, 8, target, to, stride, count),
        _ => scatter::<16>(dense, 0, 16, target, to, stride, count),
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Differences {
    /// Elements compared.
    pub compared: u64,
    /// Elements that differ.
    pub mismatched: u64,
    /// The largest difference of two numbers; infinite where one is NaN and the other is not.
    pub max_abs_diff: f64,
    /// The lowest element of the window that differs.
    pub first: Option<u64>,
}

impl Differences {
    /// Adds what was found in another part of the same window.
    pub fn merge(&mut self, other: &Differences) {
        self.compared += other.compared;
        self.mismatched += other.mismatched;
        self.max_abs_diff = self.max_abs_diff.max(other.max_abs_diff);
        self.first = match (self.first, other.first) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        };
    }

    /// Adds one pair of elements that differ.
    pub fn add(&mut self, element: u64, left: f64, right: f64) {
        let diff = (left - right).abs();
        self.mismatched += 1;
        self.max_abs_diff = self.max_abs_diff.max(if diff.is_nan() { f64::INFINITY } else { diff });
        self.first = Some(self.first.map_or(element, |first| first.min(element)));
    }
}

/// Which of two sides is rounded before they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The source's values, cast to the window's type, must be the window's, bit for bit.
    Window,
    /// The window's values, rounded to the source's type, must be the source's; all NaN are one.
    Source,
}

/// Compares elements of a source with those of a window, without changing either.
///
/// # Errors
///
/// See [`convert`].
pub fn compare(
    walk: &Walk,
    affine: Affine,
    against: Against,
    (from_type, source): (DType, &[u8]),
    (to_type, window): (DType, &[u8]),
) -> Result<Differences, CastError> {
    let caster = Caster::new(from_type, affine, to_type)?;
    let size = to_type.size_bytes() as usize;
    let mut found = Differences::default();
    let (mut gathered, mut cast) = ([0; CHUNK * 16], [0; CHUNK * 16]);
    chunks(walk, source, |values, count, to, stride| {
        found.compared += count as u64;
        let place = if stride == 1 {
            &window[to as usize * size..][..count * size]
        } else {
            let bytes = size as isize;
            pick(size, window, to * bytes, (stride * bytes) as i64, &mut gathered[..count * size]);
            &gathered[..count * size]
        };
        let same_type = from_type == to_type && affine.is_identity();
        let (dtype, left, right): (_, &[u8], &[u8]) = match against {
            _ if same_type => (to_type, values, place),
            Against::Window => {
                caster.apply(values, &mut cast[..count * size]);
                (to_type, &cast[..count * size], place)
            }
            Against::Source => {
                caster.undo(place, &mut cast[..values.len()]);
                (from_type, values, &cast[..values.len()])
            }
        };
        if left != right {
            let lenient = against == Against::Source;
            differ(dtype, left, right, lenient, |index, left, right| {
                found.add((to + index as isize * stride) as u64, left, right);
            });
        }
    });
    Ok(found)
}

fn differ(
    dtype: DType,
    left: &[u8],
    right: &[u8],
    nan_is_nan: bool,
    mut found: impl FnMut(usize, f64, f64),
) {
    let size = dtype.size_bytes() as usize;
    let pairs = left.chunks_exact(size).zip(right.chunks_exact(size));
    for (index, (left, right)) in pairs.enumerate() {
        if left == right || (nan_is_nan && is_nan(dtype, left) && is_nan(dtype, right)) {
            continue;
        }
        let mut values = [0.0; 2];
        load_f64(dtype, left, &mut values[..1]);
        load_f64(dtype, right, &mut values[1..]);
        found(index, values[0], values[1]);
    }
}

/// Compares two dense windows as numbers: types may differ, -0 is 0, all NaN are one.
///
/// Exact for the types that F64 holds; other types (64-bit integers, complex) differ where their bytes do,
/// and must be of one type.
///
/// # Errors
///
/// When the types differ and one is not a float type.
pub fn compare_values(
    (left_type, left): (DType, &[u8]),
    (right_type, right): (DType, &[u8]),
) -> Result<Differences, CastError> {
    castable(left_type, right_type)?;
    let (left_size, right_size) =
        (left_type.size_bytes() as usize, right_type.size_bytes() as usize);
    let mut found = Differences::default();
    let (mut a, mut b) = ([0.0; CHUNK], [0.0; CHUNK]);
    let pairs = left.chunks(CHUNK * left_size).zip(right.chunks(CHUNK * right_size));
    for (chunk, (left, right)) in pairs.enumerate() {
        let count = (left.len() / left_size).min(right.len() / right_size);
        found.compared += count as u64;
        if left_type == right_type && left == right {
            continue;
        }
        let start = (chunk * CHUNK) as u64;
        if !left_type.is_float() {
            differ(left_type, left, right, false, |index, left, right| {
                found.add(start + index as u64, left, right);
            });
            continue;
        }
        load_f64(left_type, left, &mut a[..count]);
        load_f64(right_type, right, &mut b[..count]);
        for (index, (left, right)) in a[..count].iter().zip(&b[..count]).enumerate() {
            if left != right && !(left.is_nan() && right.is_nan()) {
                found.add(start + index as u64, *left, *right);
            }
        }
    }
    Ok(found)
}

/// An element that several sources add up to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// The sum so far.
    pub sum: f64,
    /// The lowest value added.
    pub low: f64,
    /// The highest value added.
    pub high: f64,
    /// What the sum is divided by in the end; 0 while nothing was added.
    pub divisor: u32,
    /// A number of the caller's: whom the spread is reported to.
    pub tag: u32,
}

impl Total {
    /// Nothing was added yet.
    pub const EMPTY: Total =
        Total { sum: 0.0, low: f64::INFINITY, high: f64::NEG_INFINITY, divisor: 0, tag: 0 };

    /// The mean, or the sum where the divisor is one.
    pub fn value(&self) -> f64 {
        self.sum / f64::from(self.divisor.max(1))
    }
}

/// Adds the universal values of a source to totals.
///
/// # Errors
///
/// When the type is not a float type.
pub fn accumulate(
    walk: &Walk,
    affine: Affine,
    (from_type, source): (DType, &[u8]),
    totals: &mut [Total],
    (divisor, tag): (u32, u32),
) -> Result<(), CastError> {
    if !from_type.is_float() {
        return Err(CastError { from: from_type, to: DType::F64 });
    }
    let caster = Caster::new(from_type, affine, DType::F64)?;
    let mut wide = [0; CHUNK * 8];
    chunks(walk, source, |values, count, to, stride| {
        let wide = &mut wide[..count * 8];
        caster.apply(values, wide);
        for (index, bytes) in wide.as_chunks::<8>().0.iter().enumerate() {
            let value = f64::from_le_bytes(*bytes);
            let total = &mut totals[(to + index as isize * stride) as usize];
            total.sum += value;
            total.low = total.low.min(value);
            total.high = total.high.max(value);
            (total.divisor, total.tag) = (divisor, tag);
        }
    });
    Ok(())
}

/// Writes the totals that something was added to into a dense window of a float type.
pub fn settle(totals: &[Total], dtype: DType, window: &mut [u8]) {
    let size = dtype.size_bytes() as usize;
    for (total, bytes) in totals.iter().zip(window.chunks_exact_mut(size)) {
        if total.divisor > 0 {
            store_f64(dtype, &[total.value()], bytes);
        }
    }
}
