//! Products of two small matrices, added to windows of a weight.
//!
//! A matrix is read once for as long as some worker uses it. Elements are made in F32, each by the same
//! steps in the same order, so neither windows nor threads nor the order of loops can be seen in them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use ucl_plan::{Factor, Move, Product, Work};
use ucl_tensor::{DType, Walk, WalkError};

use crate::error::ExecError;
use crate::read::Part;

/// Elements of a row that are summed side by side.
const SIDE: usize = 256;

/// The matrices of a product, each `[rank, len]`.
#[derive(Debug)]
pub(crate) struct Loaded {
    rank: usize,
    scale: f32,
    rows: Matrix,
    columns: Matrix,
}

#[derive(Debug)]
struct Matrix {
    len: usize,
    values: Vec<f32>,
}

/// The matrices that workers use now.
#[derive(Debug, Default)]
pub(crate) struct Products {
    known: Mutex<Vec<(usize, Weak<Loaded>)>>,
}

/// Bytes of data beside the windows that a worker needs for the largest product of a plan: both matrices,
/// and one of them again while it is read.
pub(crate) fn beside(work: &dyn Work) -> u64 {
    let bytes = |product: &Product| {
        let len = |factor: &Factor| factor.len.saturating_mul(product.rank).saturating_mul(4);
        let (rows, columns) = (len(&product.rows), len(&product.columns));
        rows.saturating_add(columns).saturating_add(rows.max(columns))
    };
    work.products().iter().map(bytes).max().unwrap_or(0)
}

impl Products {
    /// The matrices of a product: those that a worker has, else read by `read`.
    pub(crate) fn get(
        &self,
        number: usize,
        product: &Product,
        mut read: impl FnMut(&Factor) -> Result<Vec<u8>, ExecError>,
    ) -> Result<Arc<Loaded>, ExecError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, loaded)| loaded.strong_count() > 0);
        let here = known.iter().find(|(at, _)| *at == number);
        if let Some(loaded) = here.and_then(|(_, loaded)| loaded.upgrade()) {
            return Ok(loaded);
        }
        let mut matrix = |factor: &Factor| -> Result<Matrix, ExecError> {
            let bytes = read(factor)?;
            let values = bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
            Ok(Matrix { len: factor.len as usize, values: values.collect() })
        };
        let loaded = Arc::new(Loaded {
            rank: product.rank as usize,
            scale: product.scale,
            rows: matrix(&product.rows)?,
            columns: matrix(&product.columns)?,
        });
        known.push((number, Arc::downgrade(&loaded)));
        Ok(loaded)
    }
}

impl Loaded {
    /// Adds the elements of a move to a window of F32.
    ///
    /// The sum over the rank starts at 0 and takes its terms in order; it is multiplied by the scale, and
    /// by what the target's view multiplies values by, and added. Every step is rounded to F32.
    pub(crate) fn add(&self, step: &Move, window: &mut [f32]) -> Result<(), WalkError> {
        let part = Part::of(step);
        let elements = self.rows.len.saturating_mul(self.columns.len);
        // The checks of a walk; the loops below are nested as they come.
        Walk::new(part.steps.iter().copied(), (part.from, elements), (part.to, window.len()), 1)?;
        #[expect(clippy::cast_possible_truncation, reason = "a view's scale is a small number")]
        let by = step.scale.recip() as f32;
        self.level(&part.steps, (part.from, part.to), by, window);
        Ok(())
    }

    fn level(
        &self,
        steps: &[ucl_tensor::Step],
        (from, to): (i64, i64),
        by: f32,
        window: &mut [f32],
    ) {
        let Some((step, inner)) = steps.split_first() else {
            return self.run((from, 1), (to, 1), 1, by, window);
        };
        if inner.is_empty() {
            return self.run((from, step.from), (to, step.to), step.count, by, window);
        }
        for round in 0..step.count as i64 {
            self.level(inner, (from + round * step.from, to + round * step.to), by, window);
        }
    }

