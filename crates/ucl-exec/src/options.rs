//! What a caller decides, and what it is told on the way.

/// How to run a plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that read, move and write.
    pub jobs: usize,
    /// Bytes of data in memory at any time, over all threads.
    pub memory: u64,
    /// Whether a destination that exists is replaced, once the new one is complete and durable.
    pub overwrite: bool,
    /// Whether blocks of zeros are left out of the files, which then are not reserved on the disk.
    pub sparse: bool,
}

impl Default for Options {
    fn default() -> Options {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        Options { jobs, memory: 256 << 20, overwrite: false, sparse: false }
    }
}

/// Hears how far a run is. Called from many threads.
pub trait Progress: Sync {
    /// So many more bytes were read and written.
    fn advance(&self, read: u64, written: u64);
    /// The run enters a stage: `reserve`, `move`, `sync`, `publish`, `compare`, `digest`.
    fn stage(&self, name: &str);
    /// Something that is worth a line, and is no error.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// Hears and says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _: u64, _: u64) {}
    fn stage(&self, _: &str) {}
}
