//! The caller's terminal, made raw for as long as it stands for the program's, and the keys that detach.

use std::sync::{Mutex, Once, PoisonError};

use rustix::stdio;
use rustix::termios::{self, OptionalActions, Termios, Winsize};

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

impl Size {
    /// The size of the caller's terminal; if it has none, that of the classic one.
    pub(crate) fn of_caller() -> Self {
        [stdio::stdin(), stdio::stdout(), stdio::stderr()]
            .into_iter()
            .find_map(|fd| termios::tcgetwinsize(fd).ok())
            .filter(|size| size.ws_row > 0 && size.ws_col > 0)
            .map_or(
                Self {
                    rows: 24,
                    columns: 80,
                },
                |size| Self {
                    rows: size.ws_row,
                    columns: size.ws_col,
                },
            )
    }

    pub(crate) fn winsize(self) -> Winsize {
        Winsize {
            ws_row: self.rows,
            ws_col: self.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// How the caller's terminal was before it was made raw. Kept where a panic can find it: release
/// builds abort on one, and then nothing is dropped.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the caller's terminal raw.
///
/// # Drop
/// Restores it.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes standard input raw; `None` if it is not a terminal.
    pub(crate) fn enter() -> Option<Self> {
        let saved = termios::tcgetattr(stdio::stdin()).ok()?;
        let mut raw = saved.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
        restore_on_panic();
        let guard = Self(());
        termios::tcsetattr(stdio::stdin(), OptionalActions::Drain, &raw).ok()?;
        Some(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Not locked by anybody who could be waiting for us, except in a panic inside of `lock`.
    if let Ok(mut saved) = SAVED.try_lock()
        && let Some(termios) = saved.take()
    {
        let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Drain, &termios);
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
        }));
    });
}

/// Looks for the keys that detach among what is typed.
#[derive(Debug)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them have been typed and are held back.
    typed: usize,
}

impl DetachKeys {
    /// No keys: never detaches.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, typed: 0 }
    }

    /// Adds what the program is to get of `input` to `output`: everything but the keys, which are
    /// held back until it is clear whether they are complete. True if they are.
    pub(crate) fn filter(&mut self, input: &[u8], output: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            output.extend_from_slice(input);
            return false;
        }
        for &byte in input {
            while self.typed > 0 && self.keys[self.typed] != byte {
                let shorter = self.overlap();
                output.extend_from_slice(&self.keys[..self.typed - shorter]);
                self.typed = shorter;
            }
            if self.keys[self.typed] != byte {
                output.push(byte);
                continue;
            }
            self.typed += 1;
            if self.typed == self.keys.len() {
                self.typed = 0;
                return true;
            }
        }
        false
    }

    /// The length of the longest proper end of what is held back that begins the keys anew.
    fn overlap(&self) -> usize {
        let held = &self.keys[..self.typed];
        (0..self.typed)
            .rev()
            .find(|length| held.ends_with(&self.keys[..*length]))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_and_anything_else_is_passed_on() {
        type Case<'a> = (&'a [u8], &'a [&'a [u8]], &'a [u8], bool);
        let cases: [Case<'_>; 12] = [
            (b"\x10\x11", &[b"ls\r"], b"ls\r", false),
            (b"\x10\x11", &[b"\x10\x11"], b"", true),
            (b"\x10\x11", &[b"a\x10", b"\x11b"], b"a", true),
            (b"\x10\x11", &[b"\x10"], b"", false),
            (b"\x10\x11", &[b"\x10", b"x"], b"\x10x", false),
            (b"\x10\x11", &[b"\x10\x10\x11"], b"\x10", true),
            (b"\x10\x11", &[b"\x11\x10"], b"\x11", false),
            (b"aab", &[b"aaab"], b"a", true),
            (b"abab", &[b"abaabab"], b"aba", true),
            (b"abac", &[b"ababac"], b"ab", true),
            (b"x", &[b"x"], b"", true),
            (b"", &[b"\x10\x11"], b"\x10\x11", false),
        ];
        for (keys, inputs, passed_on, detached) in cases {
            let mut parser = DetachKeys::new(keys.to_vec());
            let mut output = Vec::new();
            let found = inputs.iter().any(|input| parser.filter(input, &mut output));
            assert_eq!(
                (output.as_slice(), found),
                (passed_on, detached),
                "{keys:?} {inputs:?}"
            );
        }
    }
}
