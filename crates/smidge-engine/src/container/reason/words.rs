//! What programs say before they die, as far as it tells why.

/// What a program's last words tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// The loader of glibc or musl, or somebody who loads libraries later, misses one.
    Library { name: String, by: Option<String> },
    /// The loader misses a version of a library's symbols.
    Version {
        version: String,
        library: String,
        by: String,
    },
    /// The loader misses a symbol.
    Symbol { symbol: String, by: String },
    /// The C library, or the language's, wants a newer processor.
    Processor,
    /// Nobody that the program trusts vouches for its peer.
    Certificate,
    /// The directory for temporary files is missing, or not to be written to.
    Temporary { path: String, denied: bool },
    /// A file system cannot be written to.
    ReadOnly,
    /// A file system is full: the one for shared memory, perhaps.
    Full { shared_memory: bool },
    /// A time zone is unknown.
    TimeZone(String),
    /// The program's user has no entry in `/etc/passwd`.
    Account,
    /// A name of the network cannot be resolved, or nothing can be reached.
    Unreachable,
    /// The kernel does not permit something, and a word of the line may be the call.
    Refused(Vec<String>),
    /// The kernel does not understand a program that was to be executed.
    Format(String),
    /// A shell, or `env`, finds no program of this name.
    Command(String),
    /// A shell may not execute a program.
    NotExecutable(String),
}

/// Says what the last words of a program that ended with `code` tell: the last line that tells something,
/// and that line, as far as it is worth showing.
pub(super) fn understand(lines: &[String], code: i32) -> Option<(Words, String)> {
    /// Letters that are shown.
    const SHOWN: usize = 200;
    lines.iter().rev().find_map(|line| {
        let words = loader(line)
            .or_else(|| system(line))
            .or_else(|| shell(line, code))?;
        Some((words, line.chars().take(SHOWN).collect()))
    })
}

/// A name like those of files. Anybody may have written the line: what else is in it must get neither into
/// hints, which people copy, nor to terminals.
fn name(text: &str) -> Option<String> {
    /// As long as a path can be.
    const LONGEST: usize = 4096;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-/".contains(&b);
    let is_name =
        (1..=LONGEST).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(is_plain);
    is_name.then(|| text.to_owned())
}

/// The part of a line before a text, and the part behind it.
fn around<'a>(line: &'a str, text: &str) -> Option<(&'a str, &'a str)> {
    let at = line.find(text)?;
    Some((&line[..at], &line[at + text.len()..]))
}

/// What stands between two texts.
fn between<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = around(line, start)?;
    around(rest, end).map(|(found, _)| found)
}

/// The last word of a text, without the punctuation around it.
fn last_word(text: &str) -> Option<&str> {
    let word = text.trim_end().rsplit([' ', '\t', '(', '[']).next()?;
    let word = word.trim_matches(|c: char| matches!(c, ':' | '\'' | '"' | '`' | '‘' | '’' | ','));
    (!word.is_empty()).then_some(word)
}

fn loader(line: &str) -> Option<Words> {
    if let Some((before, after)) = around(line, "Error loading shared library ") {
        let _ = before;
        let (library, rest) = around(after, ": ")?;
        return Some(Words::Library {
            name: name(library)?,
            by: between(rest, "(needed by ", ")").and_then(name),
        });
    }
    if let Some((before, _)) = around(line, ": cannot open shared object file") {
        let by = around(before, ": error while loading shared libraries: ").map(|(by, _)| by);
        return Some(Words::Library {
            name: name(last_word(before)?)?,
            by: by.and_then(name),
        });
    }
    if let Some((before, after)) = around(line, ": version `") {
        let (version, rest) = around(after, "' not found")?;
        return Some(Words::Version {
            version: name(version)?,
            library: name(last_word(before)?)?,
            by: name(between(rest, "(required by ", ")")?)?,
        });
    }
    if let Some((_, rest)) = around(line, ": symbol lookup error: ") {
        let (by, symbol) = around(rest, ": undefined symbol: ")?;
        let symbol = symbol.split([',', ' ']).next()?;
        return Some(Words::Symbol {
            symbol: name(symbol)?,
            by: name(by)?,
        });
    }
    if let Some((_, rest)) = around(line, "Error relocating ") {
        let (by, rest) = around(rest, ": ")?;
        let (symbol, _) = around(rest, ": symbol not found")?;
        return Some(Words::Symbol {
            symbol: name(symbol)?,
            by: name(by)?,
        });
    }
    let processor = [
        "CPU ISA level is lower than required",
        "CPU does not support x86-64-v",
        "can only be run on AMD64 processors with",
    ];
    processor
        .iter()
        .any(|text| line.contains(text))
        .then_some(Words::Processor)
}

