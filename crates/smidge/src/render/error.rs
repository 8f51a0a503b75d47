//! The one renderer of errors.
//!
//! ```text
//! error: first line
//!   --> file:line:column
//!    |
//!  3 | the line
//!    |     ^^^^ label
//!   fact: value
//!   caused by: the fault below
//! hint: what to do
//! ```
//!
//! The text is the same with and without colours: they are taken out where they are not wanted.

use std::error::Error as _;
use std::fmt::Write as _;

use smidge_engine::container::{Reason, sentence};
use smidge_engine::{Error, Note, Snippet};

use super::control::neutral;

/// Characters of a text that are shown: nobody reads more, and a hostile name may be megabytes.
const LONGEST: usize = 4000;

/// Characters of a longer line that are shown around the fault.
const EXCERPT: usize = 120;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const BLUE: &str = "\x1b[1;34m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Renders an error and what was found beside it. Commands in hints are given under the name that
/// smidge was called by.
pub(crate) fn error(error: &Error, called: &str) -> String {
    let mut out = String::new();
    one(&mut out, error, called);
    for related in error.related() {
        out.push('\n');
        one(&mut out, related, called);
    }
    out
}

/// Renders something that is worth telling but no fault.
pub(crate) fn note(note: &Note, called: &str) -> String {
    let mut out = String::new();
    first_line(&mut out, YELLOW, "note", &renamed(&note.message, called));
    if let Some(place) = &note.snippet {
        snippet(&mut out, place, YELLOW);
    }
    out
}

/// Renders why a program has ended.
pub(crate) fn reason(reason: &Reason, called: &str) -> String {
    let mut out = String::new();
    first_line(&mut out, YELLOW, "note", &sentence(reason));
    for fact in &reason.facts {
        let _ = writeln!(out, "  {}", clean(fact).replace('\n', "\n    "));
    }
    for hint in &reason.hints {
        first_line(&mut out, CYAN, "hint", &renamed(hint, called));
    }
    out
}

fn one(out: &mut String, error: &Error, called: &str) {
    first_line(out, RED, "error", error.message());
    if let Some(place) = error.snippet() {
        snippet(out, place, RED);
    }
    for fact in error.facts() {
        let _ = writeln!(out, "  {}", clean(fact).replace('\n', "\n    "));
    }
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        let _ = writeln!(out, "  caused by: {}", clean(&text).replace('\n', "\n    "));
        source = cause.source();
    }
    for hint in error.hints() {
        first_line(out, CYAN, "hint", &renamed(hint, called));
    }
}

fn first_line(out: &mut String, colour: &str, word: &str, text: &str) {
    let text = clean(text).replace('\n', "\n  ");
    let _ = writeln!(out, "{colour}{word}{PLAIN}{BOLD}:{PLAIN} {text}");
}

fn renamed(text: &str, called: &str) -> String {
    match called {
        "smidge" => text.to_owned(),
        _ => text.replace("`smidge ", &format!("`{called} ")),
    }
}

fn snippet(out: &mut String, place: &Snippet, colour: &str) {
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len() + 1);
    let (source, before) = excerpt(place);
    // The caret stands below what it means whatever the width of a tab.
    let indent: String = source
        .chars()
        .take(before)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let carets = "^".repeat(place.length.clamp(1, LONGEST));
    let label = place
        .label
        .as_deref()
        .map(|l| format!(" {}", clean(l)))
        .unwrap_or_default();
    let file = clean(&place.file);
    let _ = writeln!(
        out,
        "{gutter}{BLUE}-->{PLAIN} {file}:{}:{}",
        place.line, place.column
    );
    let _ = writeln!(out, "{gutter} {BLUE}|{PLAIN}");
    let _ = writeln!(out, " {BLUE}{number} |{PLAIN} {source}");
    let _ = writeln!(
        out,
        "{gutter} {BLUE}|{PLAIN} {indent}{colour}{carets}{label}{PLAIN}"
    );
}

