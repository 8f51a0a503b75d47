use std::rc::Rc;

use smidge_image::Node;

use super::loaded::{Hit, Loaded, directory_of};
use super::resolver::{Object, Probe, Resolver};
use super::{Closure, ClosureError, Library, Loader, PROGRAM, Rule, musl, version};
use crate::elf::Machine;
use crate::loader::{Defaults, Dialect, Tokens, musl_path};
use crate::{Elf, Linkage};

/// More objects than any process maps.
const MAX_OBJECTS: usize = 4096;
/// Entries of all lists of needed libraries together: browsers have a few thousand.
const MAX_NEEDS: usize = 100_000;
/// Paths looked at for one program; more were written to take time.
const MAX_LOOKS: usize = 1_000_000;

/// One run of a loader through a program's needs.
pub(super) struct Walk<'r, 't> {
    pub(super) resolver: &'r mut Resolver<'t>,
    pub(super) program: Rc<Object>,
    dialect: Dialect,
    loader: Rtld,
    /// What the loader has built in.
    pub(super) defaults: Defaults,
    /// The directories that it searches last: its defaults, or those of musl's path file.
    pub(super) last: Rc<[String]>,
    /// The directories that `LD_LIBRARY_PATH` names.
    pub(super) library_path: Rc<[String]>,
    /// All that is loaded, in order; the program is the first.
    pub(super) objects: Vec<Loaded>,
    notes: Vec<String>,
    needs: usize,
    looks: usize,
}

/// The loader itself, which is in memory before anything else.
struct Rtld {
    /// The path that the program names, or that its machine has; empty if nobody knows.
    path: String,
    named: bool,
    object: Option<Rc<Object>>,
}

impl<'r, 't> Walk<'r, 't> {
    pub(super) fn new(resolver: &'r mut Resolver<'t>, program: Object) -> Self {
        let named = program.elf.interpreter.clone();
        let loader = Rtld {
            named: named.is_some(),
            path: named
                .or_else(|| Dialect::loader_of_library(&program.elf))
                .unwrap_or_default(),
            object: None,
        };
        Self {
            resolver,
            dialect: Dialect::of_loader(&loader.path),
            loader,
            defaults: Defaults::usual(&program.elf),
            last: Rc::default(),
            library_path: Rc::default(),
            objects: Vec::new(),
            notes: Vec::new(),
            needs: 0,
            looks: 0,
            program: Rc::new(program),
        }
    }

    pub(super) fn run(mut self, node: &Node) -> Result<Closure, ClosureError> {
        let program = Rc::clone(&self.program);
        if program.elf.linkage() != Linkage::NotDynamic {
            self.find_loader()?;
            self.prepare(node);
            self.load_all()?;
        }
        self.place_loader();
        let missing_versions = match self.dialect {
            Dialect::Glibc => version::missing(&self.objects),
            // musl reads versions, but never insists on one.
            Dialect::Musl => Vec::new(),
        };
        let libraries = self.objects.iter().skip(1);
        Ok(Closure {
            program: program.file.clone(),
            elf: program.elf.clone(),
            libraries: libraries.map(|loaded| self.library(loaded)).collect(),
            missing_versions,
            loader: self.loader.named.then(|| Loader {
                wanted: self.loader.path.clone(),
                found: self.loader.object.map(|object| object.file.clone()),
            }),
            default_directories: self.defaults.directories,
            notes: self.notes,
        })
    }

    fn find_loader(&mut self) -> Result<(), ClosureError> {
        let path = self.loader.path.clone();
        if let (false, Probe::Object(object)) = (path.is_empty(), self.resolver.probe(&path)) {
            self.loader.object = Some(object);
        }
        if self.dialect == Dialect::Musl {
            self.defaults = Defaults::musl();
            self.last = musl_path(self.resolver.tree(), &path)
                .unwrap_or_else(|| self.defaults.directories.clone())
                .into();
            return Ok(());
        }
        let built_in = self.loader.object.clone();
        match built_in.and_then(|object| self.resolver.built_in(&object.file)) {
            Some(defaults) => self.defaults = defaults,
            None => self.note(
                "the loader is not there to tell its default directories: the usual ones are searched"
                    .into(),
            ),
        }
        self.last = self.defaults.directories.as_slice().into();
        Ok(())
    }

