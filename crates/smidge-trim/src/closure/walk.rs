use std::rc::Rc;

use smidge_image::Node;

use super::resolver::{Object, Probe, Resolver};
use super::{Closure, ClosureError, Library, Loader, PROGRAM, Rule, version};
use crate::Elf;
use crate::elf::Machine;
use crate::loader::{Defaults, Dialect, Tokens, musl_path};

/// More objects than any process maps.
const MAX_OBJECTS: usize = 4096;

/// One run of a loader through a program's needs.
pub(super) struct Walk<'r, 't> {
    pub(super) resolver: &'r mut Resolver<'t>,
    pub(super) program: Rc<Object>,
    pub(super) dialect: Dialect,
    pub(super) loader: Rtld,
    pub(super) defaults: Defaults,
    /// Directories that `LD_LIBRARY_PATH` names; none for a set-user-ID program.
    pub(super) library_path: Vec<String>,
    /// All that is loaded, in order; the program is the first.
    pub(super) objects: Vec<Loaded>,
    pub(super) notes: Vec<String>,
}

/// The loader itself, which is in memory before anything else.
pub(super) struct Rtld {
    /// The path that the program names, or that its machine has.
    pub(super) path: String,
    pub(super) named: bool,
    pub(super) object: Option<Rc<Object>>,
}

/// Something that was loaded, or that should have been.
pub(super) struct Loaded {
    /// The names under which it was asked for, the first one first.
    pub(super) names: Vec<String>,
    /// Its path as the loader prints it; `None` if it was not found.
    pub(super) path: Option<String>,
    pub(super) object: Option<Rc<Object>>,
    pub(super) unusable: Option<(smidge_image::LayerPath, Rc<str>)>,
    /// Position of what loaded it first; the program's is its own.
    pub(super) loaded_by: usize,
    /// Positions of what needs it.
    needed_by: Vec<usize>,
    rule: Option<Rule>,
    /// The search paths that it brings, expanded.
    pub(super) rpath: Vec<String>,
    pub(super) runpath: Vec<String>,
}

/// A path that ends the search for a library.
pub(super) struct Hit {
    pub(super) rule: Rule,
    pub(super) path: String,
    pub(super) probe: Probe,
}

impl<'r, 't> Walk<'r, 't> {
    pub(super) fn new(resolver: &'r mut Resolver<'t>, program: Object, node: &Node) -> Self {
        let named = program.elf.interpreter.is_some();
        let path = program.elf.interpreter.clone();
        let path = path
            .or_else(|| Dialect::loader_of_library(&program.elf))
            .unwrap_or_default();
        let mut notes = Vec::new();
        let mut library_path = resolver.search().library_path.clone();
        if node.mode & 0o6000 != 0 && !library_path.is_empty() {
            notes.push(
                "LD_LIBRARY_PATH is ignored: the program is set-user-ID or set-group-ID".into(),
            );
            library_path.clear();
        }
        let mut walk = Self {
            dialect: Dialect::of_loader(&path),
            loader: Rtld {
                path,
                named,
                object: None,
            },
            defaults: Defaults::usual(&program.elf),
            library_path,
            objects: Vec::new(),
            resolver,
            program: Rc::new(program),
            notes,
        };
        let program = Rc::clone(&walk.program);
        walk.objects
            .push(walk.loaded(program.file.to_string(), program));
        walk
    }

    pub(super) fn run(mut self) -> Result<Closure, ClosureError> {
        let program = Rc::clone(&self.program);
        if program.elf.linkage() != crate::Linkage::NotDynamic {
            self.find_loader()?;
            self.note_preload();
            let mut next = 0;
            while let Some(loaded) = self.objects.get(next) {
                if let Some(object) = loaded.object.clone() {
                    for name in &object.elf.needed {
                        self.need(name, next)?;
                    }
                }
                next += 1;
            }
        }
        self.place_loader();
        let missing_versions = match self.dialect {
            Dialect::Glibc => version::missing(&self),
            // musl reads versions, but never insists on one.
            Dialect::Musl => Vec::new(),
        };
        let loader = self.loader.named.then(|| Loader {
            wanted: self.loader.path.clone(),
            found: self
                .loader
                .object
                .as_ref()
                .map(|object| object.file.clone()),
        });
        Ok(Closure {
            program: program.file.clone(),
            elf: program.elf.clone(),
            loader,
            libraries: self
                .objects
                .iter()
                .skip(1)
                .map(|loaded| self.library(loaded))
                .collect(),
            missing_versions,
            default_directories: self.defaults.directories,
            notes: self.notes,
        })
    }

