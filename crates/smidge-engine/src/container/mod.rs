//! The verbs on containers.
