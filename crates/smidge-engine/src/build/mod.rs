//! `smidge build`: a program or a Dockerfile becomes an image.

mod request;
mod response;

pub use request::{
    BuildRequest, CargoOptions, ConfigOptions, Include, Output, OutputError, OutputFormat, Sink,
    SourceKind,
};
pub use response::{BuildPlan, Built, Content, Sizes, Stripped, Transfer};

use std::io::Write;

use crate::{Engine, Error, Kind, Progress, Result};

impl Engine {
    /// Says what a build would do, without doing it.
    ///
    /// # Errors
    /// When what is to be built cannot be made out.
    pub fn plan_build(&self, request: &BuildRequest) -> Result<BuildPlan> {
        Err(Error::new(
            Kind::Bug,
            format!("cannot plan `{}` yet", request.path.display()),
        ))
    }

    /// Builds an image. An output that goes to standard output is written to `stdout`.
    ///
    /// # Errors
    /// [`Kind::Compile`] when a compiler fails (it has said why), [`Kind::CannotRun`] when the
    /// image could not start, and whatever else a file, a Dockerfile or the store may hold.
    pub fn build(
        &self,
        request: &BuildRequest,
        _progress: &dyn Progress,
        _stdout: &mut dyn Write,
    ) -> Result<Built> {
        Err(Error::new(
            Kind::Bug,
            format!("cannot build `{}` yet", request.path.display()),
        ))
    }
}
