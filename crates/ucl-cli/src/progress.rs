//! How far a run is: a bar on a terminal, else a line now and then.

use crate::failure::Stop;
use crate::session::Session;
use crate::show;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use ucl_exec::Progress;

/// Between two looks at the meter where a bar is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Between two lines where none is.
const LINE: Duration = Duration::from_secs(10);

/// Counts what workers report.
#[derive(Default)]
pub(crate) struct Meter {
    read: AtomicU64,
    written: AtomicU64,
    stage: Mutex<String>,
    notes: Mutex<Vec<String>>,
}

impl Progress for Meter {
    fn advance(&self, read: u64, written: u64) {
        self.read.fetch_add(read, Ordering::Relaxed);
        self.written.fetch_add(written, Ordering::Relaxed);
    }

    fn stage(&self, name: &str) {
        name.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn note(&self, text: &str) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(show::clean(text));
    }
}

impl Meter {
    fn done(&self, of: Count) -> u64 {
        match of {
            Count::Read => self.read.load(Ordering::Relaxed),
            Count::Written => self.written.load(Ordering::Relaxed),
        }
    }

    fn stage_name(&self) -> String {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was noted since the last call.
    fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which bytes tell how far a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    /// Those that are read.
    Read,
    /// Those that are written.
    Written,
}

/// Does the work on a thread of its own and shows how far it is.
pub(crate) fn watched<T: Send>(
    session: &mut Session<'_, '_>,
    (count, total): (Count, u64),
    work: impl FnOnce(&Meter) -> T + Send,
) -> Result<T, Stop> {
    let meter = Meter::default();
    let bar = session.can_draw().then(|| bar(total));
    let frame = if bar.is_some() { FRAME } else { LINE };
    let begin = Instant::now();
    let (result, shown) = std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel::<()>();
        let worker = scope.spawn(|| {
            let _over = over;
            work(&meter)
        });
        let mut shown = Ok(());
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(frame) {
            let done = meter.done(count);
            match &bar {
                Some(bar) => {
                    bar.set_position(done.min(total));
                    bar.set_message(meter.stage_name());
                    meter.take_notes().iter().for_each(|note| bar.println(note));
                }
                // The run goes on though nobody listens any more.
                None if shown.is_ok() => shown = line(session, &meter, (done, total), begin),
                None => {}
            }
        }
        (worker.join(), shown)
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let result = match result {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    shown.and_then(|()| notes(session, &meter))?;
    Ok(result)
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = "{msg:8} {bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

fn line(
    session: &mut Session<'_, '_>,
    meter: &Meter,
    (done, total): (u64, u64),
    begin: Instant,
) -> Result<(), Stop> {
    notes(session, meter)?;
    let seconds = begin.elapsed().as_secs_f64();
    let left = if done > 0 { seconds * (total.max(done) - done) as f64 / done as f64 } else { 0.0 };
    let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
    session.remark(&format!(
        "{}: {} of {} ({percent} %), {}, {} left",
        meter.stage_name(),
        show::bytes(done),
        show::bytes(total),
        show::rate(done, seconds),
        show::seconds(left),
    ))
}

fn notes(session: &mut Session<'_, '_>, meter: &Meter) -> Result<(), Stop> {
    meter.take_notes().iter().try_for_each(|note| session.remark(note))
}
