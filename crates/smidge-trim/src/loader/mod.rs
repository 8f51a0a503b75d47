//! What a dynamic loader searches: its defaults, its cache, its configuration, its path tokens.

mod cache;
mod config;
mod defaults;
mod glob;
mod token;

pub(crate) use cache::{CACHE, Cache, MAX_CACHE};
pub(crate) use config::config_directories;
pub(crate) use defaults::{Defaults, Dialect, musl_path};
pub(crate) use token::Tokens;
