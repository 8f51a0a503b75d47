//! `--check` and `--call`: what there is to say about a Dockerfile, without building anything.

use std::io::Read;
use std::path::Path;

use super::detect::Source;
use super::dockerfile;
use super::request::BuildRequest;
use super::response::Target;
use super::scratch::Scratch;
use crate::{Engine, Error, Kind, Note, Result, Silent};

impl Engine {
    /// Checks a Dockerfile, which is brought here if it is elsewhere. No image is fetched for it.
    ///
    /// # Errors
    /// When the Dockerfile could not be built, or there is none.
    pub fn check_build(&self, request: &BuildRequest, stdin: &mut dyn Read) -> Result<Vec<Note>> {
        self.with_dockerfile(request, stdin, |file| {
            dockerfile::notes(file, request, self)
        })
    }

    /// Lists the stages of a Dockerfile, which is brought here if it is elsewhere.
    ///
    /// # Errors
    /// As [`Engine::check_build`].
    pub fn build_targets(
        &self,
        request: &BuildRequest,
        stdin: &mut dyn Read,
    ) -> Result<Vec<Target>> {
        self.with_dockerfile(request, stdin, |file| {
            dockerfile::targets(file, request, self)
        })
    }

    fn with_dockerfile<T>(
        &self,
        request: &BuildRequest,
        stdin: &mut dyn Read,
        look: impl FnOnce((&Path, &str)) -> Result<T>,
    ) -> Result<T> {
        let scratch = Scratch::new(&self.store)?;
        match self.source(request, &scratch, &Silent, stdin)? {
            Source::Dockerfile { file, name, .. } => look((&file, &name)),
            other => {
                let message = format!(
                    "cannot look into `{}`: it is no Dockerfile",
                    request.path.display()
                );
                Err(Error::new(Kind::Input, message).with_fact(format!("found: {}", other.name())))
            }
        }
    }
}
