//! Removes trees that hold other users' files and the overlay's leavings.

use std::path::Path;

use crate::error::RunError;
use crate::idmap::IdMap;

/// Removes `path` and everything below it, also what belongs to ids that only `map` can reach and
/// directories without any permission. A path that does not exist is fine.
///
/// # Errors
/// With the first path that could not be removed.
pub fn remove_tree(map: &IdMap, path: &Path) -> Result<(), RunError> {
    let _ = (map, path);
    unimplemented!()
}
