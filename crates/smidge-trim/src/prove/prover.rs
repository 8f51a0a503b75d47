use std::io;

use smidge_image::{Found, NodeKind, Tree};

use super::fault::MissingLibrary;
use super::lookup::{Lookup, variable};
use super::shebang::{HEAD, NoName, Shebang, span};
use super::{Fault, Program, Proof, ScriptSpan};
use crate::{
    Closure, ClosureError, Elf, ElfError, ElfKind, Kept, Library, PROGRAM, Reason, Resolver, Rule,
    Search,
};

/// Scripts whose interpreters are scripts: as many as the kernel follows (execve(2)).
const MAX_SCRIPTS: usize = 5;
/// Times that `env` may lead to a script that asks `env` again: the kernel would go on forever.
const MAX_ENVS: usize = 16;

/// One attempt to start a program, without starting anything.
pub(super) struct Prover<'t> {
    program: &'t Program,
    lookup: Lookup<'t>,
    resolver: Resolver<'t>,
    proof: Proof,
    envs: usize,
}

impl<'t> Prover<'t> {
    pub(super) fn new(tree: &'t dyn Tree, program: &'t Program) -> Self {
        let library_path = variable(program, "LD_LIBRARY_PATH");
        let search = Search::of_loader(library_path, &program.working_dir);
        Self {
            program,
            lookup: Lookup::new(tree, program),
            resolver: Resolver::new(tree, &search),
            proof: Proof::default(),
            envs: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Proof, Fault> {
        let name = match self.program.argv.first() {
            Some(name) if !name.is_empty() => name.clone(),
            _ => return Err(Fault::NothingToRun),
        };
        let path = self.locate(&name)?;
        match self.exec(path.as_bytes(), Reason::Program, 0) {
            Err(Fault::NotFound { program: shell, .. }) if self.program.shell_form => {
                let command = self.program.argv.get(2).unwrap_or(&name).clone();
                Err(Fault::NoShell { shell, command })
            }
            Err(fault) => Err(fault),
            Ok(()) => Ok(self.proof),
        }
    }

    /// Finds the program as Docker does: a name with a `/` is a path, any other is in `$PATH`.
    fn locate(&mut self, name: &str) -> Result<String, Fault> {
        if name.contains('/') {
            return Ok(name.to_owned());
        }
        let found = self
            .lookup
            .in_path(name)
            .map_err(|source| unreadable(name, source))?;
        let path = found.ok_or_else(|| Fault::NotInPath {
            program: name.to_owned(),
            searched: self.lookup.directories.clone(),
            near_misses: self.lookup.near_misses(name),
        })?;
        self.step(format!("`{name}` in $PATH is `{path}`"));
        Ok(path)
    }

    /// Does what execve(2) does with a path. `scripts` led to it.
    fn exec(&mut self, path: &[u8], reason: Reason, scripts: usize) -> Result<(), Fault> {
        let program = String::from_utf8_lossy(path).into_owned();
        let found = self
            .lookup
            .find(path)
            .map_err(|source| unreadable(&program, source))?;
        let Some(found) = found else {
            return Err(Fault::NotFound {
                program,
                dangling: self.lookup.link(path),
            });
        };
        check_mode(&program, &found)?;
        self.keep(&found, reason);
        let head = self
            .head(&found)
            .map_err(|source| unreadable(&program, source))?;
        if head.is_empty() {
            Err(Fault::Empty { program })
        } else if head.starts_with(b"\x7fELF") {
            self.elf(program, &found)
        } else if head.starts_with(b"#!") {
            self.script(program, &head, scripts)
        } else if is_text(&head) {
            let line = span(&head, &program, 0..head.len());
            Err(Fault::NoShebang { program, line })
        } else {
            Err(Fault::UnknownFormat { program })
        }
    }

    fn head(&self, found: &Found) -> io::Result<Vec<u8>> {
        let file = self.lookup.tree.open(&found.path)?;
        let mut head = vec![0; usize::try_from(file.size()).unwrap_or(HEAD).min(HEAD)];
        file.read_exact_at(0, &mut head)?;
        Ok(head)
    }

    fn script(&mut self, script: String, head: &[u8], scripts: usize) -> Result<(), Fault> {
        let shebang = match Shebang::parse(head) {
            Ok(shebang) => shebang,
            Err(NoName::TooLong) => {
                return Err(Fault::ShebangTooLong {
                    script,
                    limit: HEAD,
                });
            }
            Err(NoName::Absent) => {
                let line = span(head, &script, 0..head.len());
                return Err(Fault::NoShebang {
                    program: script,
                    line,
                });
            }
        };
        if scripts == MAX_SCRIPTS {
            return Err(Fault::ShebangTooDeep {
                script,
                limit: MAX_SCRIPTS,
            });
        }
        let interpreter = String::from_utf8_lossy(shebang.interpreter()).into_owned();
        self.step(format!(
            "`{script}` is a script for `{}`",
            interpreter.escape_debug()
        ));
        let reason = Reason::Interpreter { of: script.clone() };
        let started = self.exec(shebang.interpreter(), reason, scripts + 1);
        started.map_err(|fault| match fault {
            Fault::NotFound { program, .. } if program == interpreter => Fault::NoInterpreter {
                script: script.clone(),
                interpreter,
                span: shebang.span(&script),
            },
            fault => fault.of_interpreter(&script, interpreter, shebang.span(&script)),
        })?;
        match shebang.env_target(&script) {
            Some((name, span)) => self.env(script, name, span),
            None => Ok(()),
        }
    }

    /// Does what env(1) does with the name of a program.
    fn env(&mut self, script: String, name: String, span: Box<ScriptSpan>) -> Result<(), Fault> {
        let found = match name.contains('/') {
            true => Ok(self
                .lookup
                .find(name.as_bytes())
                .ok()
                .flatten()
                .map(|_| name.clone())),
            false => self.lookup.in_path(&name),
        };
        let Some(path) = found.map_err(|source| unreadable(&name, source))? else {
            return Err(Fault::NoEnvTarget {
                script,
                interpreter: name,
                searched: self.lookup.directories.clone(),
                span,
            });
        };
        self.envs += 1;
        if self.envs > MAX_ENVS {
            return Err(Fault::ShebangTooDeep {
                script,
                limit: MAX_ENVS,
            });
        }
        self.step(format!("`{name}` in $PATH is `{path}`"));
        let reason = Reason::Interpreter { of: script.clone() };
        self.exec(path.as_bytes(), reason, 0)
            .map_err(|fault| fault.of_interpreter(&script, path, span))
    }

    fn elf(&mut self, program: String, found: &Found) -> Result<(), Fault> {
        let elf = self.parse(&program, found)?;
        let wrong = match elf.kind {
            ElfKind::Executable | ElfKind::Shared => None,
            ElfKind::Relocatable => Some("an object file"),
            ElfKind::Core => Some("a core dump"),
            ElfKind::Other(_) => Some("an ELF file of an unknown type"),
        };
        if let Some(found) = wrong {
            return Err(Fault::NotAProgram { program, found });
        }
        let wanted = &self.program.architecture;
        if !wanted.is_empty() && !runs_on(&elf, wanted) {
            let (found, wanted) = (elf.machine_name(), wanted.clone());
            return Err(Fault::WrongArchitecture {
                program,
                found,
                wanted,
            });
        }
        if elf.interpreter.is_none() {
            self.step(format!(
                "`{program}` is {}, needing no loader",
                elf.machine_name()
            ));
            return Ok(());
        }
        let closure = self
            .resolver
            .closure(&[b"/", found.path.as_bytes()].concat());
        let closure = closure.map_err(|source| undetermined(&program, source))?;
        self.loader(&program, &closure)?;
        self.libraries(program, &closure)
    }

    fn parse(&self, program: &str, found: &Found) -> Result<Elf, Fault> {
        let file = self.lookup.tree.open(&found.path);
        let file = file.map_err(|source| unreadable(program, source))?;
        Elf::parse(&*file).map_err(|error| match error {
            ElfError::Io(source) => unreadable(program, source),
            problem => Fault::Damaged {
                program: program.to_owned(),
                problem,
            },
        })
    }

    /// Checks that the kernel can start the loader in the program's place.
    fn loader(&mut self, program: &str, closure: &Closure) -> Result<(), Fault> {
        let Some(loader) = &closure.loader else {
            return Ok(());
        };
        let wanted = &loader.wanted;
        let found = self.lookup.find(wanted.as_bytes());
        let Some(found) = found.map_err(|source| unreadable(wanted, source))? else {
            return Err(Fault::NoLoader {
                program: program.to_owned(),
                machine: closure.elf.machine_name(),
                loader: wanted.clone(),
                libraries: missing(closure, program),
            });
        };
        let bad = |problem: String| Fault::BadLoader {
            program: program.to_owned(),
            loader: wanted.clone(),
            problem,
        };
        check_mode(wanted, &found).map_err(|fault| bad(fault.problem()))?;
        let elf = self
            .parse(wanted, &found)
            .map_err(|fault| bad(fault.problem()))?;
        if (elf.machine, elf.class) != (closure.elf.machine, closure.elf.class) {
            return Err(bad(format!(
                "it is built for another machine ({})",
                elf.machine_name()
            )));
        }
        self.keep(
            &found,
            Reason::Loader {
                of: program.to_owned(),
            },
        );
        Ok(())
    }

    /// Checks that the loader finds all libraries and versions.
    fn libraries(&mut self, program: String, closure: &Closure) -> Result<(), Fault> {
        let machine = closure.elf.machine_name();
        let libraries = missing(closure, &program);
        if !libraries.is_empty() {
            return Err(Fault::NoLibraries {
                program,
                machine,
                libraries,
            });
        }
        if !closure.missing_versions.is_empty() {
            let versions = closure.missing_versions.clone();
            return Err(Fault::NoVersions {
                program,
                machine,
                versions,
            });
        }
        let mut count = 0;
        for (library, path) in closure.libraries.iter().filter_map(with_path) {
            let found = self.lookup.find(path.as_bytes());
            if let Some(found) = found.map_err(|source| unreadable(path, source))? {
                let of = closure.path_of(library.needed_by.first().copied().unwrap_or(PROGRAM));
                self.keep(
                    &found,
                    Reason::Library {
                        name: library.name.clone(),
                        of,
                    },
                );
                count += 1;
            }
        }
        let loader = closure.loader.as_ref().map_or("", |loader| &loader.wanted);
        self.step(format!(
            "`{program}` is {machine}; its loader `{loader}` is there, and so are its libraries: {count}"
        ));
        Ok(())
    }

    fn step(&mut self, step: String) {
        self.proof.steps.push(step);
    }

    fn keep(&mut self, found: &Found, reason: Reason) {
        let to = found.path.to_string();
        let links = found
            .links
            .iter()
            .map(|link| (link, Reason::Link { to: to.clone() }));
        for (path, reason) in links.chain([(&found.path, reason)]) {
            if !self.proof.files.iter().any(|kept| kept.path == *path) {
                self.proof.files.push(Kept {
                    path: path.clone(),
                    source: path.clone(),
                    reason,
                });
            }
        }
    }
}

fn check_mode(program: &str, found: &Found) -> Result<(), Fault> {
    let program = program.to_owned();
    match found.node.kind {
        NodeKind::Directory => Err(Fault::Directory { program }),
        NodeKind::Other | NodeKind::Symlink { .. } => Err(Fault::NotAFile { program }),
        NodeKind::File { .. } if found.node.mode & 0o111 == 0 => Err(Fault::NotExecutable {
            program,
            mode: found.node.mode,
        }),
        NodeKind::File { .. } => Ok(()),
    }
}

/// Whether the kernel of an architecture runs a program: its own, and its 32-bit predecessor's.
fn runs_on(elf: &Elf, wanted: &str) -> bool {
    let Some(found) = elf.architecture() else {
        return false;
    };
    found == wanted || matches!((found, wanted), ("386", "amd64") | ("arm", "arm64"))
}

/// What the loader misses, each library once.
fn missing(closure: &Closure, program: &str) -> Vec<MissingLibrary> {
    let mut all: Vec<MissingLibrary> = Vec::new();
    let libraries = closure
        .missing()
        .filter(|library| library.rule != Some(Rule::Loader));
    for library in libraries {
        let user = |&position: &usize| match position {
            PROGRAM => program.to_owned(),
            library => closure.path_of(library),
        };
        let users = library.needed_by.iter().map(user);
        match all.iter_mut().find(|known| known.name == library.name) {
            Some(known) => known.needed_by.extend(users),
            None => all.push(MissingLibrary {
                name: library.name.clone(),
                needed_by: users.collect(),
                unusable: library.unusable.clone(),
            }),
        }
    }
    all
}

fn with_path(library: &Library) -> Option<(&Library, &str)> {
    let path = library.path.as_deref()?;
    (library.rule != Some(Rule::Loader)).then_some((library, path))
}

fn is_text(head: &[u8]) -> bool {
    head.iter()
        .all(|&byte| byte >= b' ' || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x1b))
}

fn unreadable(path: &str, source: io::Error) -> Fault {
    Fault::Io {
        path: path.to_owned(),
        source,
    }
}

fn undetermined(program: &str, source: ClosureError) -> Fault {
    Fault::Undetermined {
        program: program.to_owned(),
        source,
    }
}