/// What may be shown of a text out of names and files.
fn clean(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => neutral(text),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}… ({more} more characters)", neutral(&text[..end]))
        }
    }
}

/// The part of a line that is shown, and where in it the place begins: all of it, unless it is too
/// long to be read.
fn excerpt(place: &Snippet) -> (String, usize) {
    let before = place.column.saturating_sub(1);
    if place.source_line.chars().nth(LONGEST).is_none() {
        return (neutral(&place.source_line), before);
    }
    let skipped = before.saturating_sub(EXCERPT / 2);
    let part: String = place
        .source_line
        .chars()
        .skip(skipped)
        .take(EXCERPT)
        .collect();
    (format!("…{}…", neutral(&part)), before - skipped + 1)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use smidge_engine::Kind;

    use super::*;

    fn check(fault: &Error, expected: Expect) {
        let styled = error(fault, "smidge");
        expected.assert_eq(&anstream::adapter::strip_str(&styled).to_string());
    }

    fn loader_missing() -> Error {
        Error::new(
            Kind::CannotRun(127),
            "`/server` cannot start: it is dynamically linked, but its loader is not in the image",
        )
        .with_snippet(
            Snippet::new(
                "Dockerfile",
                "FROM scratch\nADD a /\nENTRYPOINT [\"/server\"]\n",
                34,
                43,
            )
            .with_label("ELF x86-64, wants `/lib64/ld-linux-x86-64.so.2` and libc.so.6, libm.so.6"),
        )
        .with_hint(
            "let smidge add the loader and 2 libraries (+2.1 MiB): `smidge build --with-libs .`",
        )
        .with_hint(
            "or link it statically: `cargo build --release --target x86_64-unknown-linux-musl`",
        )
    }

    #[test]
    fn a_missing_loader() {
        check(
            &loader_missing(),
            expect![[r#"
                error: `/server` cannot start: it is dynamically linked, but its loader is not in the image
                  --> Dockerfile:3:14
                   |
                 3 | ENTRYPOINT ["/server"]
                   |              ^^^^^^^^^ ELF x86-64, wants `/lib64/ld-linux-x86-64.so.2` and libc.so.6, libm.so.6
                hint: let smidge add the loader and 2 libraries (+2.1 MiB): `smidge build --with-libs .`
                hint: or link it statically: `cargo build --release --target x86_64-unknown-linux-musl`
            "#]],
        );
    }

    #[test]
    fn a_missing_interpreter() {
        let fault = Error::new(
            Kind::CannotRun(127),
            "`/app/start.sh` cannot start: its interpreter `/bin/bash` is not in the image",
        )
        .with_snippet(
            Snippet::new("start.sh", "#!/bin/bash -e\n", 2, 11)
                .with_label("no such file in stage `final`"),
        )
        .with_hint(
            "use `#!/bin/sh` (present), or install it in the stage: `RUN apk add --no-cache bash`",
        );
        check(
            &fault,
            expect![[r#"
                error: `/app/start.sh` cannot start: its interpreter `/bin/bash` is not in the image
                  --> start.sh:1:3
                   |
                 1 | #!/bin/bash -e
                   |   ^^^^^^^^^ no such file in stage `final`
                hint: use `#!/bin/sh` (present), or install it in the stage: `RUN apk add --no-cache bash`
            "#]],
        );
    }

    #[test]
    fn an_unknown_instruction() {
        let text = "\n\n\nCOYP target/release/app /app\n";
        let fault = Error::new(Kind::Input, "unknown instruction `COYP`").with_snippet(
            Snippet::new("Dockerfile", text, 3, 7).with_label("did you mean `COPY`?"),
        );
        check(
            &fault,
            expect![[r#"
                error: unknown instruction `COYP`
                  --> Dockerfile:4:1
                   |
                 4 | COYP target/release/app /app
                   | ^^^^ did you mean `COPY`?
            "#]],
        );
    }

    #[test]
    fn a_refused_push() {
        let cause = Error::new(
            Kind::Denied,
            "POST https://ghcr.io/v2/acme/api/blobs/uploads/: 403 DENIED \"token does not match expected scopes\"",
        );
        let fault = Error::new(
            Kind::Denied,
            "cannot push `ghcr.io/acme/api:1.4`: access denied",
        )
        .with_fact("credentials: user `ci-bot` from `~/.docker/config.json`")
        .caused_by(cause)
        .with_hint("log in with a token that may push: `smidge login ghcr.io`");
        check(
            &fault,
            expect![[r#"
                error: cannot push `ghcr.io/acme/api:1.4`: access denied
                  credentials: user `ci-bot` from `~/.docker/config.json`
                  caused by: POST https://ghcr.io/v2/acme/api/blobs/uploads/: 403 DENIED "token does not match expected scopes"
                hint: log in with a token that may push: `smidge login ghcr.io`
            "#]],
        );
    }

    #[test]
    fn a_port_in_use() {
        let fault = Error::new(
            Kind::Conflict,
            "cannot publish port 8080: `0.0.0.0:8080` is already in use",
        )
        .with_fact("used by: container `postgres-dev` (3f2a91c04b7d)")
        .with_hint("pick another host port: `smidge run -p 8081:8080 app`")
        .with_hint("or stop it: `smidge stop postgres-dev`");
        check(
            &fault,
            expect![[r#"
                error: cannot publish port 8080: `0.0.0.0:8080` is already in use
                  used by: container `postgres-dev` (3f2a91c04b7d)
                hint: pick another host port: `smidge run -p 8081:8080 app`
                hint: or stop it: `smidge stop postgres-dev`
            "#]],
        );
    }

    #[test]
    fn a_corrupt_layer() {
        let fault = Error::new(
            Kind::Host,
            "layer 3 of `docker.io/library/redis:7` is corrupt; nothing was stored",
        )
        .with_fact("expected: sha256:9d2f6c, 14680064 bytes")
        .with_fact("received: sha256:41c0be, 14680064 bytes")
        .with_fact("from: https://registry-1.docker.io")
        .with_hint("pull again; if it repeats, a proxy is changing the bytes");
        check(
            &fault,
            expect![[r#"
                error: layer 3 of `docker.io/library/redis:7` is corrupt; nothing was stored
                  expected: sha256:9d2f6c, 14680064 bytes
                  received: sha256:41c0be, 14680064 bytes
                  from: https://registry-1.docker.io
                hint: pull again; if it repeats, a proxy is changing the bytes
            "#]],
        );
    }

    #[test]
    fn hostile_text_cannot_steer_the_terminal() {
        let text = format!("{}\tX\x1b[2J\n", "\n".repeat(99));
        let fault = Error::new(Kind::Input, "bad \x1b]0;title\x07 name")
            .with_snippet(Snippet::new("Docker\x1bfile", &text, 100, 101))
            .with_related(Error::new(Kind::Input, "second"));
        check(
            &fault,
            expect![[r#"
                error: bad �]0;title� name
                    --> Docker�file:100:2
                     |
                 100 | 	X�[2J
                     | 	^

                error: second
            "#]],
        );
    }

    #[test]
    fn endless_text_is_cut() {
        let name = "x".repeat(1_000_000);
        let fault = Error::new(Kind::Input, format!("bad `{name}`")).with_snippet(Snippet::new(
            "file",
            &format!("{name}!{name}"),
            1_000_000,
            1_000_001,
        ));
        let shown = error(&fault, "smidge");
        assert!(shown.len() < 5000, "{}", shown.len());
        assert!(shown.contains("x… (996006 more characters)"), "{shown}");
        let lines: Vec<_> = shown
            .lines()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        let column = |line: &str, c| line.chars().position(|found| found == c);
        assert_eq!(column(&lines[3], '!'), column(&lines[4], '^'), "{lines:?}");
    }

    #[test]
    fn hints_use_the_name_smidge_was_called_by() {
        let shown = error(&loader_missing(), "docker");
        assert!(shown.contains("`docker build --with-libs .`"), "{shown}");
        assert!(!shown.contains("`smidge "), "{shown}");
    }
}
