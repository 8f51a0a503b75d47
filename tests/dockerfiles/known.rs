//! What is known to differ from buildah, each with its reason. `docs/dockerfiles.md` has the same table.

use crate::compare::Difference;

/// A difference that may be.
pub(crate) struct Known {
    /// The case, or `*`.
    pub(crate) case: &'static str,
    /// Where; a `*` at its end stands for anything.
    pub(crate) place: &'static str,
    /// Why, as the documentation has it.
    pub(crate) why: &'static str,
}

const fn known(case: &'static str, place: &'static str, why: &'static str) -> Known {
    Known { case, place, why }
}

const ENV: &str = "buildah moves a variable that is set again to the end; Docker keeps its place";
const SHELL: &str =
    "buildah runs the shell form of CMD and ENTRYPOINT with /bin/sh whatever SHELL says";
const ROOT: &str = "BuildKit says that an image from scratch works in /; buildah says nothing";
const VOLUME: &str =
    "buildah makes directories for volumes; Docker makes them when a container starts";

/// All of them.
pub(crate) const KNOWN: &[Known] = &[
    known("configured", "config Env", ENV),
    known("env-forms", "config Env", ENV),
    known("inherits-everything", "config Env", ENV),
    known("cmd-shell", "config Cmd", SHELL),
    known("cmd-shell", "config Entrypoint", SHELL),
    known("shell-inherited", "config Cmd", SHELL),
    known("inherits-everything", "config Cmd", SHELL),
    known("copy-from-image", "config WorkingDir", ROOT),
    known("from-scratch", "config WorkingDir", ROOT),
    known("inherits-everything", "/var/base", VOLUME),
    known("inherits-everything", "/var/own", VOLUME),
    known(
        "configured",
        "/home/app/base",
        "buildah makes the directory of a WORKDIR when a RUN needs it; Docker makes it at once",
    ),
    known(
        "escape-directive",
        "config Env",
        "buildah takes the backslash out of ENV although another character escapes",
    ),
];

/// The reason why a difference may be, if it is known.
pub(crate) fn reason(case: &str, difference: &Difference) -> Option<&'static str> {
    let fits = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    };
    let found = KNOWN
        .iter()
        .find(|known| fits(known.case, case) && fits(known.place, &difference.place));
    found.map(|known| known.why)
}
