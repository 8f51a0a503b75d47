//! `--user NAME|UID[:GROUP|GID]`, looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are those of Docker's runtime: a number needs no entry; a name does; groups that list
//! the user as a member are added unless a group is named.

use smidge_image::Tree;
use smidge_run::{Spec, User};

use crate::{Error, Kind, Result};

/// Whom a program runs as, and where that user is at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// The ids.
    pub(crate) user: User,
    /// The home directory; `/` for a user without an entry.
    pub(crate) home: String,
}

/// A database beyond this is not a database.
const LIMIT: u64 = 8 << 20;

/// Looks up a user in an image.
pub(crate) fn find(tree: &dyn Tree, wanted: &str) -> Result<Account> {
    let passwd = database(tree, b"/etc/passwd")?;
    let group = database(tree, b"/etc/group")?;
    account(wanted, &passwd, &group)
}

/// Looks up a user in a container that runs, with the groups that every user in it has.
pub(super) fn find_inside(spec: &Spec, wanted: &str, groups: &[String]) -> Result<Account> {
    let read = |path: &str| -> Result<String> {
        let bytes = smidge_run::read_inside(spec, path, LIMIT)?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    let group = read("/etc/group")?;
    let mut found = account(wanted, &read("/etc/passwd")?, &group)?;
    add(&mut found, groups, &group)?;
    Ok(found)
}

/// Adds groups, by their names in the image or their numbers (`--group-add`).
pub(crate) fn add_groups(tree: &dyn Tree, account: &mut Account, wanted: &[String]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    add(account, wanted, &database(tree, b"/etc/group")?)
}

fn add(account: &mut Account, wanted: &[String], group: &str) -> Result<()> {
    for name in wanted {
        let id = group_id(name, group)?;
        if !account.user.groups.contains(&id) {
            account.user.groups.push(id);
        }
    }
    Ok(())
}

fn database(tree: &dyn Tree, path: &[u8]) -> Result<String> {
    let unreadable = |source| {
        let path = String::from_utf8_lossy(path);
        Error::io(format!("cannot read `{path}` of the image"), source)
    };
    match tree.resolve(path).map_err(unreadable)? {
        None => Ok(String::new()),
        Some((path, _)) => {
            let bytes = tree.read(&path, LIMIT).map_err(unreadable)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
    }
}

/// The fields of a colon-separated database's lines.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

/// The highest id, as in Docker.
const HIGHEST: u32 = i32::MAX as u32;

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= HIGHEST)
}

fn account(wanted: &str, passwd: &str, group: &str) -> Result<Account> {
    let (user, named_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let uid = number(user);
    let entry = entries(passwd).find(|fields| match (fields.first(), fields.get(2)) {
        (Some(name), Some(id)) => *name == user || (uid.is_some() && number(id) == uid),
        _ => false,
    });
    let field = |at: usize| entry.as_ref().and_then(|fields| fields.get(at)).copied();
    let uid = field(2)
        .and_then(number)
        .or(uid)
        .ok_or_else(|| no_such("user", user, "passwd"))?;
    let home = field(5)
        .filter(|home| !home.is_empty())
        .unwrap_or("/")
        .to_owned();
    let mut ids = User {
        uid,
        gid: field(3).and_then(number).unwrap_or(0),
        groups: Vec::new(),
    };
    match named_group {
        Some(wanted) => ids.gid = group_id(wanted, group)?,
        None => {
            let name = field(0).unwrap_or(user);
            ids.groups = entries(group)
                .filter(|fields| {
                    fields
                        .get(3)
                        .is_some_and(|members| members.split(',').any(|m| m == name))
                })
                .filter_map(|fields| number(fields.get(2)?))
                .collect();
        }
    }
    // As Docker does since CVE-2022-36109: a group that is not among them could be cast off.
    if !ids.groups.contains(&ids.gid) {
        ids.groups.insert(0, ids.gid);
    }
    Ok(Account { user: ids, home })
}

fn group_id(wanted: &str, group: &str) -> Result<u32> {
    let id = number(wanted);
    let entry = entries(group).find(|fields| fields.first() == Some(&wanted));
    let found = entry.and_then(|fields| number(fields.get(2)?));
    found
        .or(id)
        .ok_or_else(|| no_such("group", wanted, "group"))
}

fn no_such(what: &str, name: &str, database: &str) -> Error {
    if name.parse::<i64>().is_ok() {
        let fault = format!("invalid {what} `{name}`: uids and gids must be in range 0-{HIGHEST}");
        return Error::new(Kind::Input, fault);
    }
    Error::new(
        Kind::Input,
        format!("unable to find {what} {name}: no matching entries in {database} file"),
    )
    .with_hint("a number needs no entry: `-u 1000`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# c\n\nweb:x:33:44::/srv:/bin/sh\nbroken\nshort:x:5\n7:x:70:70::/seven:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\ntty:x:5:web\nweb:x:44:\nbad:x:y:web\n";

    fn shown(wanted: &str) -> String {
        match account(wanted, PASSWD, GROUP) {
            Ok(Account { user, home }) => {
                format!("{}:{} {:?} {home}", user.uid, user.gid, user.groups)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn users_are_found_as_dockers_runtime_finds_them() {
        for (wanted, expected) in [
            ("", "0:0 [0, 10] /root"),
            ("root", "0:0 [0, 10] /root"),
            ("web", "33:44 [44, 10, 5] /srv"),
            ("33", "33:44 [44, 10, 5] /srv"),
            ("web:wheel", "33:10 [10] /srv"),
            ("web:99", "33:99 [99] /srv"),
            ("1000", "1000:0 [0] /"),
            ("1000:1001", "1000:1001 [1001] /"),
            ("short", "5:0 [0] /"),
            (":wheel", "0:10 [10] /root"),
            ("7", "70:70 [70] /seven"),
        ] {
            assert_eq!(shown(wanted), expected, "{wanted}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(shown("nobody").starts_with("unable to find user nobody: no matching entries"));
        assert!(shown("web:nobody").starts_with("unable to find group nobody"));
        assert!(shown("4294967295").contains("in range 0-2147483647"));
        assert!(shown("-1").contains("in range 0-2147483647"));
    }
}
