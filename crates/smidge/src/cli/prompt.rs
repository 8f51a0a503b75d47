//! Questions on the terminal.

use std::io::{self, Write as _};

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use smidge_engine::{Error, Kind};

/// Asks for a line of text.
pub(super) fn line(question: &str) -> Result<String, Error> {
    ask(question)?;
    let mut text = String::new();
    let read = io::stdin().read_line(&mut text).map_err(unreadable)?;
    match read {
        // End of input, as Ctrl-D gives it.
        0 => Err(given_up()),
        _ => Ok(text.trim().to_owned()),
    }
}

/// Asks for something that nobody may see, also not whoever looks at the screen.
pub(super) fn secret(question: &str) -> Result<String, Error> {
    ask(question)?;
    let hidden = Hidden::new().map_err(unreadable)?;
    let typed = typed(io::stdin().lock());
    drop(hidden);
    ask("\n")?;
    typed
}

/// Questions are no data: they go where errors go.
fn ask(text: &str) -> Result<(), Error> {
    let mut stderr = io::stderr();
    let written = stderr.write_all(text.as_bytes());
    written
        .and_then(|()| stderr.flush())
        .map_err(|source| Error::io("cannot write to the terminal", source))
}

fn unreadable(source: impl Into<io::Error>) -> Error {
    Error::io("cannot read from the terminal", source.into())
}

fn given_up() -> Error {
    Error::new(Kind::Input, "no answer")
}

/// Reads what is typed, key by key, up to the end of the line.
fn typed(input: impl io::BufRead) -> Result<String, Error> {
    let mut text: Vec<u8> = Vec::new();
    for byte in input.bytes() {
        match byte.map_err(unreadable)? {
            b'\r' | b'\n' => break,
            // Ctrl-C, and Ctrl-D on an empty line.
            0x03 => return Err(given_up()),
            0x04 if text.is_empty() => return Err(given_up()),
            0x04 => break,
            // Backspace takes a character back, which may be several bytes; Ctrl-U takes all.
            0x08 | 0x7f => while text.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            0x15 => text.clear(),
            byte => text.push(byte),
        }
    }
    String::from_utf8(text).map_err(|_| Error::new(Kind::Input, "the answer is not UTF-8"))
}

/// The terminal without echo, and without keys that would end the process: it would leave the
/// terminal as it is. Drop puts it back.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        let keys = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        hidden.local_modes.remove(keys);
        hidden.input_modes.insert(InputModes::ICRNL);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Who took the terminal away does not need it back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_corrected() {
        let read = |keys: &[u8]| typed(keys).ok();
        assert_eq!(read(b"secret\n").as_deref(), Some("secret"));
        assert_eq!(read(b"secrt\x7fet\nrest").as_deref(), Some("secret"));
        assert_eq!(
            read("sé\x7f\x7f\x7f\x7fx\n".as_bytes()).as_deref(),
            Some("x")
        );
        assert_eq!(read(b"wrong\x15right\r").as_deref(), Some("right"));
        assert_eq!(read(b"half\x04").as_deref(), Some("half"));
        assert_eq!(read(b" spaces count \n").as_deref(), Some(" spaces count "));
        for given_up in [&b"\x03"[..], b"some\x03", b"\x04", b"\xff\n"] {
            assert_eq!(read(given_up), None, "{given_up:?}");
        }
    }
}
