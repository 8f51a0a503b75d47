//! The verbs on images.
