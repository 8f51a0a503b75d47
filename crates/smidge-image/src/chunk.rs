//! Input cut into chunks that are compressed side by side.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::thread::{self, ScopedJoinHandle};

/// The input, cut into chunks of one size but for the last.
pub(crate) struct Chunks<'i> {
    input: &'i mut dyn Read,
    size: u64,
    ahead: VecDeque<Vec<u8>>,
    started: bool,
}

impl<'i> Chunks<'i> {
    pub(crate) fn new(input: &'i mut dyn Read, size: u64) -> Self {
        Self {
            input,
            size,
            ahead: VecDeque::new(),
            started: false,
        }
    }

    /// Whether there are no more than `count` chunks in all. Asked before the first is taken.
    pub(crate) fn are_at_most(&mut self, count: usize) -> io::Result<bool> {
        while self.ahead.len() <= count {
            match self.read()? {
                None => return Ok(true),
                Some(chunk) => self.ahead.push_back(chunk),
            }
        }
        Ok(false)
    }

    /// Compresses every chunk, on so many threads, and writes what comes out in the order of the
    /// input.
    pub(crate) fn compress(
        mut self,
        threads: usize,
        compress: impl Fn(&[u8]) -> io::Result<Vec<u8>> + Sync,
        output: &mut dyn Write,
    ) -> io::Result<()> {
        let threads = threads.max(1);
        let compress = &compress;
        thread::scope(|scope| {
            let mut running = VecDeque::with_capacity(threads);
            while let Some(chunk) = self.next()? {
                if running.len() == threads {
                    write_first(&mut running, output)?;
                }
                let task = move || compress(&chunk);
                running.push_back(thread::Builder::new().spawn_scoped(scope, task)?);
            }
            while !running.is_empty() {
                write_first(&mut running, output)?;
            }
            Ok(())
        })
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.ahead.pop_front() {
            None => self.read(),
            chunk => Ok(chunk),
        }
    }

    /// The next chunk of the input. The first may be empty: nothing, compressed, is something.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut chunk = Vec::new();
        self.input.take(self.size).read_to_end(&mut chunk)?;
        let first = !std::mem::replace(&mut self.started, true);
        Ok((first || !chunk.is_empty()).then_some(chunk))
    }
}

type Running<'scope> = ScopedJoinHandle<'scope, io::Result<Vec<u8>>>;

fn write_first(running: &mut VecDeque<Running<'_>>, output: &mut dyn Write) -> io::Result<()> {
    let Some(first) = running.pop_front() else {
        return Ok(());
    };
    let compressed = first
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    output.write_all(&compressed)
}
