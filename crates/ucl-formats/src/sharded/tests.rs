//! Parts that fit together, and parts that do not.

use super::{Held, gather};
use crate::inventory::{Data, row_major};
use crate::torch::TensorExtent;
use ucl_tensor::DType;

fn held(shape: &[u64], at: &[u64], part: &[u64]) -> Held {
    let extent = TensorExtent {
        dtype: DType::F32,
        shape: part.to_vec(),
        strides: row_major(part),
        numel: part.iter().product(),
        file_offset: 0,
        storage_key: String::new(),
        storage_offset: 0,
        storage_file_range: 0..0,
    };
    let boxes = vec![(at.to_vec(), extent)];
    Held {
        shape: shape.to_vec(),
        dtype: Some(DType::F32),
        boxes,
        rank: None,
        world: None,
        sharded: true,
    }
}

fn tried(parts: &[Held]) -> Result<usize, String> {
    let parts: Vec<_> =
        parts.iter().enumerate().map(|(file, held)| (file as u32, held.clone())).collect();
    gather(&parts).map(|place| place.copies.len())
}

#[test]
fn rows_columns_and_empty_ranks() {
    let rows = [held(&[5, 2], &[0, 0], &[3, 2]), held(&[5, 2], &[3, 0], &[2, 2])];
    assert_eq!(tried(&rows), Ok(1));
    let empty = held(&[5, 2], &[5, 0], &[0, 2]);
    assert_eq!(tried(&[rows[0].clone(), rows[1].clone(), empty]), Ok(1));
    let quarters: Vec<_> = [[0, 0], [0, 1], [3, 0], [3, 1]]
        .iter()
        .map(|at| held(&[5, 2], at, &[if at[0] == 0 { 3 } else { 2 }, 1]))
        .collect();
    assert_eq!(tried(&quarters), Ok(1));
    assert_eq!(tried(&[&rows[..], &rows[..]].concat()), Ok(2), "two copies");
    assert_eq!(tried(&[held(&[], &[], &[])]), Ok(1));
}

#[test]
fn what_does_not_fit() {
    let rows = [held(&[5], &[0], &[3]), held(&[5], &[3], &[2])];
    let said = |parts: &[Held]| tried(parts).unwrap_err();
    assert!(said(&rows[..1]).contains("2 of its 5 elements are in no rank's file"));
    let thrice = [rows[0].clone(), rows[1].clone(), rows[0].clone()];
    assert!(said(&thrice).contains("2 ranks hold each part of it, but 1 the part"));
    assert!(said(&[rows[0].clone(), held(&[5], &[2], &[3])]).contains("overlap"));
    assert!(said(&[held(&[5], &[u64::MAX], &[3])]).contains("leaves its shape"));
    assert!(said(&[rows[0].clone(), held(&[6], &[3], &[3])]).contains("disagree on its shape"));
    assert!(said(&[]).contains("no rank"));
}

#[test]
fn a_part_that_is_the_whole_is_no_box() {
    let place = gather(&[(0, held(&[5], &[0], &[5]))]).unwrap();
    assert!(matches!(place.copies[0], Data::Strided { .. }));
}
