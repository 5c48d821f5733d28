//! Whole tensors whose every element can be told from every other, and their cuts.

use super::run::{Piece, STATES};
use crate::oracle::{Known, Tensors};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A tensor before it is cut: a matrix, or a vector, which has one column and is never cut.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its name.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Columns; none for a vector.
    pub columns: Option<usize>,
    /// Where tensor parallelism cuts it.
    pub cut: Cut,
    /// Tells its values from those of the others.
    pub seed: u64,
}

/// Where tensor parallelism cuts a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Not at all: every rank holds it.
    Nowhere,
    /// Rank t has the t-th part of the rows.
    Rows,
    /// Rank t has the t-th part of the columns.
    Columns,
    /// Rank t has the t-th part of the upper half's rows, then that of the lower half's.
    Halves,
    /// As `Rows`, after rows of noise were added until `multiple * tp` divides their number.
    Padded {
        /// Megatron's `make_vocab_size_divisible_by`.
        multiple: usize,
    },
}

impl Whole {
    /// The element of a state at a row, which may be one of the noise below.
    pub fn at(&self, state: usize, row: usize, column: usize) -> f32 {
        let index = (row * self.columns.unwrap_or(1) + column) as u64;
        let mixed = mix(mix(self.seed * 3 + state as u64) ^ index);
        // 24 random bits, so that nearly all need more than bf16 has; never zero.
        let value = ((mixed >> 40) as f32 + 1.0) / (1 << 24) as f32;
        if state == 2 || mixed & 1 == 0 { value } else { -value }
    }

    /// A rank's piece, element by element.
    pub fn piece(&self, rank: usize, tp: usize) -> Piece {
        let columns = self.columns.unwrap_or(1);
        let part = |len: usize| -> Vec<usize> {
            assert_eq!(len % tp, 0, "{} does not divide", self.name);
            (rank * (len / tp)..(rank + 1) * (len / tp)).collect()
        };
        let (all_rows, all_columns) = ((0..self.rows).collect(), (0..columns).collect());
        let (rows, columns): (Vec<usize>, Vec<usize>) = match self.cut {
            Cut::Nowhere => (all_rows, all_columns),
            Cut::Rows => (part(self.rows), all_columns),
            Cut::Columns => (all_rows, part(columns)),
            Cut::Halves => {
                let upper = part(self.rows / 2);
                let lower = upper.iter().map(|row| row + self.rows / 2);
                (upper.iter().copied().chain(lower).collect(), all_columns)
            }
            Cut::Padded { multiple } => {
                (part(self.rows.next_multiple_of(multiple * tp)), all_columns)
            }
        };
        let values = [0, 1, 2].map(|state| {
            let mut values = Vec::with_capacity(rows.len() * columns.len());
            for row in &rows {
                for column in &columns {
                    values.push(self.at(state, *row, *column));
                }
            }
            values
        });
        let mut shape = vec![rows.len() as u64];
        shape.extend(self.columns.map(|_| columns.len() as u64));
        Piece { name: self.name.clone(), shape, weight: values[0].clone(), states: values }
    }
}

/// Matrices, then vectors: the two parameter groups of a rank.
pub fn groups(tensors: &[Whole], rank: usize, tp: usize) -> Vec<Vec<Piece>> {
    let pieces = |matrices: bool| {
        let wanted = tensors.iter().filter(|tensor| tensor.columns.is_some() == matrices);
        wanted.map(|tensor| tensor.piece(rank, tp)).collect()
    };
    vec![pieces(true), pieces(false)]
}

/// What a conversion must write: tensors by state, made of (name, shape, source, its rows in order).
pub fn expected(parts: &[(String, Vec<u64>, &Whole, Vec<usize>)]) -> BTreeMap<String, Tensors> {
    let mut states = BTreeMap::new();
    for (number, state) in STATES.iter().enumerate() {
        let mut tensors = Tensors::new();
        for (name, shape, whole, rows) in parts {
            let mut bytes = Vec::new();
            for row in rows {
                for column in 0..whole.columns.unwrap_or(1) {
                    bytes.extend(whole.at(number, *row, column).to_le_bytes());
                }
            }
            assert_eq!(shape.iter().product::<u64>() as usize * 4, bytes.len(), "{name}");
            let sha256 = crate::written::hex(&Sha256::digest(&bytes));
            let known = Known { dtype: "F32".to_owned(), shape: shape.clone(), sha256 };
            tensors.insert(name.clone(), known);
        }
        states.insert((*state).to_owned(), tensors);
    }
    states
}

/// The finaliser of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
