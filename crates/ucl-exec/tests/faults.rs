//! Every call to the storage fails once; the destination must be what it was, and nothing else left.

#![allow(clippy::unwrap_used)]

mod fake;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use fake::{FakeWork, Piece, Random, nothing};
use ucl_exec::{
    Disk, Doing, ExecError, Options, Outcome, Silent, Sink, SmallFiles, Source, Stamp, Storage,
    run, run_on,
};
use ucl_tensor::DType;

/// The disk, but call number `fail` returns an error.
struct Faulty {
    calls: Arc<Counter>,
    exchanges: bool,
}

struct Counter {
    next: AtomicUsize,
    fail: usize,
    error: i32,
    failed: Mutex<&'static str>,
    /// Reads and writes move at most so many bytes.
    most: usize,
}

impl Counter {
    fn call<T>(&self, name: &'static str, body: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.next.fetch_add(1, Relaxed) == self.fail {
            *self.failed.lock().unwrap() = name;
            return Err(io::Error::from_raw_os_error(self.error));
        }
        body()
    }
}

struct Wrapped<T: ?Sized>(Box<T>, Arc<Counter>);

impl Source for Wrapped<dyn Source> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = buffer.len().min(self.1.most);
        self.1.call("read", || self.0.read_at(&mut buffer[..len], offset))
    }
    fn read_once_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = buffer.len().min(self.1.most);
        self.1.call("read", || self.0.read_once_at(&mut buffer[..len], offset))
    }
    fn stamp(&self) -> io::Result<Stamp> {
        self.1.call("stamp", || self.0.stamp())
    }
}

impl Sink for Wrapped<dyn Sink> {
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.1.call("reserve", || self.0.reserve(len))
    }
    fn stretch(&self, len: u64) -> io::Result<()> {
        self.1.call("stretch", || self.0.stretch(len))
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let len = bytes.len().min(self.1.most);
        self.1.call("write", || self.0.write_at(&bytes[..len], offset))
    }
    fn sync(&self) -> io::Result<()> {
        self.1.call("sync", || self.0.sync())
    }
}

