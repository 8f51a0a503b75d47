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

/// All of them.
pub(crate) const KNOWN: &[Known] = &[];

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
