//! `--chmod`: octal modes, and the symbolic ones of chmod(1), as BuildKit reads them.
//!
//! Where nobody is named (`+x`) everybody is meant: as elsewhere in a build, no umask counts. `X` goes
//! by what the file was before, as in BSD's `setmode`(3), from which BuildKit's parser comes.

/// A mode that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a mode")]
pub(super) struct Malformed(String);

/// What becomes of a file's mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chmod {
    /// It becomes this one.
    Octal(u32),
    /// It is changed, step by step.
    Symbolic(Vec<Change>),
}

/// One step: who, what, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The bits that may change.
    who: u32,
    operation: Operation,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    /// Clears the bits of `who` first.
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Bits(u32),
    /// `X`: the right to execute, for directories and what somebody may execute.
    ExecuteIfAny,
    /// The rights that user (6), group (3) or others (0) have: how far they are from the lowest bits.
    Copy(u32),
}

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;
/// Everything but the sticky bit, which only `t` touches.
const ALL: u32 = 0o6777;

impl Chmod {
    /// Reads a mode: `755`, `u=rwX,go-w`.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed(text.to_owned());
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| malformed())?;
            return (mode <= 0o7777)
                .then_some(Self::Octal(mode))
                .ok_or_else(malformed);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            read_clause(clause, &mut changes).ok_or_else(malformed)?;
        }
        Ok(Self::Symbolic(changes))
    }

    /// The new mode of a file or directory.
    pub(super) fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => {
                let executable = directory || mode & EXECUTE != 0;
                let step = |now, change: &Change| change.apply(now, executable);
                changes.iter().fold(mode & 0o7777, step)
            }
        }
    }
}

impl Change {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        let bits = match self.what {
            What::Bits(bits) => bits & self.who,
            What::ExecuteIfAny if executable => EXECUTE & self.who,
            What::ExecuteIfAny => 0,
            What::Copy(shift) => ((mode >> shift & 7) * 0o111) & self.who,
        };
        let cleared = match self.what {
            // What is copied are rights, and nothing else goes.
            What::Copy(_) => self.who & 0o777,
            _ => self.who,
        };
        match self.operation {
            Operation::Add => mode | bits,
            Operation::Remove => mode & !bits,
            Operation::Set => mode & !cleared | bits,
        }
    }
}

/// Reads `[ugoa]*([-+=][rwxXst]*|[-+=][ugo])+`.
fn read_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let named = &clause[..clause.len() - actions.len()];
    let who = named.bytes().fold(0, |who, name| {
        who | match name {
            b'u' => 0o4700,
            b'g' => 0o2070,
            b'o' => 0o0007,
            _ => ALL,
        }
    });
    // Others alone have neither set-id bits nor the sticky one.
    let special = who == 0 || who & !0o007 != 0;
    let who = if who == 0 { ALL } else { who };
    let mut rest = actions;
    if rest.is_empty() {
        return None;
    }
    while let Some(first) = rest.chars().next() {
        let operation = match first {
            '+' => Operation::Add,
            '-' => Operation::Remove,
            '=' => Operation::Set,
            _ => return None,
        };
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        read_rights(&rest[..end], who, special, operation, changes)?;
        rest = &rest[end..];
    }
    Some(())
}

fn read_rights(
    rights: &str,
    who: u32,
    special: bool,
    operation: Operation,
    changes: &mut Vec<Change>,
) -> Option<()> {
    let mut bits = 0;
    let mut others = Vec::new();
    for right in rights.bytes() {
        match right {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= EXECUTE,
            b's' if special => bits |= SET_ID,
            b't' if special => bits |= STICKY,
            b's' | b't' => {}
            b'X' => others.push(What::ExecuteIfAny),
            b'u' => others.push(What::Copy(6)),
            b'g' => others.push(What::Copy(3)),
            b'o' => others.push(What::Copy(0)),
            _ => return None,
        }
    }
    let only_copies = matches!(others[..], [What::Copy(_)]) && bits == 0;
    if !only_copies {
        changes.push(Change {
            who: who | bits & STICKY,
            operation,
            what: What::Bits(bits),
        });
    }
    changes.extend(others.into_iter().map(|what| Change {
        who,
        // What stands beside it has cleared the rest already.
        operation: match operation {
            Operation::Set if !only_copies => Operation::Add,
            operation => operation,
        },
        what,
    }));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_says() {
        // mode, before, after for a file, after for a directory.
        let cases = [
            ("755", 0o644, 0o755, 0o755),
            ("0", 0o777, 0, 0),
            ("4711", 0o644, 0o4711, 0o4711),
            ("u+x", 0o644, 0o744, 0o744),
            ("+x", 0o644, 0o755, 0o755),
            ("a+x,go-w", 0o666, 0o755, 0o755),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("u=rwX,go=rX", 0o100, 0o755, 0o755),
            ("a=rX", 0o640, 0o444, 0o555),
            ("=rw,+X", 0o750, 0o777, 0o777),
            ("=rw,+X", 0o640, 0o666, 0o777),
            ("go=", 0o777, 0o700, 0o700),
            ("go=u-w", 0o700, 0o755, 0o755),
            ("g=u", 0o6700, 0o6770, 0o6770),
            ("u=g", 0o4070, 0o4070 | 0o700, 0o4770),
            ("o-g", 0o055, 0o050, 0o050),
            ("g+o", 0o705, 0o755, 0o755),
            ("+t", 0o755, 0o1755, 0o1755),
            ("-t", 0o1777, 0o777, 0o777),
            ("a=rwx", 0o7000, 0o1777, 0o1777),
            ("u+s", 0o755, 0o4755, 0o4755),
            ("g+s", 0o755, 0o2755, 0o2755),
            ("+s", 0o755, 0o6755, 0o6755),
            ("o+s", 0o755, 0o755, 0o755),
            ("u=rws", 0o1755, 0o5655, 0o5655),
            ("ug+w,o=", 0o755, 0o770, 0o770),
            ("u+r-w+x", 0o200, 0o500, 0o500),
            ("a-x,a+X", 0o755, 0o755, 0o755),
        ];
        for (text, before, file, directory) in cases {
            let mode = Chmod::parse(text).unwrap();
            let shown = |mode: u32| format!("{mode:o}");
            assert_eq!(
                shown(mode.apply(before, false)),
                shown(file),
                "{text} {before:o}"
            );
            assert_eq!(
                shown(mode.apply(before, true)),
                shown(directory),
                "{text} dir"
            );
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in [
            "", "888", "10000", "0x1", "u", "u+q", "u+x,", ",u+x", "x", "755,u+x", "u +x", "+é",
        ] {
            assert_eq!(
                Chmod::parse(text),
                Err(Malformed(text.to_owned())),
                "{text}"
            );
        }
    }
}