    fn find_loader(&mut self) -> Result<(), ClosureError> {
        if self.loader.path.is_empty() {
            return Ok(());
        }
        let path = self.loader.path.clone();
        if let Probe::Object(object) = self.resolver.probe(&path)? {
            self.loader.object = Some(object);
        }
        if self.dialect == Dialect::Musl {
            self.defaults = Defaults::musl();
            // musl's own ldd lists the loader first, and again under each name that it stands for.
            let position = self.push_loader(&path, 0);
            self.objects[position].needed_by.push(0);
            return Ok(());
        }
        let built_in = self.loader.object.clone();
        match built_in.and_then(|object| self.resolver.built_in(&object.file)) {
            Some(defaults) => self.defaults = defaults,
            None => self.notes.push(format!(
                "`{path}` is not there to ask for its default directories: the usual ones were searched"
            )),
        }
        Ok(())
    }

    fn note_preload(&mut self) {
        const PRELOAD: &str = "/etc/ld.so.preload";
        if let Ok(Some(_)) = self.resolver.tree().resolve(PRELOAD.as_bytes()) {
            self.notes
                .push(format!("libraries that `{PRELOAD}` names are not followed"));
        }
    }

    /// Notes that the object at `by` needs `name`, and loads it if nobody has.
    fn need(&mut self, name: &str, by: usize) -> Result<(), ClosureError> {
        let position = match self.already(name) {
            Some(position) => position,
            None => self.load(name, by)?,
        };
        let needed_by = &mut self.objects[position].needed_by;
        if !needed_by.contains(&by) {
            needed_by.push(by);
        }
        Ok(())
    }

    fn already(&mut self, name: &str) -> Option<usize> {
        match self.dialect {
            Dialect::Glibc => self.already_glibc(name),
            Dialect::Musl => self.already_musl(name),
        }
    }

    fn load(&mut self, name: &str, by: usize) -> Result<usize, ClosureError> {
        if self.objects.len() >= MAX_OBJECTS {
            let path = self.program.file.to_string();
            return Err(ClosureError::TooMany {
                path,
                what: "libraries",
                limit: MAX_OBJECTS,
            });
        }
        if self.is_loader(name) {
            return Ok(self.push_loader(name, by));
        }
        let hit = match self.dialect {
            Dialect::Glibc => self.search_glibc(name, by)?,
            Dialect::Musl => self.search_musl(name, by)?,
        };
        let Some(Hit { rule, path, probe }) = hit else {
            return Ok(self.push(Loaded::missing(name, by)));
        };
        Ok(match probe {
            Probe::Object(object) => {
                let same = |loaded: &Loaded| {
                    loaded
                        .object
                        .as_ref()
                        .is_some_and(|other| other.file == object.file)
                };
                if let Some(position) = self.objects.iter().position(same) {
                    self.objects[position].names.push(name.to_owned());
                    return Ok(position);
                }
                let mut loaded = self.loaded(path, object);
                loaded.names.push(name.to_owned());
                loaded.loaded_by = by;
                loaded.rule = Some(rule);
                self.push(loaded)
            }
            Probe::Unusable(file, why) => {
                let missing = Loaded::missing(name, by);
                let unusable = Some((file, why));
                self.push(Loaded {
                    path: Some(path),
                    rule: Some(rule),
                    unusable,
                    ..missing
                })
            }
            Probe::Absent => self.push(Loaded::missing(name, by)),
        })
    }

    fn is_loader(&self, name: &str) -> bool {
        let path = self.loader.path.as_str();
        if path.is_empty() {
            return false;
        }
        let soname = self
            .loader
            .object
            .as_ref()
            .and_then(|object| object.elf.soname.as_deref());
        name == path
            || path.rsplit('/').next() == Some(name)
            || match self.dialect {
                Dialect::Glibc => soname == Some(name),
                Dialect::Musl => super::musl::is_own(name),
            }
    }

