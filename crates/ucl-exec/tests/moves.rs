//! What arrives in the files, against single steps, for any number of workers and any budget.

#![allow(clippy::unwrap_used)]

mod fake;

use std::fs::{self, File};
use std::path::Path;

use fake::{FakeWork, Piece, Random, nothing};
use ucl_exec::{
    DigestRange, ExecError, Options, Outcome, Silent, compare, digest_range, digest_ranges, run,
};
use ucl_plan::{Check, MoveRole};
use ucl_tensor::{DType, cast};

fn options(jobs: usize, memory: u64) -> Options {
    Options { jobs, memory, ..Options::default() }
}

/// Runs with several numbers of workers and budgets; all must give the same, and what is expected.
fn check(work: &FakeWork, folder: &Path) -> Outcome {
    let expected = work.expected();
    let mut first: Option<Outcome> = None;
    for (jobs, memory) in [(1, 64 << 20), (2, 0), (8, 16 << 20), (2, 256 << 20)] {
        let destination = folder.join("out");
        let outcome = run(work, &destination, &options(jobs, memory), &Silent, &nothing).unwrap();
        for (file, bytes) in work.files.iter().zip(&expected) {
            let written = fs::read(destination.join(&file.path)).unwrap();
            let at = written.iter().zip(bytes).position(|(left, right)| left != right);
            assert_eq!(at, None, "{} with {jobs} jobs and {memory} bytes", file.path);
            assert_eq!(written.len(), bytes.len());
        }
        for (tensor, digest) in work.tensors.iter().zip(&outcome.digests) {
            let path = destination.join(&work.files[tensor.file].path);
            let len = tensor.len() * tensor.dtype.size_bytes();
            let file = File::open(path).unwrap();
            assert_eq!(&digest_range(&file, tensor.offset, len).unwrap(), digest);
        }
        fs::remove_dir_all(&destination).unwrap();
        let left: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.iter().all(|path| work.sources.contains(path)), "{left:?}");
        if let Some(first) = &first {
            assert_eq!((&outcome.digests, &outcome.checks), (&first.digests, &first.checks));
        }
        first.get_or_insert(outcome);
    }
    first.unwrap()
}

fn source(work: &mut FakeWork, folder: &Path, bytes: &[u8]) -> usize {
    let path = folder.join(format!("s{}", work.sources.len()));
    fs::write(&path, bytes).unwrap();
    work.sources.push(path);
    work.sources.len() - 1
}

/// A tensor in pieces: cut along every dim at random, each piece stored in a random order of dims.
fn scattered(
    random: &mut Random,
    work: &mut FakeWork,
    folder: &Path,
    shape: &[u64],
    (dtype, stored): (DType, DType),
) {
    let mut ranges: Vec<Vec<std::ops::Range<u64>>> = vec![Vec::new()];
    for len in shape {
        let cut = random.below(len + 1);
        ranges = ranges
            .iter()
            .flat_map(|outer| {
                [0..cut, cut..*len].map(|range| [outer.clone(), vec![range]].concat())
            })
            .collect();
    }
    let mut bytes = random.bytes(5);
    let mut pieces = Vec::new();
    for part in ranges {
        let counts: Vec<i64> = part.iter().map(|range| (range.end - range.start) as i64).collect();
        let elements: i64 = counts.iter().product();
        if elements == 0 || random.below(10) == 0 {
            continue; // left zero
        }
        let mut order: Vec<usize> = (0..shape.len()).collect();
        for index in (1..order.len()).rev() {
            order.swap(index, random.below(index as u64 + 1) as usize);
        }
        let mut strides = vec![0; shape.len()];
        let mut stride = stored.size_bytes() as i64;
        for (place, index) in order.into_iter().enumerate() {
            strides[index] = stride;
            stride *= counts[index];
            // A gap after some rows.
            if place == 0 && random.below(3) == 0 {
                stride += [8, 20_000][random.below(2) as usize];
            }
        }
        let mut piece = Piece::dense(work.sources.len(), bytes.len() as u64, stored, shape);
        (piece.strides, piece.ranges) = (strides, part);
        if stored.is_float() && random.below(4) == 0 {
            (piece.scale, piece.shift) = (2.0, -1.0);
        }
        let len = stride as usize;
        bytes.extend(if stored == DType::F32 {
            random.floats(len / 4 + 1)
        } else {
            random.bytes(len)
        });
        pieces.push(piece);
    }
    source(work, folder, &bytes);
    work.tensor(dtype, shape, pieces);
}

