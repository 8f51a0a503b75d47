//! The store as its callers see it: real directories, real archives, the real programs of others.

mod blob;
mod checkout;
mod container;
mod crash;
mod disk;
mod fixture;
mod hostile;
mod image;
mod interop;
mod parallel;
mod removal;
mod rootfs;
mod save;
