//! Makes the files that a layer describes.
