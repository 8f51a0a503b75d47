//! Proof that what was drafted can start; and, if not, what to do about it.

use std::io::Read as _;

use smidge_image::{Platform, Tree as _};
use smidge_trim::{Fault, Program};

use super::content::Stream;
use super::draft::Draft;
use super::layer::RootFs;
use super::library;
use super::request::BuildRequest;
use super::target::Target;
use crate::{Error, Kind, Note, Result, Snippet};

/// Proves that the image's program can start. An image without one cannot be started at all, and
/// need not be: its user may say what to run. So may the user of an image that has other programs,
/// where the one that is missing is a default: that is worth a note.
pub(super) fn prove(draft: &mut Draft, rootfs: &RootFs, request: &BuildRequest) -> Result<()> {
    let Some(fault) = fault(draft, rootfs) else {
        return Ok(());
    };
    let error = error(fault, draft, rootfs, request);
    let has_others = !draft.below.layers.is_empty();
    if !has_others || draft.config.entrypoint.is_some() {
        return Err(match error.hints().is_empty() {
            true => error.with_hint(format!(
                "to have the image all the same: `smidge build --no-prove {}`",
                request.path.display()
            )),
            false => error,
        });
    }
    draft.notes.push(Note {
        message: error.to_string(),
        snippet: error.snippet().cloned(),
    });
    Ok(())
}

/// Why the image's program cannot start, if it cannot.
pub(super) fn fault(draft: &Draft, rootfs: &RootFs) -> Option<Fault> {
    smidge_trim::prove(rootfs, &program(draft)?).err()
}

/// What the image starts, if it starts anything.
pub(super) fn program(draft: &Draft) -> Option<Program> {
    let argv = draft.argv();
    (!argv.is_empty()).then(|| Program {
        argv,
        env: draft.config.env.clone(),
        working_dir: draft.config.working_dir.clone(),
        architecture: draft.platform.architecture.clone(),
        shell_form: draft
            .origin
            .as_ref()
            .is_some_and(|origin| origin.shell_form),
    })
}

/// The program, or interpreter of a script, that lacks its loader or libraries.
pub(super) fn lacking(fault: &Fault) -> Option<&str> {
    match fault {
        Fault::NoLoader { program, .. } | Fault::NoLibraries { program, .. } => Some(program),
        Fault::Interpreter { source, .. } => lacking(source),
        _ => None,
    }
}

/// The fault as an error of the build: with its place, and ways out.
pub(super) fn error(fault: Fault, draft: &Draft, rootfs: &RootFs, request: &BuildRequest) -> Error {
    let hints = hints(&fault, draft, rootfs, request);
    let (label, facts, wants) = (fault.label(), fault.facts(), lacking(&fault).is_some());
    let script = fault.span().map(|span| Snippet {
        file: span.path.clone(),
        line: 1,
        column: span.column,
        source_line: span.source_line.clone(),
        length: span.length,
        label: None,
    });
    let place = script.or_else(|| draft.origin.as_ref().map(|origin| origin.snippet.clone()));
    // `docker build` fails with 1 whatever is wrong; 126 and 127 are for running.
    let mut error = Error::of(Kind::Input, fault);
    error = match (place, label) {
        (Some(place), label) => error.with_snippet(Snippet { label, ..place }),
        // Without a place, the label says more than the first line only about what a program wants.
        (None, Some(label)) if wants => error.with_fact(label),
        (None, _) => error,
    };
    let error = facts.into_iter().fold(error, Error::with_fact);
    hints.into_iter().fold(error, Error::with_hint)
}

fn hints(fault: &Fault, draft: &Draft, rootfs: &RootFs, request: &BuildRequest) -> Vec<String> {
    let path = request.path.display();
    if let Some(program) = lacking(fault) {
        let found = library::needed(rootfs, program, &draft.platform).ok();
        let add = found.filter(|_| !request.with_libs).map(|found| {
            let (what, size) = (found.describe(), mebibytes(found.size()));
            format!("let smidge add {what} (+{size}): `smidge build --with-libs {path}`")
        });
        return add
            .into_iter()
            .chain([static_link(rootfs, program, &draft.platform)])
            .collect();
    }
    match fault {
        Fault::NoShell { .. } => {
            vec!["name the program and its arguments as a JSON array: `[\"/program\", \"argument\"]`".to_owned()]
        }
        Fault::NotExecutable { program, .. } => {
            vec![format!(
                "make it executable before the build: `chmod +x {}`",
                program.trim_start_matches('/')
            )]
        }
        Fault::WrongArchitecture { found, .. } => {
            vec![format!(
                "build for the program's own machine, {found}: see `smidge build --platform`"
            )]
        }
        _ => Vec::new(),
    }
}

/// How to link the program statically, in the words of its language.
fn static_link(rootfs: &RootFs, program: &str, platform: &Platform) -> String {
    let [triple, _] = Target::of(platform).map_or(["TRIPLE"; 2], |target| target.rust);
    let cargo = format!("`cargo build --release --target {triple}`");
    let command = match language(rootfs, program) {
        Some(Language::Go) => "`CGO_ENABLED=0 go build`".to_owned(),
        Some(Language::Rust) => cargo,
        None => format!("`cc -static` (C), `CGO_ENABLED=0 go build` (Go), {cargo} (Rust)"),
    };
    format!("or link it statically: {command}")
}

enum Language {
    Go,
    Rust,
}

/// What a program was written in, judged by what its compiler leaves in it.
fn language(rootfs: &RootFs, program: &str) -> Option<Language> {
    let (path, _) = rootfs.resolve(program.as_bytes()).ok()??;
    let file = rootfs.open(&path).ok()?;
    let mut bytes = Vec::new();
    Stream::new(&*file)
        .take(16 << 20)
        .read_to_end(&mut bytes)
        .ok()?;
    let holds = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    // debug/buildinfo in Go's standard library; the paths of Rust's in panic messages.
    if holds(b"\xff Go buildinf:") {
        Some(Language::Go)
    } else if holds(b"/rustc/") || holds(b"rustc version") {
        Some(Language::Rust)
    } else {
        None
    }
}

/// A size in the words of the error: `2.1 MiB`.
pub(super) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
