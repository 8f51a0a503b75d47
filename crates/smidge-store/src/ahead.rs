//! Reading in a thread of its own, a little ahead of whoever wants the bytes.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// Bytes that are handed over at a time, and how many times that may wait to be taken.
const CHUNK: usize = 1 << 18;
const WAITING: usize = 4;

/// Lets `consume` read what another thread reads meanwhile from the reader that it opens, so that
/// undoing a compression and using the outcome take two processors.
///
/// # Errors
/// When the thread cannot be started. What goes wrong with the reader, `consume` sees.
pub(crate) fn read_ahead<R: Read, T>(
    open: impl FnOnce() -> io::Result<R> + Send,
    consume: impl FnOnce(&mut dyn Read) -> T,
) -> io::Result<T> {
    let (sender, full) = sync_channel(WAITING);
    let (empty, recycled) = channel();
    thread::scope(|scope| {
        let fill = move || match open() {
            Ok(reader) => fill(reader, &sender, &recycled),
            // Nobody may be there any more to hear it.
            Err(error) => drop(sender.send(Err(error))),
        };
        thread::Builder::new().spawn_scoped(scope, fill)?;
        // Gone when `consume` is done: then the thread finds nobody to hand anything to.
        let mut ahead = Ahead {
            full,
            empty,
            chunk: Vec::new(),
            position: 0,
        };
        Ok(consume(&mut ahead))
    })
}

fn fill(
    mut reader: impl Read,
    full: &SyncSender<io::Result<Vec<u8>>>,
    recycled: &Receiver<Vec<u8>>,
) {
    loop {
        let mut chunk = recycled.try_recv().unwrap_or_default();
        chunk.clear();
        let read = (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk);
        let end = read.as_ref().map_or(true, |read| *read == 0);
        // What came before a failure is good.
        if !chunk.is_empty() && full.send(Ok(chunk)).is_err() {
            return;
        }
        if let Err(error) = read {
            let _ = full.send(Err(error));
        }
        if end {
            return;
        }
    }
}

/// The consumer's side.
struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() {
            let Ok(next) = self.full.recv() else {
                return Ok(0);
            };
            let used = std::mem::replace(&mut self.chunk, next?);
            self.position = 0;
            let _ = self.empty.send(used);
        }
        let rest = &self.chunk[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }

    #[test]
    fn bytes_and_failures_come_in_order() {
        let bytes: Vec<u8> = (0..3 * CHUNK + 7).map(|n| (n % 251) as u8).collect();
        let mut read = Vec::new();
        let failed = read_ahead(
            || Ok(bytes.as_slice().chain(Failing)),
            |ahead| ahead.read_to_end(&mut read),
        );
        assert_eq!(failed.unwrap().unwrap_err().to_string(), "broken");
        assert_eq!(read.len(), 3 * CHUNK + 7);
        assert!(
            read.iter()
                .enumerate()
                .all(|(n, byte)| *byte == (n % 251) as u8)
        );
    }

    #[test]
    fn whoever_has_enough_need_not_wait_for_the_rest() {
        let mut first = [0; 2];
        let got = read_ahead(|| Ok(io::repeat(7)), |ahead| ahead.read_exact(&mut first));
        got.unwrap().unwrap();
        assert_eq!(first, [7, 7]);
    }
}
