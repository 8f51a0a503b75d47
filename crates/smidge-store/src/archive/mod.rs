//! Images in and out: docker-archive, OCI archive, OCI layout, plain root file systems.

mod import;
mod load;
mod save;
