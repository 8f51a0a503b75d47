use std::rc::Rc;

use super::loaded::{Hit, Loaded, directory_of};
use super::walk::Walk;
use super::{ClosureError, Rule};

impl Walk<'_, '_> {
    /// Whether a name stands for what is loaded: it was asked for by that name, or it is its path
    /// or its soname (`_dl_map_object` in `elf/dl-load.c`).
    pub(super) fn is_known_to_glibc(loaded: &Loaded, name: &str) -> bool {
        loaded.names.iter().any(|known| known == name)
            || loaded.path.as_deref() == Some(name)
            || loaded.soname() == Some(name)
    }

    /// Searches in the order of ld.so(8).
    pub(super) fn search_glibc(
        &mut self,
        name: &str,
        by: usize,
    ) -> Result<Option<Hit>, ClosureError> {
        if name.contains('/') {
            let path = self.expand_name(name, by);
            return self.look_at(Rule::Path, path);
        }
        let listed = self.search_listed(name, by)?;
        if let Some(hit) = listed {
            self.note_processor_builds(directory_of(&hit.path));
            return Ok(Some(hit));
        }
        let object = self.objects[by].object.as_ref();
        let no_default_lib = object.is_some_and(|object| object.elf.no_default_lib);
        let cached = self.search_cache(name, no_default_lib)?;
        if cached.is_some() || no_default_lib {
            return Ok(cached);
        }
        let last = Rc::clone(&self.last);
        let found = self.look_in(Rule::Default, &last, name)?;
        if let Some(hit) = &found {
            self.note_processor_builds(directory_of(&hit.path));
        }
        Ok(found)
    }

    /// Searches the directories that come before the cache.
    fn search_listed(&mut self, name: &str, by: usize) -> Result<Option<Hit>, ClosureError> {
        let runpath = Rc::clone(&self.objects[by].runpath);
        let mut loader = runpath.is_empty().then_some(by);
        while let Some(at) = loader {
            let rpath = Rc::clone(&self.objects[at].rpath);
            if let Some(hit) = self.look_in(Rule::Rpath, &rpath, name)? {
                return Ok(Some(hit));
            }
            loader = (at != 0).then_some(self.objects[at].loaded_by);
        }
        let library_path = Rc::clone(&self.library_path);
        if let Some(hit) = self.look_in(Rule::LibraryPath, &library_path, name)? {
            return Ok(Some(hit));
        }
        self.look_in(Rule::Runpath, &runpath, name)
    }

    fn expand_name(&self, name: &str, by: usize) -> String {
        let path = self.objects[by].path.as_deref().unwrap_or_default();
        let path = self.resolver.absolute(path);
        let tokens = self.tokens(&self.program.elf, directory_of(&path));
        tokens.expand(name)
    }

    /// Looks a name up in the cache. `DF_1_NODEFLIB` bars default directories there as well.
    fn search_cache(
        &mut self,
        name: &str,
        no_default_lib: bool,
    ) -> Result<Option<Hit>, ClosureError> {
        let cache = self.resolver.cache();
        let Some(cache) = &*cache else {
            return self.search_config(name);
        };
        for path in cache.paths(name) {
            let is_below = |directory: &String| {
                let rest = path.strip_prefix(directory.as_str());
                rest.is_some_and(|rest| rest.starts_with('/'))
            };
            if no_default_lib && self.last.iter().any(is_below) {
                continue;
            }
            if let Some(hit) = self.look_at(Rule::Cache, path.clone())? {
                if cache.has_processor_builds(name) {
                    self.note(format!(
                        "builds of `{name}` for newer processors (glibc-hwcaps) are not considered"
                    ));
                }
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// Searches the directories that a cache would list, if that is wanted.
    fn search_config(&mut self, name: &str) -> Result<Option<Hit>, ClosureError> {
        if !self.resolver.search().assume_ldconfig {
            return Ok(None);
        }
        let config = self.resolver.config();
        let found = self.look_in(Rule::Config, &config, name)?;
        if found.is_some() {
            let note =
                "there is no `/etc/ld.so.cache`: `/etc/ld.so.conf` counts only after `ldconfig`";
            self.note(note.into());
        }
        Ok(found)
    }

    fn note_processor_builds(&mut self, directory: &str) {
        let builds = format!("{directory}/glibc-hwcaps");
        let path = self.resolver.absolute(&builds);
        if let Ok(Some(_)) = self.resolver.tree().resolve(path.as_bytes()) {
            self.note(format!(
                "builds for newer processors in `{builds}` are not considered"
            ));
        }
    }
}
