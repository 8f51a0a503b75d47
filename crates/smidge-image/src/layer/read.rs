//! Reading layers.

use std::io::Read;

use super::{Entry, LayerError};

/// Reads a layer to its end, and hands each entry with its content to `visit`.
///
/// Entries come in the archive's order, and a name may come twice: the last one holds. What `visit`
/// leaves unread of a content is skipped. GNU, PAX, ustar and pre-POSIX archives are understood, and
/// GNU's sparse files are filled with zeros. `reader` is read to its end, past the archive's end.
///
/// Hostile archives are safe to read: memory is bounded, and every path is inside the image. What is
/// *not* bounded is the size of the contents; [`Entry::size`] tells it before the first byte.
///
/// # Errors
/// A [`LayerError`] for an archive that is not a layer, and whatever `visit` returns. A content that
/// ends too early is an error of its reader, too.
pub fn read_layer<R: Read, E: From<LayerError>>(
    _reader: R,
    _visit: impl FnMut(Entry, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    unimplemented!()
}
