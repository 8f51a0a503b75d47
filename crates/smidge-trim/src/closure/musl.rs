use std::rc::Rc;

use super::loaded::{Hit, Loaded};
use super::walk::Walk;
use super::{ClosureError, Rule};

/// Libraries that musl contains; whatever file has such a name is never loaded.
const OWN: [&str; 7] = ["c", "pthread", "rt", "m", "dl", "util", "xnet"];

/// Whether a name stands for musl itself: `libc.so`, `libpthread.so.0`, `libc.musl-x86_64.so.1`.
pub(super) fn is_own(name: &str) -> bool {
    own(name).is_some()
}

fn own(name: &str) -> Option<&str> {
    let (stem, _) = name.strip_prefix("lib")?.split_once('.')?;
    OWN.contains(&stem).then_some(stem)
}

/// Whether a name stands for what is loaded. musl knows no sonames, only the names that were
/// searched for (`load_library` in `ldso/dynlink.c`).
pub(super) fn is_known(loaded: &Loaded, name: &str) -> bool {
    let itself = own(name);
    let is_same = |known: &String| known == name || itself.is_some() && own(known) == itself;
    loaded.names.iter().any(is_same)
}

impl Walk<'_, '_> {
    /// Searches `LD_LIBRARY_PATH`, then the run paths of what needs the library and of what loaded
    /// that, then the path file or the defaults. The first file that opens is taken.
    pub(super) fn search_musl(
        &mut self,
        name: &str,
        by: usize,
    ) -> Result<Option<Hit>, ClosureError> {
        if name.contains('/') {
            return self.look_at(Rule::Path, name.to_owned());
        }
        let library_path = Rc::clone(&self.library_path);
        if let Some(hit) = self.look_in(Rule::LibraryPath, &library_path, name)? {
            return Ok(Some(hit));
        }
        let mut loader = Some(by);
        while let Some(at) = loader {
            let Loaded {
                rpath,
                runpath,
                loaded_by,
                ..
            } = &self.objects[at];
            loader = (at != 0).then_some(*loaded_by);
            // musl makes no difference between the two, and lets the newer one replace the other.
            let (rule, directories) = match runpath.is_empty() {
                true => (Rule::Rpath, Rc::clone(rpath)),
                false => (Rule::Runpath, Rc::clone(runpath)),
            };
            if let Some(hit) = self.look_in(rule, &directories, name)? {
                return Ok(Some(hit));
            }
        }
        let last = Rc::clone(&self.last);
        self.look_in(Rule::Default, &last, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn musl_knows_its_own_names() {
        for name in [
            "libc.so",
            "libc.musl-x86_64.so.1",
            "libpthread.so.0",
            "libm.so.6",
            "librt.so.1",
        ] {
            assert!(is_own(name), "{name}");
        }
        for name in [
            "libc",
            "libcrypt.so.1",
            "libz.so.1",
            "c.so",
            "libmagic.so.1",
        ] {
            assert!(!is_own(name), "{name}");
        }
    }
}
