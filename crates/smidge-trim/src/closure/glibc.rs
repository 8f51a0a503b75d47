use super::walk::{Hit, Loaded, Walk, directory_of};
use super::{ClosureError, Rule};

impl Walk<'_, '_> {
    /// Finds what is loaded under a name already: by a name that was asked for, by its path, or by
    /// its soname (`_dl_map_object` in `elf/dl-load.c`). What is missing is looked for each time.
    pub(super) fn already_glibc(&mut self, name: &str) -> Option<usize> {
        let is_same = |loaded: &Loaded| {
            let Some(object) = &loaded.object else {
                return false;
            };
            loaded.names.iter().any(|known| known == name)
                || loaded.path.as_deref() == Some(name)
                || object.elf.soname.as_deref() == Some(name)
        };
        self.objects.iter().position(is_same)
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
        for (rule, directories) in self.listed(by) {
            for directory in directories {
                if let Some(hit) = self.look(rule, &directory, name)? {
                    self.note_processor_builds(&directory);
                    return Ok(Some(hit));
                }
            }
        }
        let no_default_lib = self.objects[by]
            .object
            .as_ref()
            .is_some_and(|object| object.elf.no_default_lib);
        if let Some(hit) = self.search_cache(name, no_default_lib)? {
            return Ok(Some(hit));
        }
        if no_default_lib {
            return Ok(None);
        }
        for directory in self.defaults.directories.clone() {
            if let Some(hit) = self.look(Rule::Default, &directory, name)? {
                self.note_processor_builds(&directory);
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// The directories that come before the cache.
    fn listed(&self, by: usize) -> Vec<(Rule, Vec<String>)> {
        let mut listed = Vec::new();
        if self.objects[by].runpath.is_empty() {
            let mut at = by;
            loop {
                listed.push((Rule::Rpath, self.objects[at].rpath.clone()));
                if at == 0 {
                    break;
                }
                at = self.objects[at].loaded_by;
            }
        }
        listed.push((Rule::LibraryPath, self.expand_library_path()));
        listed.push((Rule::Runpath, self.objects[by].runpath.clone()));
        listed
    }

    fn expand_library_path(&self) -> Vec<String> {
        let program = self.program.file.to_string();
        let tokens = self.tokens(&self.program.elf, directory_of(&program));
        self.library_path
            .iter()
            .map(|directory| tokens.expand(directory))
            .collect()
    }

    fn expand_name(&self, name: &str, by: usize) -> String {
        let path = self.objects[by].path.as_deref().unwrap_or_default();
        let path = self.resolver.absolute(path);
        self.tokens(&self.program.elf, directory_of(&path))
            .expand(name)
    }

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
            let default = |directory: &String| {
                path.strip_prefix(directory.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            };
            if no_default_lib && self.defaults.directories.iter().any(default) {
                continue;
            }
            if let Some(hit) = self.look_at(Rule::Cache, path.clone())? {
                if cache.has_processor_builds(name) {
                    self.note(format!(
                        "`{name}` has builds for newer processors (glibc-hwcaps), which are not considered"
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
        for directory in self.resolver.config().iter() {
            if let Some(hit) = self.look(Rule::Config, directory, name)? {
                self.note(
                    "there is no `/etc/ld.so.cache`: the directories of `/etc/ld.so.conf` count only after `ldconfig`"
                        .into(),
                );
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    fn note_processor_builds(&mut self, directory: &str) {
        let builds = format!("{}/glibc-hwcaps", directory.trim_end_matches('/'));
        let path = self.resolver.absolute(&builds);
        if let Ok(Some(_)) = self.resolver.tree().resolve(path.as_bytes()) {
            self.note(format!(
                "builds for newer processors in `{builds}` are not considered"
            ));
        }
    }
}
