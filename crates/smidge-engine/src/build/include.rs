//! `--include`: files of the machine that go into the image beside the program.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use smidge_image::{Entry, EntryKind, LayerPath};

use super::content::Content;
use super::layer::{Layer, Member};
use super::request::Include;
use crate::{Error, Host, Kind, Result};

/// Adds what was included to a layer. Owners and modes are the same whoever builds, under whatever
/// umask: root's, 0755 for directories and programs, 0644 for the rest.
pub(super) fn add(layer: &mut Layer, includes: &[Include], host: &Host) -> Result<()> {
    for include in includes {
        let shown = include.source.display();
        let source = host.absolute(&include.source);
        let failed = |source| Error::io(format!("cannot include `{shown}`"), source);
        // Links are followed here and kept below: who names a link means what it points to.
        let metadata = fs::metadata(&source).map_err(failed)?;
        let mut place = place(&include.destination)?;
        if metadata.is_dir() {
            add_directory(layer, &source, &place)?;
            continue;
        }
        if include.destination.ends_with('/') {
            let name = include.source.file_name().unwrap_or_default();
            place = below(&place, name.as_bytes())?;
        }
        add_file(layer, &source, place, &metadata)?;
    }
    Ok(())
}

/// The path in the image that an option names.
fn place(text: &str) -> Result<LayerPath> {
    LayerPath::parse(text.as_bytes()).map_err(|error| Error::of(Kind::Input, error))
}

fn below(directory: &LayerPath, name: &[u8]) -> Result<LayerPath> {
    directory
        .join(name)
        .map_err(|error| Error::of(Kind::Input, error))
}

fn add_directory(layer: &mut Layer, source: &Path, place: &LayerPath) -> Result<()> {
    let failed = |error| {
        Error::io(
            format!("cannot include the directory `{}`", source.display()),
            error,
        )
    };
    let mut empty = true;
    for entry in fs::read_dir(source).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let place = below(place, entry.file_name().as_bytes())?;
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        if metadata.is_dir() {
            add_directory(layer, &path, &place)?;
        } else {
            add_file(layer, &path, place, &metadata)?;
        }
        empty = false;
    }
    if empty && !place.is_root() {
        let entry = Entry::new(place.clone(), EntryKind::Directory);
        layer.insert(Member::bare(entry, "included"));
    }
    Ok(())
}

fn add_file(
    layer: &mut Layer,
    source: &Path,
    place: LayerPath,
    metadata: &fs::Metadata,
) -> Result<()> {
    let shown = source.display();
    if metadata.is_symlink() {
        let target = fs::read_link(source)
            .map_err(|error| Error::io(format!("cannot read the link `{shown}`"), error))?;
        let target = target.as_os_str().as_bytes().to_vec();
        let entry = Entry::new(place, EntryKind::Symlink { target });
        layer.insert(Member::bare(entry, "included"));
        return Ok(());
    }
    if !metadata.is_file() {
        let message = format!("cannot include `{shown}`: it is a device, pipe or socket");
        return Err(Error::new(Kind::Input, message));
    }
    if place.is_root() {
        let message = format!("cannot include `{shown}` as the root of the image");
        return Err(Error::new(Kind::Input, message)
            .with_hint("to put it into a directory, end the destination with `/`"));
    }
    let mode = if metadata.permissions().mode() & 0o111 == 0 {
        0o644
    } else {
        0o755
    };
    let content = Content::path(source, metadata.len());
    layer.insert(Member::file(place, mode, content, "included"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::test_host;

    #[test]
    fn files_directories_and_links_are_included_with_sane_modes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("d/sub/empty")).unwrap();
        for (name, mode) in [("f", 0o600), ("d/x", 0o711), ("d/sub/y", 0o4777)] {
            fs::write(at(name), name).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("../nowhere", at("d/link")).unwrap();
        let includes = ["f:/etc/f.conf", "f:/opt/", "d:/data"].map(|text| text.parse().unwrap());
        let mut layer = Layer::default();
        add(&mut layer, &includes, &test_host(dir.path())).unwrap();
        let members: Vec<_> = layer
            .members()
            .map(|member| format!("{} {:o}", member.entry.path, member.entry.mode))
            .collect();
        assert_eq!(
            members,
            [
                "/data/link 777",
                "/data/sub/empty 755",
                "/data/sub/y 755",
                "/data/x 755",
                "/etc/f.conf 644",
                "/opt/f 644",
            ]
        );
    }

    #[test]
    fn what_cannot_be_included_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let message = |text: &str| {
            let include = [text.parse().unwrap()];
            add(&mut Layer::default(), &include, &test_host(dir.path()))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(message("missing:/x"), "cannot include `missing`");
        assert!(message("f:/a/../../x").contains(".."));
        assert!(message("/dev/null:/null").contains("device"));
    }
}
