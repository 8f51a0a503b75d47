//! The libraries that a program loads: what the dynamic loader would do, without running it.
//!
//! glibc's rules are those of ld.so(8) and `elf/dl-load.c`, `elf/dl-deps.c` (2.36); musl's those of
//! `ldso/dynlink.c` (1.2). The order of the libraries is the order in which the loader maps them.

mod glibc;
mod loaded;
mod musl;
mod resolver;
mod result;
mod version;
mod walk;

pub use resolver::{Resolver, Search, closure};
pub use result::{Closure, ClosureError, Library, Loader, MissingVersion, PROGRAM, Rule};
