use super::walk::{Hit, Loaded, Walk};
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

impl Walk<'_, '_> {
    /// Finds what is loaded under a name already. musl knows no sonames, only the names that were
    /// searched for (`load_library` in `ldso/dynlink.c`).
    pub(super) fn already_musl(&mut self, name: &str) -> Option<usize> {
        let is_same = |loaded: &Loaded| {
            let is_known = |known: &String| {
                known == name || own(name).is_some_and(|own_name| own(known) == Some(own_name))
            };
            loaded.path.is_some() && loaded.names.iter().any(is_known)
        };
        self.objects.iter().position(is_same)
    }

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
        let mut listed = vec![(Rule::LibraryPath, self.library_path.clone())];
        let mut at = by;
        loop {
            let loaded = &self.objects[at];
            // musl makes no difference between the two, and lets the newer one replace the other.
            listed.push(match loaded.runpath.is_empty() {
                true => (Rule::Rpath, loaded.rpath.clone()),
                false => (Rule::Runpath, loaded.runpath.clone()),
            });
            if at == 0 {
                break;
            }
            at = loaded.loaded_by;
        }
        listed.push((Rule::Default, self.musl_directories()));
        for (rule, directories) in listed {
            for directory in directories.iter().filter(|directory| !directory.is_empty()) {
                if let Some(hit) = self.look(rule, directory, name)? {
                    return Ok(Some(hit));
                }
            }
        }
        Ok(None)
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