    /// Elements in a line through the product: cut where the line leaves a row or, where it goes down, as
    /// many as are summed at a time.
    fn run(
        &self,
        (from, by_element): (i64, i64),
        (to, apart): (i64, i64),
        count: u64,
        by: f32,
        window: &mut [f32],
    ) {
        let width = self.columns.len as i64;
        let mut done = 0;
        while done < count as i64 {
            let at = from + done * by_element;
            let (row, column) = ((at / width) as usize, (at % width) as usize);
            let left = (count as i64 - done) as usize;
            let mut sums = [0_f32; SIDE];
            let taken = if by_element == 1 {
                let taken = left.min(SIDE).min(self.columns.len - column);
                self.sum((&self.rows, row), (&self.columns, column, 1), &mut sums[..taken]);
                taken
            } else if by_element > 0 && by_element % width == 0 {
                let taken = left.min(SIDE);
                let stride = (by_element / width) as usize;
                self.sum((&self.columns, column), (&self.rows, row, stride), &mut sums[..taken]);
                taken
            } else {
                self.sum((&self.rows, row), (&self.columns, column, 1), &mut sums[..1]);
                1
            };
            for (number, sum) in sums[..taken].iter().enumerate() {
                let place = to + (done + number as i64) * apart;
                window[place as usize] += self.scale * sum * by;
            }
            done += taken as i64;
        }
    }

    /// Sums over the rank: one element of the first matrix with several of the second.
    fn sum(
        &self,
        (one, index): (&Matrix, usize),
        (many, first, stride): (&Matrix, usize, usize),
        sums: &mut [f32],
    ) {
        for rank in 0..self.rank {
            let factor = one.values[rank * one.len + index];
            let row = &many.values[rank * many.len..][..many.len];
            let values = row[first..].iter().step_by(stride);
            if stride == 1 {
                for (sum, value) in sums.iter_mut().zip(&row[first..]) {
                    *sum += factor * value;
                }
            } else {
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += factor * value;
                }
            }
        }
    }
}

/// A window of F32 as bytes, and back.
pub(crate) fn floats(bytes: &[u8], values: &mut Vec<f32>) {
    values.clear();
    values.extend(bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)));
}

/// The bytes of F32.
pub(crate) fn bytes_of(values: &[f32], bytes: &mut [u8]) {
    for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *place = value.to_le_bytes();
    }
}

/// What products are added to, and made of.
pub(crate) const TYPE: DType = DType::F32;

#[cfg(test)]
mod tests {
    use super::*;
    use ucl_plan::{Loop, MoveRole};

    /// Rank 3, 5 rows, 7 columns.
    fn loaded() -> Loaded {
        let values = |count: usize, by: f32| (0..count).map(|x| (x as f32).sin() * by).collect();
        Loaded {
            rank: 3,
            scale: 0.3,
            rows: Matrix { len: 5, values: values(15, 1.0) },
            columns: Matrix { len: 7, values: values(21, 1.7) },
        }
    }

    fn step(from: u64, loops: &[(u64, i64, i64)], scale: f64) -> Move {
        let loops =
            loops.iter().map(|(count, from, to)| Loop { count: *count, from: *from, to: *to });
        Move {
            role: MoveRole::Product(0),
            source: 0,
            dtype: DType::F32,
            from,
            to: 0,
            loops: loops.collect(),
            scale,
            shift: 0.0,
        }
    }

    fn element(product: &Loaded, at: usize) -> f32 {
        let (row, column) = (at / 7, at % 7);
        let mut sum = 0_f32;
        for rank in 0..3 {
            sum += product.rows.values[rank * 5 + row] * product.columns.values[rank * 7 + column];
        }
        product.scale * sum
    }

    #[test]
    fn every_order_of_the_loops_gives_the_same_elements() {
        let product = loaded();
        let expected: Vec<f32> = (0..35).map(|at| 2.0 + element(&product, at)).collect();
        let mut whole = vec![2.0; 35];
        product.add(&step(0, &[(35, 1, 1)], 1.0), &mut whole).unwrap();
        assert_eq!(whole, expected);
        let mut turned = vec![2.0; 35];
        product.add(&step(0, &[(7, 1, 5), (5, 7, 1)], 1.0), &mut turned).unwrap();
        let back: Vec<f32> = (0..35).map(|at| turned[at % 7 * 5 + at / 7]).collect();
        assert_eq!(back, expected);
        let mut strewn = vec![0.0; 4];
        product.add(&step(3, &[(4, 9, 1)], 1.0), &mut strewn).unwrap();
        assert_eq!(strewn, [3, 12, 21, 30].map(|at| element(&product, at)));
    }

    #[test]
    fn a_view_that_scales_its_values_scales_the_product() {
        let product = loaded();
        let mut twice = vec![0.0; 1];
        product.add(&step(11, &[], 0.5), &mut twice).unwrap();
        assert_eq!(twice, [2.0 * element(&product, 11)]);
    }

    #[test]
    fn moves_that_leave_the_product_are_refused() {
        let product = loaded();
        assert!(product.add(&step(1, &[(35, 1, 1)], 1.0), &mut [0.0; 35]).is_err());
        assert!(product.add(&step(0, &[(35, 1, 1)], 1.0), &mut [0.0; 34]).is_err());
    }
}