impl Storage for Faulty {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Source>> {
        let source = self.calls.call("open", || Disk.open(path))?;
        Ok(Box::new(Wrapped(source, Arc::clone(&self.calls))))
    }
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.calls.call("stamp", || Disk.stamp(path))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.calls.call("create_folder", || Disk.create_folder(path))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let sink = self.calls.call("create", || Disk.create(path))?;
        Ok(Box::new(Wrapped(sink, Arc::clone(&self.calls))))
    }
    fn reopen(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        let sink = self.calls.call("reopen", || Disk.reopen(path))?;
        Ok(Box::new(Wrapped(sink, Arc::clone(&self.calls))))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.calls.call("sync_folder", || Disk.sync_folder(path))
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        self.calls.call("sync_all", || Disk.sync_all(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.calls.call("rename", || Disk.rename(from, to))
    }
    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()> {
        if !self.exchanges {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.calls.call("exchange", || Disk.exchange(left, right))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        // Cleaning up is not made to fail: nothing could be promised then.
        Disk.remove(path)
    }
    fn free(&self, path: &Path) -> io::Result<u64> {
        self.calls.call("free", || Disk.free(path))
    }
}

fn faulty(fail: usize, error: i32, most: usize, exchanges: bool) -> Faulty {
    let failed = Mutex::new("");
    let calls = Counter { next: AtomicUsize::new(0), fail, error, failed, most };
    Faulty { calls: Arc::new(calls), exchanges }
}

/// A few files and tensors, some larger than a window of the smallest budget.
fn plan(folder: &Path, files: usize) -> FakeWork {
    let mut work = FakeWork::default();
    for source in 0..2 {
        let path = folder.join(format!("s{source}"));
        fs::write(&path, Random(source).bytes(3 << 20)).unwrap();
        work.sources.push(path);
    }
    for file in 0..files {
        work.file(&format!("folder/{file}.bin"), b"header");
        work.tensor(DType::F32, &[50, 50], vec![Piece::dense(0, 12, DType::F32, &[50, 50])]);
        if file == 0 {
            let shape = [600, 1000];
            let mut halves = [0, 1].map(|side| {
                let mut piece = Piece::dense(side as usize, 8, DType::F32, &[600, 500]);
                piece.ranges[1] = side * 500..(side + 1) * 500;
                piece
            });
            halves[1].strides = vec![4, 2400];
            work.tensor(DType::F32, &shape, halves.to_vec());
        }
    }
    work
}

/// Every file under a folder with its bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            files.append(&mut tree(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

fn small(jobs: usize, overwrite: bool) -> Options {
    Options { jobs, memory: 0, overwrite, sparse: false }
}

fn manifest(outcome: &Outcome) -> SmallFiles {
    Ok(vec![
        ("ucl.json".to_owned(), outcome.digests.join("\n").into_bytes()),
        ("extra/a".to_owned(), b"a".to_vec()),
    ])
}

/// Fails call after call until a run needs fewer; gives the names of what failed.
fn every_call(files: usize, overwrite: bool, exchanges: bool, error: i32) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let work = plan(folder.path(), files);
    let destination = folder.path().join("out");
    if overwrite {
        fs::create_dir(&destination).unwrap();
        fs::write(destination.join("old"), b"old").unwrap();
    }
    let before = tree(folder.path());
    let mut failed = Vec::new();
    for fail in 0.. {
        let storage = faulty(fail, error, usize::MAX, exchanges);
        let result =
            run_on(&storage, &work, &destination, &small(1, overwrite), &Silent, &manifest);
        let name = *storage.calls.failed.lock().unwrap();
        if name.is_empty() {
            result.unwrap();
            break;
        }
        failed.push(name);
        result.unwrap_err();
        let after = tree(folder.path());
        assert!(before == after, "call {fail} ({name}) left {:?}", after.keys());
    }
    let expected = work.expected();
    for (file, bytes) in work.files.iter().zip(expected) {
        assert!(fs::read(destination.join(&file.path)).unwrap() == bytes);
    }
    assert_eq!(fs::read(destination.join("extra/a")).unwrap(), b"a");
    assert!(!destination.join("old").exists());
    failed
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_new_destination_survives_every_failure() {
    for error in [EIO, ENOSPC] {
        let failed = every_call(3, false, true, error);
        for name in ["open", "read", "stamp", "create", "reserve", "write", "sync", "rename"] {
            assert!(failed.contains(&name), "{name} was never reached: {failed:?}");
        }
    }
}

#[test]
fn a_replaced_destination_survives_every_failure() {
    assert!(every_call(2, true, true, EIO).contains(&"exchange"));
    assert!(!every_call(2, true, false, EIO).contains(&"exchange"));
}

#[test]
fn many_files_survive_every_failure() {
    let folder = tempfile::tempdir().unwrap();
    let work = plan(folder.path(), 300);
    let destination = folder.path().join("out");
    let before = tree(folder.path());
    let whole = faulty(usize::MAX, EIO, usize::MAX, true);
    run_on(&whole, &work, &destination, &small(2, false), &Silent, &nothing).unwrap();
    fs::remove_dir_all(&destination).unwrap();
    let calls = whole.calls.next.load(Relaxed);
    // The first and last calls, and some between.
    for fail in (0..20).chain((20..calls - 20).step_by(97)).chain(calls - 20..calls) {
        let storage = faulty(fail, EIO, usize::MAX, true);
        run_on(&storage, &work, &destination, &small(2, false), &Silent, &nothing).unwrap_err();
        assert!(before == tree(folder.path()), "call {fail}");
    }
}

#[test]
fn short_reads_and_writes_are_continued() {
    let folder = tempfile::tempdir().unwrap();
    let work = plan(folder.path(), 2);
    let destination = folder.path().join("out");
    for most in [4097, 100_001] {
        let storage = faulty(usize::MAX, EIO, most, true);
        run_on(&storage, &work, &destination, &small(2, false), &Silent, &nothing).unwrap();
        for (file, bytes) in work.files.iter().zip(work.expected()) {
            assert!(fs::read(destination.join(&file.path)).unwrap() == bytes);
        }
        fs::remove_dir_all(&destination).unwrap();
    }
}

#[test]
fn interrupted_calls_are_repeated() {
    const EINTR: i32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let work = plan(folder.path(), 1);
    for fail in 0..60 {
        let destination = folder.path().join(format!("out{fail}"));
        let storage = faulty(fail, EINTR, usize::MAX, true);
        let result = run_on(&storage, &work, &destination, &small(1, false), &Silent, &nothing);
        let name = *storage.calls.failed.lock().unwrap();
        assert!(result.is_ok() || !["read", "write", ""].contains(&name), "{name} {result:?}");
    }
}

#[test]
fn destinations_that_exist_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let work = plan(folder.path(), 1);
    let destination = folder.path().join("out");
    fs::create_dir(&destination).unwrap();
    let before = tree(folder.path());
    let result = run(&work, &destination, &small(1, false), &Silent, &nothing);
    assert!(matches!(result, Err(ExecError::DestinationExists(_))), "{result:?}");
    assert!(before == tree(folder.path()));
    let result = run(&work, Path::new("/"), &small(1, false), &Silent, &nothing);
    assert!(matches!(result, Err(ExecError::BadDestination(_))), "{result:?}");
}

#[test]
fn sources_that_change_or_end_early_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let work = plan(folder.path(), 1);
    let destination = folder.path().join("out");
    let touch = |_: &Outcome| Ok(Vec::new());
    fs::write(&work.sources[1], vec![1; 1_000_000]).unwrap();
    let result = run(&work, &destination, &small(2, false), &Silent, &touch);
    let Err(ExecError::SourceShort { path, len, .. }) = &result else { panic!("{result:?}") };
    assert_eq!((path, *len), (&work.sources[1], 1_000_000));
    assert!(!destination.exists());
    fs::remove_file(&work.sources[1]).unwrap();
    let result = run(&work, &destination, &small(2, false), &Silent, &touch);
    let Err(ExecError::Io { doing: Doing::Open, .. }) = &result else { panic!("{result:?}") };
    assert!(!destination.exists());
}