/// Texts, in small letters, that say the same in many languages' libraries.
const CERTIFICATE: [&str; 9] = [
    "x509: certificate signed by unknown authority",
    "x509: failed to load system roots",
    "certificate verify failed",
    "unable to get local issuer certificate",
    "self-signed certificate in certificate chain",
    "unknownissuer",
    "no ca certificates were loaded",
    "pkix path building failed",
    "error setting certificate ",
];
const ACCOUNT: [&str; 6] = [
    "could not look up effective user id",
    "no user exists for uid",
    "unknown userid",
    "cannot find name for user id",
    "getpwuid",
    "no matching entries in passwd file",
];
const UNREACHABLE: [&str; 7] = [
    "no such host",
    "temporary failure in name resolution",
    "could not resolve host",
    "name or service not known",
    "eai_again",
    "getaddrinfo enotfound",
    "network is unreachable",
];

fn system(line: &str) -> Option<Words> {
    let small = line.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|text| small.contains(text));
    if has(&CERTIFICATE) {
        return Some(Words::Certificate);
    }
    if has(&["no space left on device"]) {
        let shared_memory = has(&["/dev/shm", "shared memory"]);
        return Some(Words::Full { shared_memory });
    }
    let missing = [
        "no such file or directory",
        "does not exist",
        "no usable temporary directory",
    ];
    if let Some(path) = temporary(line).filter(|_| has(&missing)) {
        let denied = false;
        return Some(Words::Temporary { path, denied });
    }
    if let Some(path) = temporary(line).filter(|_| has(&["permission denied"])) {
        let denied = true;
        return Some(Words::Temporary { path, denied });
    }
    if has(&["read-only file system"]) {
        return Some(Words::ReadOnly);
    }
    if let Some(zone) = ["unknown time zone ", "No time zone found with key "]
        .iter()
        .find_map(|text| around(line, text))
    {
        let zone = zone.1.split([' ', '"', '\'']).next()?;
        return Some(Words::TimeZone(name(zone)?));
    }
    if has(&ACCOUNT) {
        return Some(Words::Account);
    }
    if has(&UNREACHABLE) {
        return Some(Words::Unreachable);
    }
    if let Some((before, _)) = around(&small, "exec format error") {
        let before = &line[..line.floor_char_boundary(before.len())];
        return Some(Words::Format(name(last_word(before)?)?));
    }
    if has(&["operation not permitted", "function not implemented"]) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let words = small.split(|c: char| !is_name(c));
        return Some(Words::Refused(words.map(str::to_owned).collect()));
    }
    None
}

/// The path in `/tmp` or `/var/tmp` that a line names.
fn temporary(line: &str) -> Option<String> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+'));
    line.split(end)
        .find(|word| *word == "/tmp" || word.starts_with("/tmp/"))
        .map(|word| word.trim_end_matches('.').to_owned())
}

