//! The end-to-end tests live in `e2e/`; this library only gives them a package.
