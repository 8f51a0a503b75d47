//! The verb itself: detect, draft, prove, write, measure.

use std::io::{self, Read, Write};
use std::sync::Arc;

use smidge_store::Store;

use super::assembly::{Assembly, Packer, Plain};
use super::detect::{Source, detect};
use super::dockerfile::Exchange;
use super::draft::{Draft, build_time};
use super::layer::RootFs;
use super::program::{self, Program};
use super::request::{BuildRequest, Output, OutputFormat};
use super::response::{BuildPlan, Built, Content, Product};
use super::scratch::Scratch;
use super::{c, cargo, dockerfile, go, library, plan, prove, size, slim, zig};
use crate::{Engine, Error, Kind, Progress, Result, Silent};

/// An image that only has to be written.
struct Ready {
    draft: Draft,
    rootfs: Arc<RootFs>,
    /// What is left of it, if something is to be left out.
    slimmed: Option<Vec<Content>>,
    /// What the draft's files may lie in.
    _scratch: Scratch,
}

impl Engine {
    /// Says what a build would do, without doing it.
    ///
    /// # Errors
    /// When what is to be built cannot be made out.
    pub fn plan_build(&self, request: &BuildRequest) -> Result<BuildPlan> {
        let scratch = Scratch::new(&self.store)?;
        let source = self.source(request, &scratch, &Silent, &mut io::empty())?;
        check(request, &source)?;
        plan::plan(request, &source, self)
    }

    /// Builds an image; of several platforms an image for each, under one name. Nothing is stored
    /// before all of them are proved. An output that goes to standard output is written to `stdout`.
    ///
    /// # Errors
    /// [`Kind::Compile`] when a compiler fails (it has said why), [`Kind::Input`] when what is built
    /// makes no sense or could not start, and whatever else reading files and writing the store may
    /// come to.
    pub fn build(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        stdout: &mut dyn Write,
    ) -> Result<Product> {
        self.build_from(request, progress, (&mut io::empty(), stdout))
    }

