//! `smidge build`: a program or a Dockerfile becomes an image.
//!
//! What is to be built is detected ([`SourceKind`]), compiled if it is source, and drafted: files,
//! settings and history, with contents left where they are. The draft is proved to be able to
//! start, and only then written to the store, each byte read once.

mod assembly;
mod c;
mod cargo;
mod check;
mod compiler;
mod config;
mod content;
mod detect;
mod dockerfile;
mod draft;
mod go;
mod include;
mod layer;
mod library;
mod plan;
mod program;
mod prove;
mod request;
mod response;
mod scratch;
mod size;
mod slim;
mod target;
mod user;
mod verb;
mod zig;

pub use request::{
    BuildRequest, CargoOptions, ConfigOptions, DockerfileOptions, Include, Output, OutputError,
    OutputFormat, Sink, SourceKind,
};
pub(crate) use scratch::Scratch;

pub use response::{BuildPlan, Built, Content, Product, Sizes, Stripped, Target, Transfer};
