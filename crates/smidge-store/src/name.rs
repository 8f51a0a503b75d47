//! Names for containers that nobody named.