    /// Loads the program, and what is loaded without being needed.
    fn prepare(&mut self, node: &Node) {
        const PRELOAD: &str = "/etc/ld.so.preload";
        if let Ok(Some(_)) = self.resolver.tree().resolve(PRELOAD.as_bytes()) {
            self.note(format!("libraries that `{PRELOAD}` names are not followed"));
        }
        let program = Rc::clone(&self.program);
        let path = program.file.to_string();
        let listed = self.resolver.search().library_path.clone();
        if node.mode & 0o6000 == 0 {
            let tokens = self.tokens(&program.elf, directory_of(&path));
            self.library_path = listed.iter().map(|entry| tokens.expand(entry)).collect();
        } else if !listed.is_empty() {
            self.note(
                "LD_LIBRARY_PATH is ignored: the program is set-user-ID or set-group-ID".into(),
            );
        }
        let program = self.loaded(path, program);
        self.objects.push(program);
        if self.dialect == Dialect::Musl {
            // musl's own ldd lists the loader first, and again under each name that it stands for.
            let path = self.loader.path.clone();
            let position = self.push_loader(&path, 0);
            self.objects[position].needed_by.push(0);
        }
    }

    fn load_all(&mut self) -> Result<(), ClosureError> {
        let mut next = 0;
        while let Some(loaded) = self.objects.get(next) {
            if let Some(object) = loaded.object.clone() {
                for name in &object.elf.needed {
                    self.need(name, next)?;
                }
            }
            next += 1;
        }
        Ok(())
    }

    /// Notes that the object at `by` needs `name`, and loads it if nobody has.
    fn need(&mut self, name: &str, by: usize) -> Result<(), ClosureError> {
        self.needs += 1;
        if self.needs > MAX_NEEDS {
            return Err(self.too_many("needed libraries", MAX_NEEDS));
        }
        let position = match self
            .objects
            .iter()
            .position(|loaded| self.is_known(loaded, name))
        {
            Some(position) => position,
            None => self.load(name, by)?,
        };
        let needed_by = &mut self.objects[position].needed_by;
        if !needed_by.contains(&by) {
            needed_by.push(by);
        }
        Ok(())
    }

    /// Whether that is what a name stands for. What is missing is looked for each time.
    fn is_known(&self, loaded: &Loaded, name: &str) -> bool {
        loaded.path.is_some()
            && match self.dialect {
                Dialect::Glibc => Self::is_known_to_glibc(loaded, name),
                Dialect::Musl => musl::is_known(loaded, name),
            }
    }

