//! Blobs that move side by side, and what is shown of them.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use smidge_image::Descriptor;

use crate::progress::{Action, Progress, Settled, Task};
use crate::{Error, Result};

/// Blobs that move at the same time. Registries slow down those who ask for more.
const AT_ONCE: usize = 4;

/// Bytes that are told at once: waking the thread that shows them takes longer than reading a few.
const STEP: u64 = 1 << 18;

/// What happens to a blob, told by the thread that moves it to the one that shows it.
enum Event {
    /// It is moved from an offset on: 0 at first.
    Moves(u64),
    /// So many more bytes are done.
    Advanced(u64),
    /// It is there, and nothing had to be moved.
    Settled(Settled),
    /// It is done.
    Done,
}

/// Tells what happens to one blob. Whoever holds one may be on any thread.
#[derive(Clone)]
pub(crate) struct Teller {
    blob: usize,
    /// Bytes that are done and not told yet.
    untold: Arc<AtomicU64>,
    events: Sender<(usize, Event)>,
    stopped: Arc<AtomicBool>,
}

impl Teller {
    fn tell(&self, event: Event) {
        // Nobody listens any more once the verb is over.
        let _ = self.events.send((self.blob, event));
    }

    /// The blob is moved from an offset on.
    pub(crate) fn moves(&self, offset: u64) {
        self.untold.store(0, Ordering::Relaxed);
        self.tell(Event::Moves(offset));
    }

    /// So many more bytes are done.
    pub(crate) fn advance(&self, bytes: u64) {
        let untold = self.untold.fetch_add(bytes, Ordering::Relaxed);
        if untold.saturating_add(bytes) >= STEP {
            self.tell(Event::Advanced(self.untold.swap(0, Ordering::Relaxed)));
        }
    }

    /// The blob is done.
    fn done(&self) {
        let rest = self.untold.swap(0, Ordering::Relaxed);
        if rest > 0 {
            self.tell(Event::Advanced(rest));
        }
        self.tell(Event::Done);
    }

    /// Nothing has to be moved.
    pub(crate) fn settled(&self, how: Settled) {
        self.tell(Event::Settled(how));
    }

    /// A reader that tells what is read, and ends when another blob has failed.
    pub(crate) fn reader(&self, inner: impl Read + Send + 'static) -> Box<dyn Read + Send> {
        Box::new(Told {
            inner,
            teller: self.clone(),
        })
    }
}

struct Told<R> {
    inner: R,
    teller: Teller,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.teller.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("another blob failed"));
        }
        let count = self.inner.read(buffer)?;
        if count > 0 {
            self.teller.advance(count as u64);
        }
        Ok(count)
    }
}

/// What to do with blobs, and what to call it.
pub(crate) struct Work<'w, T> {
    /// What is shown of it.
    pub(crate) action: Action,
    /// The blob that an item is about.
    pub(crate) blob: fn(&T) -> &Descriptor,
    /// Does it. The rest is given up when it fails.
    pub(crate) act: &'w (dyn Fn(&T, &Teller) -> Result<()> + Sync),
}

impl<T: Sync> Work<'_, T> {
    /// Does it to every item, the first ones first. Progress is told by the caller's thread alone; all
    /// other threads have ended when this returns.
    ///
    /// # Errors
    /// The first fault.
    pub(crate) fn run(&self, items: &[T], progress: &dyn Progress) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stopped = Arc::new(AtomicBool::new(false));
        let fault: Mutex<Option<Error>> = Mutex::new(None);
        let (events, heard) = mpsc::channel();
        let work = |events: Sender<(usize, Event)>| {
            while !stopped.load(Ordering::Relaxed) {
                let blob = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(blob) else { return };
                let teller = Teller {
                    blob,
                    untold: Arc::default(),
                    events: events.clone(),
                    stopped: Arc::clone(&stopped),
                };
                match (self.act)(item, &teller) {
                    Ok(()) => teller.done(),
                    Err(error) => {
                        // Later faults follow from the first.
                        let mut first = fault.lock().unwrap_or_else(PoisonError::into_inner);
                        first.get_or_insert(error);
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..items.len().min(AT_ONCE) {
                let events = events.clone();
                scope.spawn(|| work(events));
            }
            drop(events);
            self.show(items, &heard, progress);
        });
        match fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Shows what is told until nobody is left to tell.
    fn show(&self, items: &[T], heard: &Receiver<(usize, Event)>, progress: &dyn Progress) {
        let mut tasks: Vec<Option<Box<dyn Task + '_>>> = items.iter().map(|_| None).collect();
        for (at, event) in heard {
            let blob = (self.blob)(&items[at]);
            let task = &mut tasks[at];
            match event {
                Event::Moves(offset) => task
                    .get_or_insert_with(|| {
                        progress.blob(&blob.digest, self.action, Some(blob.size))
                    })
                    .resume(offset),
                Event::Advanced(bytes) => {
                    if let Some(task) = task {
                        task.advance(bytes);
                    }
                }
                Event::Settled(how) => progress.settled(&blob.digest, self.action, &how),
                Event::Done => {
                    if let Some(task) = task.take() {
                        task.finish();
                    }
                }
            }
        }
    }
}

/// Does something, and shows that it is done if that takes its time.
pub(crate) fn unless_quick<T: Send>(
    progress: &dyn Progress,
    what: &str,
    act: impl FnOnce() -> T + Send,
) -> T {
    const QUICK: Duration = Duration::from_millis(300);
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            // Dropped when it is done, however it went.
            let _done = done;
            act()
        });
        let task = match is_done.recv_timeout(QUICK) {
            Err(RecvTimeoutError::Timeout) => Some(progress.task(what, None)),
            _ => None,
        };
        let outcome = thread.join();
        if let Some(task) = task {
            task.finish();
        }
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sees to it that threads which a verb started are gone when it returns: a container is started by a
/// process with one thread. A thread that was joined may be a moment in the kernel yet.
pub(crate) struct Alone(Option<usize>);

