//! `--check`: what is worth saying about a Dockerfile, without building anything.

use super::detect::{Source, detect};
use super::dockerfile;
use super::request::BuildRequest;
use crate::{Engine, Error, Kind, Note, Result};

impl Engine {
    /// Checks a Dockerfile. Nothing is fetched for it.
    ///
    /// # Errors
    /// When the Dockerfile could not be built, or there is none.
    pub fn check_build(&self, request: &BuildRequest) -> Result<Vec<Note>> {
        match detect(request, &self.host)? {
            Source::Dockerfile { file, name, .. } => {
                dockerfile::notes((&file, &name), request, self)
            }
            other => {
                let message = format!(
                    "cannot check `{}`: it is no Dockerfile",
                    request.path.display()
                );
                Err(Error::new(Kind::Input, message).with_fact(format!("found: {}", other.name())))
            }
        }
    }
}