/// `sh: 1: foo: not found`, `foo: command not found`, `env: 'foo': No such file or directory`.
fn shell(line: &str, code: i32) -> Option<Words> {
    let ends = |texts: &[&str]| {
        let text = texts.iter().find(|text| line.ends_with(**text))?;
        let word = line[..line.len() - text.len()].rsplit(": ").next()?;
        let word = word.strip_prefix("can't execute ").unwrap_or(word);
        name(last_word(word)?)
    };
    match code {
        127 => ends(&[
            ": command not found",
            ": not found",
            ": No such file or directory",
        ])
        .map(Words::Command),
        126 => ends(&[": Permission denied"]).map(Words::NotExecutable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str, code: i32) -> Option<Words> {
        let lines = ["before".to_owned(), line.to_owned(), "after".to_owned()];
        let (words, shown) = understand(&lines, code)?;
        assert_eq!(shown, line);
        Some(words)
    }

    fn library(name: &str, by: Option<&str>) -> Option<Words> {
        Some(Words::Library {
            name: name.to_owned(),
            by: by.map(str::to_owned),
        })
    }

    #[test]
    fn loaders_are_understood() {
        for (line, expected) in [
            (
                "/app: error while loading shared libraries: libssl.so.3: cannot open shared object file: No such file or directory",
                library("libssl.so.3", Some("/app")),
            ),
            (
                "Error loading shared library libz.so.1: No such file or directory (needed by /usr/bin/x)",
                library("libz.so.1", Some("/usr/bin/x")),
            ),
            (
                "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
                library("libGL.so.1", None),
            ),
            (
                "/app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /app)",
                Some(Words::Version {
                    version: "GLIBC_2.38".to_owned(),
                    library: "/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
                    by: "/app".to_owned(),
                }),
            ),
            (
                "/app: symbol lookup error: /lib/libx.so: undefined symbol: frob, version X_1",
                Some(Words::Symbol {
                    symbol: "frob".to_owned(),
                    by: "/lib/libx.so".to_owned(),
                }),
            ),
            (
                "Error relocating /app: __res_init: symbol not found",
                Some(Words::Symbol {
                    symbol: "__res_init".to_owned(),
                    by: "/app".to_owned(),
                }),
            ),
            (
                "This program can only be run on AMD64 processors with v3 microarchitecture support.",
                Some(Words::Processor),
            ),
        ] {
            assert_eq!(told(line, 127), expected, "{line}");
        }
    }

    #[test]
    fn lines_that_are_made_to_deceive_name_nothing() {
        for line in [
            "x: error while loading shared libraries: lib$(reboot).so: cannot open shared object file: No such file",
            "ImportError: libx.so`;id`: cannot open shared object file",
            "ImportError: --allow-unauthenticated: cannot open shared object file",
            "Error loading shared library \u{1b}[2Jlibz.so.1: No such file (needed by /x)",
            "/a: /lib/libc.so.6: version `GLIBC_2.38\u{202e}' not found (required by /a)",
            "panic: unknown time zone ;id",
        ] {
            assert_eq!(told(line, 1), None, "{line:?}");
        }
        let word = "sh: 1: $(id): not found";
        assert_eq!(told(word, 127), None);
        let by = "lib\u{7}x: error while loading shared libraries: libz.so: cannot open shared object file";
        assert_eq!(told(by, 127), library("libz.so", None));
    }

    #[test]
    fn shells_are_understood_by_their_status() {
        for (line, code, expected) in [
            (
                "sh: 1: foo: not found",
                127,
                Some(Words::Command("foo".to_owned())),
            ),
            (
                "/bin/sh: foo: not found",
                127,
                Some(Words::Command("foo".to_owned())),
            ),
            (
                "bash: line 1: foo: command not found",
                127,
                Some(Words::Command("foo".to_owned())),
            ),
            (
                "env: 'python': No such file or directory",
                127,
                Some(Words::Command("python".to_owned())),
            ),
            (
                "env: can't execute 'python': No such file or directory",
                127,
                Some(Words::Command("python".to_owned())),
            ),
            (
                "sh: ./x: Permission denied",
                126,
                Some(Words::NotExecutable("./x".to_owned())),
            ),
            ("sh: 1: foo: not found", 1, None),
        ] {
            assert_eq!(told(line, code), expected, "{line}");
        }
    }

    #[test]
    fn what_the_system_refused_is_understood() {
        let temporary = |path: &str, denied| {
            let path = path.to_owned();
            Some(Words::Temporary { path, denied })
        };
        for (line, expected) in [
            (
                "Get \"https://x\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                Some(Words::Certificate),
            ),
            (
                "open /tmp/a.txt: no such file or directory",
                temporary("/tmp/a.txt", false),
            ),
            (
                "mktemp: (null): /tmp/tmp.XXXX: Permission denied",
                temporary("/tmp/tmp.XXXX", true),
            ),
            ("touch: /x: Read-only file system", Some(Words::ReadOnly)),
            (
                "panic: unknown time zone Europe/Berlin",
                Some(Words::TimeZone("Europe/Berlin".to_owned())),
            ),
            (
                "dial tcp: lookup example.org: no such host",
                Some(Words::Unreachable),
            ),
            (
                "write: No space left on device",
                Some(Words::Full {
                    shared_memory: false,
                }),
            ),
            ("everything is fine", None),
        ] {
            assert_eq!(told(line, 1), expected, "{line}");
        }
        let Some(Words::Refused(words)) =
            told("unshare: unshare(0x10000000): Operation not permitted", 1)
        else {
            panic!("not understood");
        };
        assert!(words.contains(&"unshare".to_owned()));
    }
}