    /// As [`Engine::build`], with what comes from standard input where the context or the Dockerfile
    /// is `-`.
    ///
    /// # Errors
    /// As [`Engine::build`].
    pub fn build_from(
        &self,
        request: &BuildRequest,
        progress: &dyn Progress,
        (stdin, stdout): (&mut dyn Read, &mut dyn Write),
    ) -> Result<Product> {
        let scratch = Scratch::new(&self.store)?;
        let source = self.source(request, &scratch, progress, stdin)?;
        check(request, &source)?;
        let exchange = Exchange::open(self, request, &scratch, progress)?;
        let ready = self.ready_each(&source, &request.each(), progress, &exchange)?;
        // What is only to leave smidge never enters the user's store.
        let passing = match request.output {
            Output::Store => None,
            Output::Export { .. } => Some(Store::open_passing(&scratch.path().join("store"))?),
        };
        let store = passing.as_ref().unwrap_or(&self.store);
        let packer: Box<dyn Packer + '_> = match source {
            Source::Dockerfile { .. } => Box::new(dockerfile::Cached {
                store: &self.store,
                trusted: !request.dockerfile.no_cache,
            }),
            _ => Box::new(Plain(store)),
        };
        let assembly = Assembly {
            store,
            kept: &self.store,
            packer: &*packer,
            host: &self.host,
            names: &request.tags,
            inline_cache: exchange.is_inline(),
        };
        let drafts: Vec<&Draft> = ready.iter().map(|ready| &ready.draft).collect();
        let (images, index) = assembly.write(&drafts, progress)?;
        assembly.export(&images, index.as_ref(), &request.output, stdout)?;
        exchange.export(&drafts)?;
        let index = index.map(|index| assembly.leaving(index, &request.output));
        let index = index.transpose()?;
        let id = match (&index, &images[..]) {
            (Some(index), _) => index.digest,
            (None, [image, ..]) => image.id,
            (None, []) => return Err(Error::new(Kind::Bug, "nothing was built")),
        };
        let notes = exchange.notes();
        let built = ready.into_iter().zip(images).map(|(ready, image)| {
            let Ready {
                mut draft,
                rootfs,
                slimmed,
                ..
            } = ready;
            draft.notes.extend(notes.iter().cloned());
            Ok(Built {
                sizes: size::measure(&image, &draft, &rootfs, store, progress)?,
                image,
                tags: request.tags.clone(),
                contents: slimmed.unwrap_or_else(|| rootfs.contents()),
                source: draft.source,
                stripped: draft.stripped,
                notes: draft.notes,
            })
        });
        Ok(Product {
            id,
            images: built.collect::<Result<_>>()?,
            index,
        })
    }

    /// Finds out what is to be built, and brings it where it is elsewhere.
    pub(super) fn source(
        &self,
        request: &BuildRequest,
        scratch: &Scratch,
        progress: &dyn Progress,
        stdin: &mut dyn Read,
    ) -> Result<Source> {
        let fetcher = dockerfile::Fetcher {
            engine: self,
            connection: &request.dockerfile.connection,
            scratch,
            progress,
        };
        let named = request.path.to_string_lossy();
        let context = dockerfile::ContextSource::parse(&named, &self.host)?;
        let keep = request.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let keep = keep.is_some_and(|keep| keep == "1" || keep == "true");
        let file = request.file.as_deref();
        match dockerfile::bring((&context, file), &fetcher, stdin, keep)? {
            Some(brought) => Ok(Source::Dockerfile {
                context: brought.context,
                file: brought.file,
                name: brought.name,
            }),
            None => detect(request, &self.host),
        }
    }

    /// One platform after the other: compilers use all processors themselves.
    fn ready_each(
        &self,
        source: &Source,
        requests: &[BuildRequest],
        progress: &dyn Progress,
        exchange: &Exchange<'_>,
    ) -> Result<Vec<Ready>> {
        let named = |request: &BuildRequest, error: Error| match request.platform() {
            Some(platform) if requests.len() > 1 => {
                error.with_fact(format!("platform: {platform}"))
            }
            _ => error,
        };
        requests
            .iter()
            .map(|request| {
                self.ready(source, request, progress, exchange)
                    .map_err(|error| named(request, error))
            })
            .collect()
    }

    /// Compiles, drafts and proves the image of one platform.
    fn ready(
        &self,
        source: &Source,
        request: &BuildRequest,
        progress: &dyn Progress,
        exchange: &Exchange<'_>,
    ) -> Result<Ready> {
        let scratch = Scratch::new(&self.store)?;
        let mut draft = self.drafted(source, request, (&scratch, exchange), progress)?;
        if request.with_libs {
            library::add(&mut draft, &self.host)?;
        }
        let rootfs = Arc::new(draft.complete(build_time(&self.host)));
        let slimmed = match request.dockerfile.slim_final {
            true => Some(slim::slim(&mut draft, &rootfs, request)?),
            false => None,
        };
        if request.prove && slimmed.is_none() {
            prove::prove(&mut draft, &rootfs, request)?;
        }
        Ok(Ready {
            draft,
            rootfs,
            slimmed,
            _scratch: scratch,
        })
    }

    fn drafted(
        &self,
        source: &Source,
        request: &BuildRequest,
        (scratch, exchange): (&Scratch, &Exchange<'_>),
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
            Source::Dockerfile {
                context,
                file,
                name,
            } => {
                let place = dockerfile::Place {
                    context,
                    file,
                    name,
                    exchange,
                };
                return dockerfile::draft(&place, request, self, scratch, progress);
            }
            Source::Cargo(directory) => {
                cargo::compile(directory, request, self, scratch, progress)?
            }
            Source::Go(directory) => go::compile(directory, request, self, scratch, progress)?,
            Source::C(file) => c::compile(file, request, self, scratch, progress)?,
            Source::Zig(file) => zig::compile(file, request, self, scratch, progress)?,
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

/// Refuses what cannot be built for the platforms, or not written, before any time goes into it.
fn check(request: &BuildRequest, source: &Source) -> Result<()> {
    for platform in &request.platforms {
        if platform.os != "linux" {
            let message = format!("cannot build for `{platform}`: smidge builds for Linux alone");
            return Err(Error::new(Kind::Input, message));
        }
    }
    let options = &request.dockerfile;
    let caches = options.cache_from.iter().chain(&options.cache_to);
    if !matches!(source, Source::Dockerfile { .. }) && caches.count() > 0 {
        let message = "`--cache-from` and `--cache-to` are for Dockerfiles: nothing else has steps";
        return Err(Error::new(Kind::Input, message));
    }
    let path = request.path.display();
    if request.dockerfile.slim_final && !matches!(source, Source::Dockerfile { .. }) {
        let message = format!("`--slim-final` is for Dockerfiles, and `{path}` is none");
        return Err(Error::new(Kind::Input, message).with_hint(
            "an image that is made of a program holds nothing else: `--with-libs` adds what it needs",
        ));
    }
    if request.each().len() < 2 {
        return Ok(());
    }
    if matches!(source, Source::Elf(_)) {
        let message = format!("cannot build `{path}` for several platforms: it is one program");
        return Err(Error::new(Kind::Input, message)
            .with_hint("build each program by itself, then join the images: `smidge manifest create NAME IMAGE…`")
            .with_hint("or use a Dockerfile: `COPY program-$TARGETARCH /program`"));
    }
    let Output::Export { format, .. } = &request.output else {
        return Ok(());
    };
    let what = match format {
        OutputFormat::Oci | OutputFormat::OciArchive | OutputFormat::Rootfs => return Ok(()),
        OutputFormat::DockerArchive => "a docker-archive",
        OutputFormat::Tar => "a tar archive of an image's files",
    };
    let message = format!("{what} cannot hold images for several platforms");
    Err(Error::new(Kind::Input, message)
        .with_hint("use `-o type=oci-archive,dest=PATH`, or build one platform at a time"))
}
