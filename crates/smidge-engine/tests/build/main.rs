//! Building images, through the engine's own interface, into real stores.

mod compile;
mod dockerfile;
mod program;
mod promise;
mod support;