    fn push_loader(&mut self, name: &str, by: usize) -> usize {
        let path = self.loader.path.clone();
        let shown = match self.dialect {
            Dialect::Glibc => path.clone(),
            Dialect::Musl => name.to_owned(),
        };
        let mut loaded = Loaded::missing(&shown, by);
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
        let found = |loaded: &Loaded| loaded.path.is_some();
        let first = self.objects[..last]
            .iter()
            .rposition(found)
            .map_or(last, |found| found + 1);
        self.objects[first..=last].rotate_right(1);
        // Users are counted from the first library, not from the program.
        for user in self
            .objects
            .iter_mut()
            .flat_map(|loaded| &mut loaded.needed_by)
        {
            if *user + 1 == last {
                *user = first - 1;
            } else if (first..last).contains(&(*user + 1)) {
                *user += 1;
            }
        }
    }

    fn library(&self, loaded: &Loaded) -> Library {
        let object = loaded.object.as_ref().map(|object| &object.file);
        let unusable = loaded.unusable.as_ref();
        let user = |&by: &usize| by.checked_sub(1).unwrap_or(PROGRAM);
        Library {
            name: loaded.names.first().cloned().unwrap_or_default(),
            path: loaded.path.clone(),
            file: object.or(unusable.map(|(file, _)| file)).cloned(),
            needed_by: loaded.needed_by.iter().map(user).collect(),
            rule: loaded.rule,
            fixed: self.is_fixed(loaded),
            unusable: unusable.map(|(_, why)| why.to_string()),
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
        let origin = directory_of(&absolute);
        let expand = |list: &[String]| {
            let tokens = self.tokens(&object.elf, origin);
            list.iter()
                .map(|directory| tokens.expand(directory))
                .collect::<Vec<_>>()
        };
        Loaded {
            names: Vec::new(),
            rpath: expand(&object.elf.rpath),
            runpath: expand(&object.elf.runpath),
            path: Some(path),
            object: Some(object),
            unusable: None,
            loaded_by: 0,
            needed_by: Vec::new(),
            rule: None,
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

    /// Looks at one file in one directory.
    pub(super) fn look(
        &mut self,
        rule: Rule,
        directory: &str,
        name: &str,
    ) -> Result<Option<Hit>, ClosureError> {
        let path = match directory.trim_end_matches('/') {
            "" if directory.is_empty() => format!("./{name}"),
            directory => format!("{directory}/{name}"),
        };
        self.look_at(rule, path)
    }

    pub(super) fn look_at(
        &mut self,
        rule: Rule,
        path: String,
    ) -> Result<Option<Hit>, ClosureError> {
        let probe = self.resolver.probe(&path)?;
        let probe = match probe {
            Probe::Absent => return Ok(None),
            Probe::Object(object) => match self.fits(&object.elf) {
                true => Probe::Object(object),
                // glibc looks on, musl gives up.
                false if self.dialect == Dialect::Glibc => return Ok(None),
                false => Probe::Unusable(object.file.clone(), "built for another machine".into()),
            },
            unusable => unusable,
        };
        Ok(Some(Hit { rule, path, probe }))
    }

    fn fits(&self, elf: &Elf) -> bool {
        let machine = |elf: &Elf| (elf.machine, elf.class, elf.big_endian);
        machine(elf) == machine(&self.program.elf)
    }

    /// The directories of musl's path file, or else its defaults.
    pub(super) fn musl_directories(&self) -> Vec<String> {
        musl_path(self.resolver.tree(), &self.loader.path)
            .unwrap_or_else(|| self.defaults.directories.clone())
    }

    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl Loaded {
    fn missing(name: &str, by: usize) -> Self {
        Self {
            names: vec![name.to_owned()],
            path: None,
            object: None,
            unusable: None,
            loaded_by: by,
            needed_by: Vec::new(),
            rule: None,
            rpath: Vec::new(),
            runpath: Vec::new(),
        }
    }
}

/// The directory part of an absolute path.
pub(super) fn directory_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    }
}
