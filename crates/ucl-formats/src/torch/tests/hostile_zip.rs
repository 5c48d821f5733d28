//! Zips that are cut, flipped or crafted so that two readers would disagree.

use super::super::error::{EntryProblem, PickleProblem, TorchErrorKind};
use super::super::{Pickle, emit};
use super::{exercise, file, open, problem, sample, sample_file};

/// Places of a piece of text.
fn places(bytes: &[u8], text: &str) -> Vec<usize> {
    let text = text.as_bytes();
    let at = bytes.windows(text.len()).enumerate();
    at.filter(|(_, window)| *window == text).map(|(at, _)| at).collect()
}

fn entry(bytes: &[u8]) -> EntryProblem {
    match problem(bytes) {
        TorchErrorKind::Entry { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn truncation_is_an_error_at_every_byte() {
    let whole = sample_file();
    for end in 0..whole.len() {
        assert!(open(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn no_flipped_byte_panics() {
    let whole = sample_file();
    for at in 0..whole.len() {
        for flip in [0xff, 1 << (at % 8)] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            if let Ok(file) = open(&bytes) {
                exercise(&file);
            }
        }
    }
}

#[test]
fn local_and_central_name_must_agree() {
    for which in [0, 1] {
        let mut bytes = sample_file();
        let at = places(&bytes, "sample/data/1")[which];
        bytes[at + 12] = b'7';
        assert_eq!(entry(&bytes), EntryProblem::Local("name"));
    }
}

#[test]
fn a_name_in_the_directory_twice_is_refused() {
    let mut bytes = sample_file();
    for at in places(&bytes, "sample/data/1") {
        bytes[at + 12] = b'0';
    }
    assert_eq!(entry(&bytes), EntryProblem::Duplicate);
}

#[test]
fn there_is_one_pickle() {
    let pickle = emit(&sample()).unwrap();
    let two = file("x", pickle.clone(), &[("data.pkl", b"N.")]);
    assert!(matches!(problem(&two), TorchErrorKind::TwoPickles { .. }));
    let mut none = file("x", pickle, &[]);
    for at in places(&none, "x/data.pkl") {
        none[at + 2] = b'D';
    }
    assert!(matches!(problem(&none), TorchErrorKind::NoPickle));
}

#[test]
fn compression_and_encryption_are_refused() {
    let whole = sample_file();
    let central = places(&whole, "PK\x01\x02")[4];
    let mut bytes = whole.clone();
    bytes[central + 10] = 8;
    assert_eq!(entry(&bytes), EntryProblem::Compressed(8));
    let mut bytes = whole.clone();
    bytes[central + 8] |= 1;
    assert_eq!(entry(&bytes), EntryProblem::Encrypted);
    let local = places(&whole, "PK\x03\x04")[4];
    let mut bytes = whole.clone();
    bytes[local + 8] = 8;
    assert_eq!(entry(&bytes), EntryProblem::Local("method"));
    let mut bytes = whole;
    bytes[local + 6] |= 1;
    assert_eq!(entry(&bytes), EntryProblem::Encrypted);
}

#[test]
fn sizes_must_stay_apart_and_inside() {
    let whole = sample_file();
    let central = places(&whole, "PK\x01\x02");
    let longer = |number: usize, by: u8| {
        let mut bytes = whole.clone();
        // The second byte: 256 more for each.
        bytes[central[number] + 21] += by;
        bytes[central[number] + 25] += by;
        bytes
    };
    assert!(matches!(entry(&longer(4, 1)), EntryProblem::Overlap(_)));
    assert_eq!(entry(&longer(5, 0x80)), EntryProblem::Outside);
    let mut bytes = whole.clone();
    bytes[central[4] + 20] += 1;
    assert!(matches!(entry(&bytes), EntryProblem::Local(_)));
    let local = places(&whole, "PK\x03\x04")[4];
    let mut bytes = whole;
    bytes[local + 18] = 9;
    assert_eq!(entry(&bytes), EntryProblem::Local("size"));
}

#[test]
fn bytes_around_the_zip_are_refused() {
    let whole = sample_file();
    let behind = [&whole[..], b"x"].concat();
    assert!(matches!(problem(&behind), TorchErrorKind::DirectoryWrong { .. }));
    let twice = [&whole[..], &whole[..]].concat();
    assert!(open(&twice).is_err());
    let before = [b"PK\x03\x04", &whole[..]].concat();
    assert!(open(&before).is_err());
}

#[test]
fn damage_in_the_pickle_is_found_by_its_crc() {
    let mut bytes = sample_file();
    let at = places(&bytes, "hidden_size")[0];
    bytes[at] = b'H';
    assert!(matches!(entry(&bytes), EntryProblem::Crc { .. }));
    // 0 means that no CRC was computed.
    let central = places(&bytes, "PK\x01\x02")[0];
    bytes[central + 16..central + 20].fill(0);
    assert!(open(&bytes).is_ok());
}

#[test]
fn big_endian_files_are_refused() {
    let mut bytes = sample_file();
    let at = places(&bytes, "little")[0];
    bytes[at..at + 6].copy_from_slice(b"big   ");
    let central = places(&bytes, "PK\x01\x02")[3];
    bytes[central + 16..central + 20].fill(0);
    assert!(matches!(problem(&bytes), TorchErrorKind::ByteOrder(_)));
}

#[test]
fn a_pickle_with_a_tail_is_refused() {
    let bytes = file("x", b"N.N.".to_vec(), &[]);
    let TorchErrorKind::Pickle { error, .. } = problem(&bytes) else { panic!() };
    assert!(matches!(error.kind, PickleProblem::Trailing(2)));
    assert!(Pickle::parse(b"N.").is_ok());
}

#[test]
fn other_files_are_told_apart() {
    assert!(matches!(problem(b""), TorchErrorKind::Empty));
    assert!(matches!(problem(b"hello"), TorchErrorKind::NotTorch { .. }));
    assert!(matches!(problem(b"\x80\x04N."), TorchErrorKind::PlainPickle));
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(matches!(problem(&tar), TorchErrorKind::Tar));
}
