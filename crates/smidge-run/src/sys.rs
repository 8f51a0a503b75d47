//! The kernel's interfaces that no safe wrapper exists for: the only file of the crate with `unsafe`.
#![allow(
    unsafe_code,
    reason = "the one place where the kernel is called without a safe wrapper"
)]
