//! The verb itself: detect, draft, prove, write, measure.

use std::io::Write;

use smidge_store::Store;

use super::assembly::Assembly;
use super::detect::{Source, detect};
use super::draft::{Draft, build_time};
use super::program::{self, Program};
use super::request::{BuildRequest, Output};
use super::response::{BuildPlan, Built};
use super::scratch::Scratch;
use super::{cargo, dockerfile, go, library, plan, prove, size};
use crate::{Engine, Progress, Result};

impl Engine {
    /// Says what a build would do, without doing it.
    ///
    /// # Errors
    /// When what is to be built cannot be made out.
    pub fn plan_build(&self, request: &BuildRequest) -> Result<BuildPlan> {
        plan::plan(request, &detect(request, &self.host)?, self)
    }

    /// Builds an image. An output that goes to standard output is written to `stdout`.
    ///
    /// # Errors
    /// [`Kind::Compile`](crate::Kind::Compile) when a compiler fails (it has said why),
    /// [`Kind::Input`](crate::Kind::Input) when what is built makes no sense or could not start,
    /// and whatever else reading files and writing the store may come to.
    pub fn build(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        stdout: &mut dyn Write,
    ) -> Result<Built> {
        let source = detect(request, &self.host)?;
        let scratch = Scratch::new(&self.store)?;
        let mut draft = self.drafted(&source, request, &scratch, progress)?;
        if request.with_libs {
            library::add(&mut draft, &self.host)?;
        }
        let rootfs = draft.complete(build_time(&self.host));
        if request.prove {
            prove::prove(&draft, &rootfs, request)?;
        }
        // What is only to leave smidge never enters the user's store.
        let passing = match request.output {
            Output::Store => None,
            Output::Export { .. } => Some(Store::open(&scratch.path().join("store"))?),
        };
        let store = passing.as_ref().unwrap_or(&self.store);
        let assembly = Assembly {
            store,
            host: &self.host,
            names: &request.tags,
        };
        let image = assembly.write(&draft, progress)?;
        assembly.export(&image, &request.output, stdout)?;
        let sizes = size::measure(&image, &draft, &rootfs, store, progress)?;
        Ok(Built {
            image,
            tags: request.tags.clone(),
            sizes,
            contents: rootfs.contents(),
            source: draft.source,
            stripped: draft.stripped,
            notes: draft.notes,
        })
    }

    fn drafted(
        &self,
        source: &Source,
        request: &BuildRequest,
        scratch: &Scratch,
        progress: &dyn Progress,
    ) -> Result<Draft> {
        let compiled = match source {
            Source::Elf(path) => {
                let program = Program {
                    path,
                    name: program::name(path)?,
                    source: source.name(),
                    compiled: false,
                };
                return program::draft(&program, request, &self.host);
            }
            Source::Dockerfile { context, file } => {
                return dockerfile::draft(context, file, request, self, scratch);
            }
            Source::Cargo(directory) => {
                cargo::compile(directory, request, self, scratch, progress)?
            }
            Source::Go(directory) => go::compile(directory, request, self, scratch, progress)?,
        };
        let program = Program {
            path: &compiled,
            name: program::name(&compiled)?,
            source: source.name(),
            compiled: true,
        };
        program::draft(&program, request, &self.host)
    }
}
