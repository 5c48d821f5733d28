//! The form before torch 1.6, put together by hand.

use ucl_tensor::DType;

use super::super::error::TorchErrorKind;
use super::super::legacy::MAGIC;
use super::super::{Pickle, emit};
use super::{exercise, open, problem, sample};

fn parts(object: &[u8], little: bool, keys: &[&str], storages: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = [b"\x80\x02\x8a\x0a", &MAGIC[..], b".", b"\x80\x02M\xe9\x03."].concat();
    let mut info = Pickle::new();
    let pair = (info.str("little_endian"), info.bool(little));
    let root = info.dict(vec![pair]);
    info.set_root(root);
    bytes.extend(emit(&info).unwrap());
    bytes.extend(object);
    let mut list = Pickle::new();
    let keys = keys.iter().map(|key| list.str(key)).collect();
    let root = list.list(keys);
    list.set_root(root);
    bytes.extend(emit(&list).unwrap());
    for (count, data) in storages {
        bytes.extend(count.to_le_bytes());
        bytes.extend(*data);
    }
    bytes
}

fn legacy() -> Vec<u8> {
    let object = emit(&sample()).unwrap();
    parts(&object, true, &["0", "1"], &[(12, &[1; 48]), (5, &[2; 5])])
}

#[test]
fn storages_follow_the_pickles() {
    let bytes = legacy();
    let file = open(&bytes).unwrap();
    let weight = file.value.root().get("bias").unwrap().as_tensor().unwrap();
    let extent = file.extent(weight).unwrap();
    assert_eq!(extent.storage_file_range, bytes.len() as u64 - 61..bytes.len() as u64 - 13);
    assert_eq!(extent.file_offset, extent.storage_file_range.start + 24);
    assert_eq!(file.storages["1"].range().end, bytes.len() as u64);
}

#[test]
fn views_count_from_their_first_element() {
    let object = b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\n\
        U\x01aU\x03cpuK\x0a(U\x01bK\x04K\x03ttQK\x01(K\x02t(K\x01ttR.";
    let file = open(&parts(object, true, &["a"], &[(10, &[0; 40])])).unwrap();
    let extent = file.extent(file.value.root().as_tensor().unwrap()).unwrap();
    assert_eq!((extent.dtype, extent.storage_offset), (DType::F32, 5));
    assert_eq!(extent.file_offset, extent.storage_file_range.start + 20);
    // One element further leaves the view, though not the storage.
    let mut longer = object.to_vec();
    let at = longer.len() - 9;
    assert_eq!(longer[at], 2);
    longer[at] = 3;
    let file = open(&parts(&longer, true, &["a"], &[(10, &[0; 40])])).unwrap();
    assert!(file.extent(file.value.root().as_tensor().unwrap()).is_err());
}

#[test]
fn damage_is_an_error() {
    let whole = legacy();
    for end in 0..whole.len() {
        assert!(open(&whole[..end]).is_err(), "cut at {end}");
    }
    assert!(open(&[&whole[..], b"x"].concat()).is_err());
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        if let Ok(file) = open(&bytes) {
            exercise(&file);
        }
    }
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let object = emit(&sample()).unwrap();
    let big = parts(&object, false, &["0"], &[]);
    assert!(matches!(problem(&big), TorchErrorKind::ByteOrder(_)));
    let unknown = parts(&object, true, &["9"], &[(0, &[])]);
    assert!(matches!(problem(&unknown), TorchErrorKind::Legacy { .. }));
    let huge = parts(&object, true, &["0"], &[(u64::MAX / 2, &[])]);
    assert!(matches!(problem(&huge), TorchErrorKind::Legacy { .. }));
    let twice = parts(&object, true, &["1", "1"], &[(0, &[]), (0, &[])]);
    assert!(matches!(problem(&twice), TorchErrorKind::Legacy { .. }));
}