impl Alone {
    /// From here on.
    pub(crate) fn from_here() -> Self {
        Self(threads())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        const LONGEST: Duration = Duration::from_millis(100);
        let started = Instant::now();
        // A caller with threads of its own may start some meanwhile: it is not waited for long.
        while threads() > self.0 && started.elapsed() < LONGEST {
            thread::yield_now();
        }
    }
}

/// Threads of this process.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::Kind;

    /// Keeps what it is told.
    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Kept {
        fn keep(&self, line: String) {
            self.0.lock().unwrap().push(line);
        }

        fn sorted(&self) -> Vec<String> {
            let mut lines = self.0.lock().unwrap().clone();
            lines.sort();
            lines
        }
    }

    struct KeptTask<'k>(&'k Kept, String);

    impl Progress for Kept {
        fn task(&self, name: &str, total: Option<u64>) -> Box<dyn Task + '_> {
            self.keep(format!("{name} {total:?}"));
            Box::new(KeptTask(self, name.to_owned()))
        }

        fn settled(&self, blob: &smidge_image::Digest, _action: Action, how: &Settled) {
            self.keep(format!("{}: {how:?}", blob.short()));
        }

        fn line(&self, _text: &str) {}

        fn inherit_stderr(&self) -> bool {
            false
        }
    }

    impl Task for KeptTask<'_> {
        fn advance(&self, bytes: u64) {
            self.0.keep(format!("{} +{bytes}", self.1));
        }

        fn resume(&self, bytes: u64) {
            self.0.keep(format!("{} ={bytes}", self.1));
        }

        fn finish(&self) {
            self.0.keep(format!("{} done", self.1));
        }
    }

    fn blobs(count: u8) -> Vec<Descriptor> {
        let blob = |number| Descriptor::of("application/octet-stream", &[number]);
        (0..count).map(blob).collect()
    }

    fn run(
        items: &[Descriptor],
        progress: &dyn Progress,
        act: &(dyn Fn(&Descriptor, &Teller) -> Result<()> + Sync),
    ) -> Result<()> {
        let work = Work {
            action: Action::Pull,
            blob: |item| item,
            act,
        };
        work.run(items, progress)
    }

    #[test]
    fn progress_is_told_blob_by_blob() {
        let kept = Kept::default();
        let items = blobs(2);
        run(&items, &kept, &|item, teller| {
            if *item == items[1] {
                teller.settled(Settled::Exists);
                return Ok(());
            }
            teller.moves(7);
            let mut bytes = Vec::new();
            let mut reader = teller.reader(&b"abc"[..]);
            reader.read_to_end(&mut bytes).unwrap();
            Ok(())
        })
        .unwrap();
        let (first, second) = (items[0].digest.short(), items[1].digest.short());
        let mut expected = vec![
            format!("{first}: Pulling Some(1)"),
            format!("{first}: Pulling =7"),
            format!("{first}: Pulling +3"),
            format!("{first}: Pulling done"),
            format!("{second}: Exists"),
        ];
        expected.sort();
        assert_eq!(kept.sorted(), expected);
    }

    #[test]
    fn four_move_at_once() {
        let all_there = Barrier::new(AT_ONCE);
        run(&blobs(AT_ONCE as u8), &crate::Silent, &|_, _| {
            // Returns only once all have come.
            all_there.wait();
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn the_first_fault_ends_the_rest() {
        let items = blobs(20);
        let started = AtomicUsize::new(0);
        let fault = run(&items, &crate::Silent, &|item, teller| {
            started.fetch_add(1, Ordering::Relaxed);
            if *item == items[0] {
                return Err(Error::new(Kind::Host, "the first"));
            }
            // Endless, unless it is stopped.
            let mut endless = teller.reader(io::repeat(0));
            match io::copy(&mut endless, &mut io::sink()) {
                Ok(_) => Ok(()),
                Err(_) => Err(Error::new(Kind::Host, "a later one")),
            }
        });
        assert_eq!(fault.unwrap_err().message(), "the first");
        assert!(started.into_inner() <= AT_ONCE);
    }

    #[test]
    fn what_takes_its_time_is_shown() {
        let kept = Kept::default();
        assert_eq!(unless_quick(&kept, "waiting", || 5), 5);
        assert_eq!(kept.sorted(), [""; 0]);
        // Goes on once it is shown, so that the test does not depend on how long that takes.
        let shown = || {
            while kept.0.lock().unwrap().is_empty() {
                thread::yield_now();
            }
        };
        unless_quick(&kept, "waiting", shown);
        assert_eq!(kept.sorted(), ["waiting None", "waiting done"]);
    }

    #[test]
    fn nothing_to_do_is_done() {
        run(&[], &crate::Silent, &|_, _| Ok(())).unwrap();
    }
}
