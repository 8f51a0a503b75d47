//! Owners by name: looked up in the image's own `/etc/passwd` and `/etc/group`, never the machine's.

use smidge_image::Tree;

use super::layer::RootFs;
use crate::{Error, Kind, Result};

/// Who is there without being listed.
const ROOT: &str = "root";

/// Reads `user[:group]`, as numbers or names. Without a group it is the user's own by name, and
/// the same number by number, as in Docker. `root` is 0 in an image that says nothing about it, as
/// is a user left out before a group.
pub(super) fn owner(rootfs: &RootFs, text: &str) -> Result<(u32, u32)> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_gid) = match user.parse() {
        Ok(uid) => (uid, uid),
        Err(_) => match lookup(rootfs, "/etc/passwd", user, 2) {
            Some(ids) => (ids[0], ids[1]),
            None if user == ROOT || (user.is_empty() && group.is_some()) => (0, 0),
            None => return Err(unknown("user", user)),
        },
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => match lookup(rootfs, "/etc/group", group, 1) {
                Some(ids) => ids[0],
                None if group == ROOT => 0,
                None => return Err(unknown("group", group)),
            },
        },
    };
    Ok((uid, gid))
}

/// The ids of a name: fields 3 and on of its line (passwd(5), group(5)).
fn lookup(rootfs: &RootFs, file: &str, name: &str, count: usize) -> Option<Vec<u32>> {
    let (path, _) = rootfs.resolve(file.as_bytes()).ok()??;
    let text = rootfs.read(&path, 1 << 20).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields[0] == name)?;
    let ids: Vec<u32> = line
        .get(2..2 + count)?
        .iter()
        .map_while(|id| id.parse().ok())
        .collect();
    (ids.len() == count).then_some(ids)
}

fn unknown(what: &str, name: &str) -> Error {
    let file = if what == "user" {
        "/etc/passwd"
    } else {
        "/etc/group"
    };
    Error::new(
        Kind::Input,
        format!("there is no {what} `{name}` in the image"),
    )
    .with_fact(format!("looked in: `{file}` of the image"))
    .with_hint(format!("give the {what} as a number"))
}

#[cfg(test)]
mod tests {
    use super::super::content::Content;
    use super::super::layer::Member;
    use super::*;

    #[test]
    fn owners_are_numbers_or_names_of_the_image() {
        let mut rootfs = RootFs::default();
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/:\nweb:x:33:44::/:\nodd:x:y\n"),
            ("etc/group", "root:x:0:\nstaff:x:50:web\n"),
        ] {
            let path = smidge_image::LayerPath::parse(path.as_bytes()).unwrap();
            rootfs.insert(Member::file(
                path,
                0o644,
                Content::memory(text.as_bytes()),
                "",
            ));
        }
        let cases = [
            ("5", Ok((5, 5))),
            ("5:6", Ok((5, 6))),
            ("web", Ok((33, 44))),
            ("web:staff", Ok((33, 50))),
            ("7:staff", Ok((7, 50))),
            (":staff", Ok((0, 50))),
            ("", Err("there is no user `` in the image")),
            ("nobody", Err("there is no user `nobody` in the image")),
            ("odd", Err("there is no user `odd` in the image")),
            ("web:web", Err("there is no group `web` in the image")),
            ("-1", Err("there is no user `-1` in the image")),
        ];
        for (text, expected) in cases {
            let found = owner(&rootfs, text).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
        let nobody = RootFs::default();
        for text in ["root", "root:root", "0:root"] {
            assert_eq!(owner(&nobody, text).unwrap(), (0, 0), "{text}");
        }
    }
}
