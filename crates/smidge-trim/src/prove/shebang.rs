use std::ops::Range;

use super::ScriptSpan;

/// Bytes of a file that the kernel looks at: `BINPRM_BUF_SIZE` since Linux 5.1.
pub(super) const HEAD: usize = 256;

/// The first line of a script as the kernel reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shebang<'h> {
    head: &'h [u8],
    interpreter: Range<usize>,
    /// All that follows, which is one argument.
    argument: Option<Range<usize>>,
}

/// Why a first line names no interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoName {
    /// It does not begin with `#!`, or nothing follows.
    Absent,
    /// The name may go on where the kernel stops reading.
    TooLong,
}

impl<'h> Shebang<'h> {
    /// Reads the first bytes of a file, at most [`HEAD`] of them, as `load_script` in Linux'
    /// `fs/binfmt_script.c` does: blanks are spaces and tabs, a NUL ends a name, a carriage return
    /// is part of it.
    pub(super) fn parse(head: &'h [u8]) -> Result<Self, NoName> {
        if !head.starts_with(b"#!") {
            return Err(NoName::Absent);
        }
        let newline = head.iter().position(|&byte| byte == b'\n');
        let end = newline.unwrap_or(head.len());
        let line = &head[..end];
        let find = |from: usize, wanted: &dyn Fn(u8) -> bool| {
            line[from..]
                .iter()
                .position(|&byte| wanted(byte))
                .map(|at| from + at)
        };
        let start = find(2, &|byte| !is_blank(byte)).ok_or(NoName::Absent)?;
        let stop = match find(start, &|byte| is_blank(byte) || byte == 0) {
            Some(stop) => stop,
            None if newline.is_none() && head.len() >= HEAD => return Err(NoName::TooLong),
            None => end,
        };
        if stop == start {
            return Err(NoName::Absent);
        }
        let last = line
            .iter()
            .rposition(|&byte| !is_blank(byte))
            .map_or(stop, |last| last + 1);
        let ends = find(stop, &|byte| byte == 0).unwrap_or(last);
        let argument = find(stop, &|byte| !is_blank(byte)).filter(|&from| from < ends);
        Ok(Self {
            head,
            interpreter: start..stop,
            argument: argument.map(|from| from..ends),
        })
    }

    /// Path of the interpreter, as it stands.
    pub(super) fn interpreter(&self) -> &'h [u8] {
        &self.head[self.interpreter.clone()]
    }

    /// Where the interpreter is named.
    pub(super) fn span(&self, script: &str) -> Box<ScriptSpan> {
        span(self.head, script, self.interpreter.clone())
    }

    /// The program that `env` is asked for, and where; none if this is not `env`, or if it is asked
    /// for more than to find a program.
    pub(super) fn env_target(&self, script: &str) -> Option<(String, Box<ScriptSpan>)> {
        if self.interpreter().rsplit(|&byte| byte == b'/').next() != Some(b"env") {
            return None;
        }
        let mut range = self.argument.clone()?;
        if self.head[range.clone()].starts_with(b"-S") {
            range = self.first_word(range.start + 2..range.end)?;
        }
        let name = std::str::from_utf8(&self.head[range.clone()]).ok()?;
        let is_plain = !name.starts_with('-') && !name.contains(['=', '\'', '"', '$', '\\']);
        is_plain.then(|| (name.to_owned(), span(self.head, script, range)))
    }

    fn first_word(&self, range: Range<usize>) -> Option<Range<usize>> {
        let text = &self.head[range.clone()];
        let start = text.iter().position(|&byte| !is_blank(byte))?;
        let length = text[start..].iter().position(|&byte| is_blank(byte));
        let length = length.unwrap_or(text.len() - start);
        Some(range.start + start..range.start + start + length)
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The first line of a file, and some of its bytes.
pub(super) fn span(head: &[u8], script: &str, range: Range<usize>) -> Box<ScriptSpan> {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let characters = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().count();
    let range = range.start.min(line.len())..range.end.min(line.len());
    Box::new(ScriptSpan {
        path: script.to_owned(),
        source_line: String::from_utf8_lossy(line).into_owned(),
        column: 1 + characters(&line[..range.start]),
        length: characters(&line[range]).max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expected: Result<(&str, Option<&str>), NoName>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found = Shebang::parse(head).map(|shebang| {
            let argument = shebang.argument.clone().map(|range| text(&head[range]));
            (text(shebang.interpreter()), argument)
        });
        let expected =
            expected.map(|(name, argument)| (name.to_owned(), argument.map(str::to_owned)));
        assert_eq!(found, expected, "{}", head.escape_ascii());
    }

    #[test]
    fn first_lines_are_read_as_the_kernel_reads_them() {
        check(b"#!/bin/sh\n", Ok(("/bin/sh", None)));
        check(b"#! \t/bin/sh \t\necho", Ok(("/bin/sh", None)));
        check(b"#!/bin/sh -e -x  \n", Ok(("/bin/sh", Some("-e -x"))));
        check(b"#!/bin/sh", Ok(("/bin/sh", None)));
        check(b"#!/bin/sh\r\n", Ok(("/bin/sh\r", None)));
        check(b"#!/bin/sh -e\r\n", Ok(("/bin/sh", Some("-e\r"))));
        check(b"#!/bin/sh\0junk\n", Ok(("/bin/sh", None)));
        check(b"#!/bin/sh a\0junk\n", Ok(("/bin/sh", Some("a"))));
        check(b"#!sh\n", Ok(("sh", None)));
        check(b"#!\n/bin/sh", Err(NoName::Absent));
        check(b"#!  \t", Err(NoName::Absent));
        check(b"#!\0", Err(NoName::Absent));
        check(b"#", Err(NoName::Absent));
        check(b"", Err(NoName::Absent));
    }

    #[test]
    fn long_lines_are_cut_where_the_kernel_cuts_them() {
        let long = |length: usize| [b"#!/".as_slice(), &vec![b'a'; length]].concat();
        check(&long(HEAD - 3), Err(NoName::TooLong));
        let mut cut = long(100);
        cut.push(b' ');
        cut.resize(HEAD, b'x');
        let name = format!("/{}", "a".repeat(100));
        check(&cut, Ok((&name, Some(&"x".repeat(HEAD - 104)))));
    }

    #[test]
    fn env_is_asked_for_one_program() {
        for (line, expected) in [
            ("#!/usr/bin/env python3\n", Some(("python3", 16))),
            ("#!/usr/bin/env -S python3 -u\n", Some(("python3", 19))),
            ("#!/usr/bin/env -Sdeno run\n", Some(("deno", 18))),
            ("#!/usr/bin/env python3 -u\n", Some(("python3 -u", 16))),
            ("#!/usr/bin/env bash\r\n", Some(("bash\r", 16))),
            ("#!/usr/bin/env -i sh\n", None),
            ("#!/usr/bin/env A=b\n", None),
            ("#!/usr/bin/env\n", None),
            ("#!/bin/sh python3\n", None),
        ] {
            let shebang = Shebang::parse(line.as_bytes()).unwrap();
            let target = shebang.env_target("/x");
            let found = target
                .as_ref()
                .map(|(name, span)| (name.as_str(), span.column));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn spans_count_characters() {
        let head = "#!/ö/bash\r\n".as_bytes();
        let span = Shebang::parse(head).unwrap().span("/x");
        assert_eq!(
            (span.column, span.length, span.source_line.as_str()),
            (3, 7, "#!/ö/bash")
        );
    }
}
