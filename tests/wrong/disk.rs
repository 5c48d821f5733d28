//! A disk that is full before the run ends: a real plan, on a file system with so much room.

use crate::scene::{Scene, tree};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use ucl_exec::{Disk, ExecError, Options, Silent, Sink, Source, Stamp, Storage, run_on};
use ucl_formats::{Format, survey};
use ucl_ir::Mesh;
use ucl_plan::{Naming, Plan, Said, States, Target, TargetFile, Work, bind};
use ucl_tests::made::llama::SMALL;
use ucl_tests::made::run::Zero;

/// The disk, with room for so many bytes: reserved ones where the file system reserves, else written.
struct Small {
    room: Arc<AtomicU64>,
    reserves: bool,
}

struct Counted(Box<dyn Sink>, Arc<AtomicU64>, bool);

fn take(room: &AtomicU64, len: u64) -> io::Result<()> {
    const FULL: i32 = 28;
    let taken = room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(len));
    taken.map(drop).map_err(|_| io::Error::from_raw_os_error(FULL))
}

impl Sink for Counted {
    fn reserve(&self, len: u64) -> io::Result<()> {
        if self.2 {
            take(&self.1, len)?;
        }
        self.0.stretch(len)
    }
    fn stretch(&self, len: u64) -> io::Result<()> {
        self.0.stretch(len)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if !self.2 {
            take(&self.1, bytes.len() as u64)?;
        }
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl Small {
    fn sink(&self, sink: io::Result<Box<dyn Sink>>) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Counted(sink?, Arc::clone(&self.room), self.reserves)))
    }
}

impl Storage for Small {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Source>> {
        Disk.open(path)
    }
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        Disk.stamp(path)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        Disk.create_folder(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.sink(Disk.create(path))
    }
    fn reopen(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.sink(Disk.reopen(path))
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        Disk.sync_folder(path)
    }
    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Disk.sync_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn exchange(&self, left: &Path, right: &Path) -> io::Result<()> {
        Disk.exchange(left, right)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn free(&self, path: &Path) -> io::Result<u64> {
        Disk.free(path)
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let scene = Scene::of(&SMALL.hf_run(2, Zero::Bf16));
    scene.write("out/old", "keep");
    let found = survey(&scene.path("run"));
    assert!(found.problems.is_empty());
    let said = Said::default();
    let bound = bind(&[], &found.inventory, &said, &Naming::Stored).ok().unwrap();
    let target = Target {
        stages: Vec::new(),
        mesh: Mesh::new(),
        format: Format::Universal,
        naming: Naming::Stored,
        dtype: None,
        states: States::All,
        max_file_bytes: 2000,
    };
    let plan = Plan::new(bound, target).unwrap();
    let needed: u64 = plan.files().iter().map(|file: &TargetFile| file.len).sum();
    assert!(plan.files().len() > 6);
    let options = Options { jobs: 2, overwrite: true, ..Options::default() };
    let manifest = |_: &ucl_exec::Outcome| Ok(vec![("ucl.json".to_owned(), vec![b' '; 100])]);
    let before = tree(&scene.path(""));
    let run = |room: u64, reserves| {
        let small = Small { room: Arc::new(AtomicU64::new(room)), reserves };
        run_on(&small, &plan, &scene.path("out"), &options, &Silent, &manifest)
    };
    for reserves in [false, true] {
        for room in (0..needed).step_by(needed as usize / 12).chain([needed, needed + 99]) {
            // What is small is not reserved, so it finds room in any case.
            if reserves && room >= needed {
                continue;
            }
            match run(room, reserves).err() {
                Some(ExecError::Io { error, .. }) => {
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                    assert!(tree(&scene.path("")) == before, "{room} of {needed}: not as before");
                }
                other => panic!("{room} of {needed}: {other:?}"),
            }
        }
    }
    run(needed + 100, false).unwrap();
    assert!(scene.path("out/ucl.json").exists() && !scene.path("out/old").exists());
}
