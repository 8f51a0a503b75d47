//! Which files a program needs, and why.
//!
//! **Does**: reads ELF files ([`Elf`]), finds the libraries that the dynamic loader would find
//! ([`closure()`]), says which of them an image must hold and where ([`keep_closure`]), cuts off what
//! a program can do without ([`strip()`]), and proves before anything runs that it can start ([`prove()`]).
//!
//! **Does not** (invariants): execute anything, read files except through a [`Tree`] or [`ReadAt`],
//! trust a single byte of them, or read a large file whole.
//!
//! Rules: [ld.so(8)](https://man7.org/linux/man-pages/man8/ld.so.8.html),
//! [execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html), and musl's `ldso/dynlink.c`.
//!
//! ```
//! use smidge_image::{Entry, EntryKind, LayerPath, MemoryTree};
//! use smidge_trim::{Program, prove};
//!
//! let mut image = MemoryTree::new();
//! let script = b"#!/bin/bash -e\n".to_vec();
//! let file = EntryKind::File { size: script.len() as u64 };
//! let mut entry = Entry::new(LayerPath::parse(b"/start.sh")?, file);
//! entry.mode = 0o755;
//! image.insert(entry, script);
//!
//! let fault = prove(&image, &Program::new(["/start.sh"], "amd64")).unwrap_err();
//! let message = "`/start.sh` cannot start: its interpreter `/bin/bash` is not in the image";
//! assert_eq!(fault.to_string(), message);
//! assert_eq!(fault.exit_code(), 127);
//! # Ok::<(), smidge_image::PathError>(())
//! ```
//!
//! [`Tree`]: smidge_image::Tree
//! [`ReadAt`]: smidge_image::ReadAt

mod closure;
mod elf;
mod keep;
mod loader;
mod prove;
mod strip;

pub use closure::{
    Closure, ClosureError, Library, Loader, MissingVersion, PROGRAM, Resolver, Rule, Search,
    closure,
};
pub use elf::{Class, Elf, ElfError, ElfKind, Linkage, VersionNeed, needed_level};
pub use keep::{KeepError, Kept, Reason, keep_closure};
pub use prove::{Fault, MissingLibrary, Program, Proof, ScriptSpan, prove};
pub use strip::{StripPlan, StripRefusal, strip};