#[test]
fn random_moves() {
    let mut random = Random(3);
    let pairs = [
        (DType::F32, DType::F32),
        (DType::BF16, DType::F32),
        (DType::F32, DType::BF16),
        (DType::F16, DType::F32),
        (DType::I64, DType::I64),
        (DType::U8, DType::U8),
    ];
    for _ in 0..12 {
        let folder = tempfile::tempdir().unwrap();
        let mut work = FakeWork::default();
        for file in 0..1 + random.below(2) {
            work.file(&format!("part/{file}.bin"), &random.bytes(77));
            for _ in 0..random.below(6) {
                let dims = random.below(5) as usize;
                let limit = [1, 60_000, 300, 40, 16][dims];
                let shape: Vec<u64> = (0..dims).map(|_| random.below(limit)).collect();
                let types = pairs[random.below(6) as usize];
                scattered(&mut random, &mut work, folder.path(), &shape, types);
            }
        }
        check(&work, folder.path());
    }
}

#[test]
fn tensors_larger_than_the_budget() {
    let mut random = Random(4);
    let folder = tempfile::tempdir().unwrap();
    let (rows, columns) = (2300, 2500); // 23 MB
    let mut work = FakeWork::default();
    work.file("a.bin", b"head");
    let bytes = random.floats((rows * columns) as usize);
    let index = source(&mut work, folder.path(), &bytes);
    // As it is, transposed, and merged from two halves of its columns.
    work.tensor(
        DType::F32,
        &[rows, columns],
        vec![Piece::dense(index, 0, DType::F32, &[rows, columns])],
    );
    let mut turned = Piece::dense(index, 0, DType::F32, &[columns, rows]);
    turned.strides = vec![4, columns as i64 * 4];
    work.tensor(DType::F32, &[columns, rows], vec![turned]);
    let half = columns / 2;
    let halves = [0, 1].map(|side| {
        let from = side * rows * half * 4;
        let mut piece = Piece::dense(index, from, DType::F32, &[rows, half]);
        piece.ranges[1] = side * half..(side + 1) * half;
        piece
    });
    work.tensor(DType::BF16, &[rows, columns], halves.to_vec());
    let outcome = check(&work, folder.path());
    assert_eq!(outcome.bytes_written, 4 + rows * columns * 10);
}

#[test]
fn reads_are_made_once() {
    let mut random = Random(5);
    let folder = tempfile::tempdir().unwrap();
    let (rows, columns) = (1200, 4000);
    let mut work = FakeWork::default();
    work.file("a.bin", b"");
    let mut pieces = Vec::new();
    for side in 0..4 {
        let index = source(&mut work, folder.path(), &random.bytes((rows * columns) as usize));
        let mut piece = Piece::dense(index, 0, DType::F32, &[rows, columns / 4]);
        piece.ranges[1] = side * columns / 4..(side + 1) * columns / 4;
        pieces.push(piece);
    }
    work.tensor(DType::F32, &[rows, columns], pieces);
    let outcome = check(&work, folder.path());
    // A window ends inside of a row; only there is something read twice.
    let len = rows * columns * 4;
    assert!(outcome.bytes_read <= len + len / 50, "{} of {len}", outcome.bytes_read);
}

