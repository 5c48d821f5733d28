//! A folder with a sound checkpoint in it, which a test then spoils.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use ucl_tests::command::{Ended, ucl};
use ucl_tests::made::run::Run;

/// A scratch folder with `run` in it, and what was said about it.
pub(crate) struct Scene {
    scratch: TempDir,
    said: String,
}

impl Scene {
    /// An empty folder.
    pub(crate) fn empty() -> Scene {
        Scene { scratch: TempDir::new().unwrap(), said: String::new() }
    }

    /// A made run, as `run`.
    pub(crate) fn of(run: &Run) -> Scene {
        let scene = Scene::empty();
        run.write(&scene.path("run"));
        scene
    }

    /// A copy of a fixture, as `run`.
    pub(crate) fn fixture(name: &str) -> Scene {
        let scene = Scene::empty();
        copy(&ucl_tests::fixture(name), &scene.path("run"));
        scene
    }

    /// A path in the scratch folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A path in the scratch folder, to be typed.
    pub(crate) fn typed(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Puts a file in the place of another, or beside it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Runs `ucl convert run out` with more flags, which must fail and change nothing.
    pub(crate) fn refused(&mut self, what: &str, flags: &[&str]) -> Ended {
        let (run, out) = (self.typed("run"), self.typed("out"));
        self.refused_as(what, &[&["convert", &run, &out], flags].concat())
    }

    /// The same for any arguments.
    pub(crate) fn refused_as(&mut self, what: &str, arguments: &[&str]) -> Ended {
        let before = tree(self.scratch.path());
        let ended = ucl(arguments);
        assert_eq!(ended.code, 2, "{what}\n{}", ended.text());
        assert_eq!(tree(self.scratch.path()), before, "{what}: something was left or is gone");
        let said = format!("{}{}", ended.out, ended.err);
        assert!(!ended.err.is_empty() && !said.contains("panicked"), "{what}\n{}", ended.text());
        let said = said.replace(&*self.scratch.path().to_string_lossy(), "TMP");
        let said = said.replace(ucl_tests::fixture("").to_str().unwrap(), "FIXTURES/");
        let own = format!("ucl-partial-{}", std::process::id());
        let said = said.replace(&own, "ucl-partial-PID");
        writeln!(self.said, "=== {what}\n{said}").unwrap();
        ended
    }

    /// Everything that was said, for a snapshot.
    pub(crate) fn said(self) -> String {
        self.said
    }
}

/// Copies a folder.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// All paths below a folder with what the files hold.
pub(crate) fn tree(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.push((path, None));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, Some(content)));
        }
    }
    found.sort();
    found
}