#[test]
fn paths_stay_inside() {
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("out");
    for path in ["../a", "/a", "", "a/../../b", "./a", "a\0"] {
        let mut work = FakeWork::default();
        work.file(path, b"");
        let result = run(&work, &destination, &small(1, false), &Silent, &nothing);
        assert!(matches!(result, Err(ExecError::BadPath { .. })), "{path:?} {result:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn folders_of_dead_runs_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join(".out.ucl-partial-4194305");
    let living = folder.path().join(format!(".out.ucl-partial-{}", std::process::id()));
    let other = folder.path().join(".other.ucl-partial-4194305");
    for path in [&dead, &living, &other] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("a"), b"a").unwrap();
    }
    let mut work = FakeWork::default();
    work.file("a", b"a");
    run(&work, &folder.path().join("out"), &small(1, false), &Silent, &nothing).unwrap();
    assert!(!dead.exists() && living.exists() && other.exists());
}

#[test]
fn wrong_plans_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("out");
    let broken: [fn(&mut FakeWork); 5] = [
        |work| {
            let piece = work.pieces[0][0].clone();
            work.pieces[0].push(piece);
        },
        |work| work.pieces[0][0].strides[1] = 1 << 50,
        |work| work.pieces[0][0].dtype = DType::I32,
        |work| work.tensors[0].offset += 10_000_000,
        |work| work.tensors[0].file = 7,
    ];
    for breaks in broken {
        let mut work = plan(folder.path(), 1);
        breaks(&mut work);
        let result = run(&work, &destination, &small(1, false), &Silent, &nothing);
        let short = matches!(result, Err(ExecError::SourceShort { .. }));
        assert!(short || matches!(result, Err(ExecError::Plan { .. })), "{result:?}");
        assert!(!destination.exists());
    }
}