#[test]
fn means_and_sums() {
    let mut random = Random(6);
    let folder = tempfile::tempdir().unwrap();
    let shape = [700, 900];
    let mut work = FakeWork::default();
    work.file("a.bin", b"");
    let mut pieces = Vec::new();
    work.checks.push(Check { label: "norm".to_owned(), fatal: false });
    for rank in 0..3 {
        let index = source(&mut work, folder.path(), &random.floats(630_000));
        let mut piece = Piece::dense(index, 0, DType::F32, &shape);
        piece.role = MoveRole::Average(3, 0);
        piece.ranges[0] = 0..400;
        pieces.push(piece);
        let mut piece = Piece::dense(index, 400 * 900 * 4, DType::F32, &shape);
        piece.role = if rank == 2 { MoveRole::Write } else { MoveRole::Sum };
        piece.ranges[0] = if rank == 2 { 600..700 } else { 400..600 };
        pieces.push(piece);
    }
    work.tensor(DType::F32, &shape, pieces);
    let outcome = check(&work, folder.path());
    assert_eq!(outcome.checks[0].compared, 400 * 900);
    assert!(outcome.checks[0].mismatched > 0 && outcome.checks[0].max_abs_diff <= 20.0);
}

#[test]
fn made_values() {
    let folder = tempfile::tempdir().unwrap();
    let mut work = FakeWork::default();
    work.file("a.bin", b"");
    let shape = [1500, 1000];
    let mut piece = Piece::dense(0, 0, DType::F32, &shape);
    (piece.role, piece.source) = (MoveRole::Synth(77), usize::MAX);
    piece.strides = vec![1, 1500];
    work.tensor(DType::BF16, &shape, vec![piece]);
    check(&work, folder.path());
}

#[test]
fn checks_of_replicas_and_copies() {
    let mut random = Random(7);
    let folder = tempfile::tempdir().unwrap();
    let shape = [900, 1000];
    let mut work = FakeWork::default();
    work.file("a.bin", b"");
    for label in ["replica", "copy"] {
        work.checks.push(Check { label: label.to_owned(), fatal: true });
    }
    let master = random.floats(900_000);
    let mut rounded = vec![0; 1_800_000];
    cast(DType::F32, &master, DType::BF16, &mut rounded).unwrap();
    let index = source(&mut work, folder.path(), &master);
    let replica = source(&mut work, folder.path(), &master);
    let copy = source(&mut work, folder.path(), &rounded);
    let mut pieces = vec![Piece::dense(index, 0, DType::F32, &shape)];
    for (source, dtype, role) in
        [(replica, DType::F32, MoveRole::Equal(0)), (copy, DType::BF16, MoveRole::Rounded(1))]
    {
        pieces.push(Piece { role, ..Piece::dense(source, 0, dtype, &shape) });
    }
    work.tensor(DType::F32, &shape, pieces);
    let outcome = check(&work, folder.path());
    assert!(outcome.checks.iter().all(|check| check.compared == 900_000 && check.mismatched == 0));

    rounded[2 * 777_777] ^= 4;
    fs::write(&work.sources[copy], &rounded).unwrap();
    let destination = folder.path().join("out");
    let result = run(&work, &destination, &options(2, 0), &Silent, &nothing);
    let Err(ExecError::Check(found)) = result else { panic!("{result:?}") };
    assert_eq!((found[0].label.as_str(), found[0].mismatched), ("copy", 1));
    assert_eq!(found[0].first.as_ref().map(|first| first.element), Some(777_777));
    assert!(!destination.exists());

    work.checks[1].fatal = false;
    let outcome = run(&work, &destination, &options(2, 0), &Silent, &nothing).unwrap();
    assert_eq!((outcome.checks[1].mismatched, outcome.checks[1].compared), (1, 900_000));
}

