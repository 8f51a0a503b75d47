//! Credential helpers.