    fn load(&mut self, name: &str, by: usize) -> Result<usize, ClosureError> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(self.too_many("libraries", MAX_OBJECTS));
        }
        if self.is_loader(name) {
            return Ok(self.push_loader(name, by));
        }
        let hit = match self.dialect {
            Dialect::Glibc => self.search_glibc(name, by)?,
            Dialect::Musl => self.search_musl(name, by)?,
        };
        let missing = Loaded::missing(name, by);
        let Some(Hit { rule, path, probe }) = hit else {
            return Ok(self.push(missing));
        };
        let loaded = match probe {
            Probe::Absent => missing,
            Probe::Unusable(file, why) => {
                let (path, unusable) = (Some(path), Some((file, why)));
                Loaded {
                    path,
                    unusable,
                    rule: Some(rule),
                    ..missing
                }
            }
            Probe::Object(object) => {
                let same = |loaded: &Loaded| loaded.file() == Some(&object.file);
                if let Some(position) = self.objects.iter().position(same) {
                    self.objects[position].names.push(name.to_owned());
                    return Ok(position);
                }
                let names = missing.names;
                Loaded {
                    names,
                    loaded_by: by,
                    rule: Some(rule),
                    ..self.loaded(path, object)
                }
            }
        };
        Ok(self.push(loaded))
    }

    fn is_loader(&self, name: &str) -> bool {
        let path = self.loader.path.as_str();
        let object = self.loader.object.as_ref();
        let by_name = match self.dialect {
            Dialect::Glibc => object.and_then(|object| object.elf.soname.as_deref()) == Some(name),
            Dialect::Musl => musl::is_own(name),
        };
        !path.is_empty() && (by_name || name == path || path.rsplit('/').next() == Some(name))
    }

    fn push_loader(&mut self, name: &str, by: usize) -> usize {
        let path = self.loader.path.clone();
        let shown = match self.dialect {
            Dialect::Glibc => path.as_str(),
            Dialect::Musl => name,
        };
        let mut loaded = Loaded::missing(shown, by);
        loaded.names.push(name.to_owned());
        loaded.object = self.loader.object.clone();
        loaded.path = Some(path);
        loaded.rule = Some(Rule::Loader);
        self.push(loaded)
    }

    fn push(&mut self, loaded: Loaded) -> usize {
        self.objects.push(loaded);
        self.objects.len() - 1
    }

    /// Moves glibc's loader to where `ldd` lists it: not where it is needed first, but right behind
    /// the last library before that which was found (`rtld_setup_main_map` in `elf/rtld.c`).
    fn place_loader(&mut self) {
        let is_loader = |loaded: &Loaded| loaded.rule == Some(Rule::Loader);
        let Some(last) = self.objects.iter().position(is_loader) else {
            return;
        };
        let found = self.objects[..last]
            .iter()
            .rposition(|loaded| loaded.path.is_some());
        let first = found.map_or(last, |found| found + 1);
        self.objects[first..=last].rotate_right(1);
        for user in self
            .objects
            .iter_mut()
            .flat_map(|loaded| &mut loaded.needed_by)
        {
            *user = match *user {
                user if user == last => first,
                user if (first..last).contains(&user) => user + 1,
                user => user,
            };
        }
    }

    fn library(&self, loaded: &Loaded) -> Library {
        let user = |&by: &usize| by.checked_sub(1).unwrap_or(PROGRAM);
        Library {
            name: loaded.names.first().cloned().unwrap_or_default(),
            path: loaded.path.clone(),
            file: loaded.file().cloned(),
            needed_by: loaded.needed_by.iter().map(user).collect(),
            rule: loaded.rule,
            fixed: self.is_fixed(loaded),
            unusable: loaded.unusable.as_ref().map(|(_, why)| why.to_string()),
        }
    }

    /// A run path that is written out leads to the same place in any image, and so does a default
    /// directory. `$ORIGIN` moves with the program; caches and path files stay behind.
    fn is_fixed(&self, loaded: &Loaded) -> bool {
        let directory = loaded.path.as_deref().map(directory_of).unwrap_or_default();
        let is_here = |listed: &String| listed.trim_end_matches('/') == directory;
        let written_out = || {
            let objects = self
                .objects
                .iter()
                .filter_map(|loaded| loaded.object.as_ref());
            let mut listed =
                objects.flat_map(|object| object.elf.rpath.iter().chain(&object.elf.runpath));
            listed.any(is_here) && directory.starts_with('/') && !directory.contains("/..")
        };
        match loaded.rule {
            None => false,
            Some(Rule::Path | Rule::Loader) => true,
            Some(Rule::Rpath | Rule::Runpath) => written_out(),
            Some(_) => self.defaults.directories.iter().any(is_here),
        }
    }

    /// An object with its own search paths expanded.
    fn loaded(&self, path: String, object: Rc<Object>) -> Loaded {
        let absolute = self.resolver.absolute(&path);
        let tokens = self.tokens(&object.elf, directory_of(&absolute));
        let expand = |list: &[String]| list.iter().map(|entry| tokens.expand(entry)).collect();
        Loaded {
            names: Vec::new(),
            rpath: expand(&object.elf.rpath),
            runpath: expand(&object.elf.runpath),
            path: Some(path),
            object: Some(object),
            ..Loaded::missing("", 0)
        }
    }

    pub(super) fn tokens<'s>(&'s self, elf: &Elf, origin: &'s str) -> Tokens<'s> {
        let platform = Machine::of(elf).map_or("", |machine| machine.platform);
        Tokens {
            origin,
            lib: &self.defaults.lib,
            platform,
        }
    }

    /// Looks for a file in each directory; an empty one is the working directory.
    pub(super) fn look_in(
        &mut self,
        rule: Rule,
        directories: &[String],
        name: &str,
    ) -> Result<Option<Hit>, ClosureError> {
        for directory in directories {
            let directory = if directory.is_empty() { "." } else { directory };
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            if let Some(hit) = self.look_at(rule, path)? {
                return Ok(Some(hit));
            }
        }
        Ok(None)
    }

    /// Looks at a path as a loader does that opens it.
    pub(super) fn look_at(
        &mut self,
        rule: Rule,
        path: String,
    ) -> Result<Option<Hit>, ClosureError> {
        self.looks += 1;
        if self.looks > MAX_LOOKS {
            return Err(self.too_many("paths to look at", MAX_LOOKS));
        }
        let probe = match self.resolver.probe(&path) {
            Probe::Absent => return Ok(None),
            Probe::Object(object) if !self.fits(&object.elf) => match self.dialect {
                Dialect::Glibc => return Ok(None),
                Dialect::Musl => {
                    Probe::Unusable(object.file.clone(), "built for another machine".into())
                }
            },
            probe => probe,
        };
        Ok(Some(Hit { rule, path, probe }))
    }

    fn fits(&self, elf: &Elf) -> bool {
        let machine = |elf: &Elf| (elf.machine, elf.class, elf.big_endian);
        machine(elf) == machine(&self.program.elf)
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn too_many(&self, what: &'static str, limit: usize) -> ClosureError {
        ClosureError::TooMany {
            path: self.program.file.to_string(),
            what,
            limit,
        }
    }
}
