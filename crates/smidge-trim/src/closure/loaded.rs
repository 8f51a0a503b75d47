use std::rc::Rc;

use smidge_image::LayerPath;

use super::Rule;
use super::resolver::{Object, Probe};

/// Something that was loaded, or that should have been.
pub(super) struct Loaded {
    /// The names under which it was asked for, the first one first.
    pub(super) names: Vec<String>,
    /// Its path as the loader prints it; `None` if it was not found.
    pub(super) path: Option<String>,
    /// What was found at that path, if it can be loaded.
    pub(super) object: Option<Rc<Object>>,
    /// What was found at that path, if it cannot be loaded, and why.
    pub(super) unusable: Option<(LayerPath, Rc<str>)>,
    /// Position of what loaded it first; the program's is its own.
    pub(super) loaded_by: usize,
    /// Positions of what needs it.
    pub(super) needed_by: Vec<usize>,
    pub(super) rule: Option<Rule>,
    /// The search paths that it brings, expanded.
    pub(super) rpath: Rc<[String]>,
    pub(super) runpath: Rc<[String]>,
}

/// A path that ends the search for a library.
pub(super) struct Hit {
    pub(super) rule: Rule,
    pub(super) path: String,
    pub(super) probe: Probe,
}

impl Loaded {
    /// What was not found.
    pub(super) fn missing(name: &str, by: usize) -> Self {
        Self {
            names: vec![name.to_owned()],
            path: None,
            object: None,
            unusable: None,
            loaded_by: by,
            needed_by: Vec::new(),
            rule: None,
            rpath: Rc::default(),
            runpath: Rc::default(),
        }
    }

    pub(super) fn soname(&self) -> Option<&str> {
        self.object.as_ref()?.elf.soname.as_deref()
    }

    /// The file behind its path.
    pub(super) fn file(&self) -> Option<&LayerPath> {
        let unusable = self.unusable.as_ref().map(|(file, _)| file);
        self.object.as_ref().map(|object| &object.file).or(unusable)
    }
}

/// The directory part of an absolute path.
pub(super) fn directory_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    }
}
