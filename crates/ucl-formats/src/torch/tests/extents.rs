//! Views of storages: which are inside, and which only claim to be.

use ucl_tensor::DType;

use super::super::error::{TensorProblem, TorchErrorKind};
use super::super::{Pickle, TensorExtent, emit};
use super::{file, open};

/// A tensor over a storage of 12 F32 that the file holds in `stored` bytes.
fn view(
    offset: u64,
    size: &[u64],
    stride: &[i64],
    stored: usize,
) -> Result<TensorExtent, TensorProblem> {
    let mut pickle = Pickle::new();
    let tensor = pickle.tensor("0", 12, DType::F32, offset, size, stride).unwrap();
    pickle.set_root(tensor);
    let data = vec![0; stored];
    let file = open(&file("x", emit(&pickle).unwrap(), &[("0", &data)])).unwrap();
    let extent = file.extent(file.value.root().as_tensor().unwrap());
    extent.map_err(|error| match *error.kind {
        TorchErrorKind::Tensor { problem, .. } => problem,
        other => panic!("{other:?}"),
    })
}

#[test]
fn views_inside_are_located() {
    let whole = view(0, &[3, 4], &[4, 1], 48).unwrap();
    assert!(whole.is_contiguous());
    assert_eq!(whole.byte_len(), 48);
    assert_eq!(whole.file_offset, whole.storage_file_range.start);
    let part = view(5, &[2, 3], &[1, 2], 48).unwrap();
    assert!(!part.is_contiguous());
    assert_eq!(part.file_offset, part.storage_file_range.start + 20);
    assert_eq!((part.storage_offset, part.numel), (5, 6));
    assert_eq!(view(11, &[], &[], 48).unwrap().numel, 1);
    assert_eq!(view(11, &[1000], &[0], 48).unwrap().numel, 1000);
    assert_eq!(view(99, &[0, 5], &[5, 1], 48).unwrap().numel, 0);
}

#[test]
fn views_outside_are_refused() {
    let outside = |result| matches!(result, Err(TensorProblem::Outside { .. }));
    assert!(outside(view(12, &[], &[], 48)));
    assert!(outside(view(1, &[3, 4], &[4, 1], 48)));
    assert!(outside(view(0, &[2], &[i64::MAX], 48)));
    assert!(outside(view(i64::MAX as u64, &[2], &[i64::MAX], 48)));
    assert_eq!(view(0, &[2], &[-1], 48), Err(TensorProblem::NegativeStride(-1)));
    let too_large = Err(TensorProblem::TooLarge);
    assert_eq!(view(0, &[1 << 32, 1 << 32], &[0, 0], 48), too_large);
    assert_eq!(view(0, &[u64::MAX, 2], &[0, 0], 48), too_large);
}

#[test]
fn the_storage_must_be_as_long_as_the_pickle_says() {
    let wrong = Err(TensorProblem::Length { expected: 48, actual: 44 });
    assert_eq!(view(0, &[1], &[1], 44), wrong);
}

#[test]
fn a_storage_that_is_not_there_is_named() {
    let mut pickle = Pickle::new();
    let tensor = pickle.whole_tensor("7", DType::F16, &[2]).unwrap();
    pickle.set_root(tensor);
    let file = open(&file("x", emit(&pickle).unwrap(), &[])).unwrap();
    let error = file.extent(file.value.root().as_tensor().unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sample.pt: tensor in storage \"7\": the file has no such storage"
    );
}

#[test]
fn quantised_storages_are_opened_and_refused_when_used() {
    let pickle = b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nQInt8Storage\n\
        U\x010U\x03cpuK\x02tQK\0(K\x02t(K\x01t\x89NtR."
        .to_vec();
    let file = open(&file("x", pickle, &[("0", &[1, 2])])).unwrap();
    let error = file.extent(file.value.root().as_tensor().unwrap()).unwrap_err();
    assert!(matches!(*error.kind, TorchErrorKind::Tensor { problem: TensorProblem::Dtype(_), .. }));
}