#[test]
fn many_small_files_and_tensors() {
    let mut random = Random(8);
    let folder = tempfile::tempdir().unwrap();
    let mut work = FakeWork::default();
    let index = source(&mut work, folder.path(), &random.bytes(3000));
    for file in 0..300 {
        work.file(&format!("zero/p{file}/fp32.bin"), b"h");
        for _ in 0..file % 4 {
            let from = random.below(2000);
            let piece = Piece::dense(index, from, DType::F32, &[10, 10]);
            work.tensor(DType::F32, &[10, 10], vec![piece]);
            // A gap between tensors, with bytes that are known.
            let last = work.files.last_mut().unwrap();
            last.fixed.push((last.len, b"gap".to_vec()));
            last.len += 3;
        }
    }
    check(&work, folder.path());
}

#[test]
fn sparse_files_have_holes() {
    use std::os::unix::fs::MetadataExt;
    let mut random = Random(9);
    let folder = tempfile::tempdir().unwrap();
    let mut work = FakeWork::default();
    let mut bytes = vec![0; 12 << 20];
    bytes[5 << 20..6 << 20].copy_from_slice(&random.bytes(1 << 20));
    let index = source(&mut work, folder.path(), &bytes);
    work.file("a.bin", b"");
    let shape = [3 << 20];
    work.tensor(DType::F32, &shape, vec![Piece::dense(index, 0, DType::F32, &shape)]);
    let destination = folder.path().join("out");
    let options = Options { sparse: true, ..options(2, 16 << 20) };
    run(&work, &destination, &options, &Silent, &nothing).unwrap();
    assert_eq!(fs::read(destination.join("a.bin")).unwrap(), bytes);
    assert!(fs::metadata(destination.join("a.bin")).unwrap().blocks() * 512 <= 2 << 20);
}

#[test]
fn plans_are_compared() {
    let mut random = Random(10);
    let folder = tempfile::tempdir().unwrap();
    let bytes = random.floats(3_000_000);
    let (mut left, mut right) = (FakeWork::default(), FakeWork::default());
    let index = source(&mut left, folder.path(), &bytes);
    let mut changed = bytes.clone();
    changed[4 * 2_500_000..][..4].copy_from_slice(&100_f32.to_le_bytes());
    let path = folder.path().join("right");
    fs::write(&path, &changed).unwrap();
    right.sources.push(path);
    for work in [&mut left, &mut right] {
        work.file("a.bin", b"");
        let shape = [3000, 1000];
        work.tensor(DType::F32, &shape, vec![Piece::dense(index, 0, DType::F32, &shape)]);
        work.tensor(DType::F32, &[10], vec![Piece::dense(index, 0, DType::F32, &[10])]);
    }
    let pairs = [(0, 0), (1, 1)];
    for jobs in [1, 3] {
        let found = compare(&left, &right, &pairs, &options(jobs, 0), &Silent).unwrap();
        assert_eq!((found[0].compared, found[0].mismatched), (3_000_000, 1));
        assert_eq!(found[0].first, Some(2_500_000));
        assert!(found[0].max_abs_diff >= 90.0);
        assert_eq!((found[1].compared, found[1].mismatched, found[1].first), (10, 0, None));
    }
    assert!(compare(&left, &right, &[(0, 1)], &options(1, 0), &Silent).is_err());
}

#[test]
fn digests_of_ranges_in_parallel() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    fs::write(&path, Random(11).bytes(5_000_000)).unwrap();
    let range = |offset, len| DigestRange { path: path.clone(), offset, len };
    let ranges =
        [range(0, 5_000_000), range(7, 3_000_000), range(9, 0), range(4_000_000, 2_000_000)];
    let found = digest_ranges(&ranges, &options(3, 0), &Silent);
    let file = File::open(&path).unwrap();
    assert_eq!(found[0].as_ref().unwrap(), &digest_range(&file, 0, 5_000_000).unwrap());
    assert_eq!(found[1].as_ref().unwrap(), &digest_range(&file, 7, 3_000_000).unwrap());
    assert_eq!(found[2].as_ref().unwrap(), "xxh3:99aa06d3014798d86001c324468d497f");
    assert!(found[3].is_err());
}
