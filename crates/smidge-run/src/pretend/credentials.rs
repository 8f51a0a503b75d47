//! Who a program believes to be (`credentials(7)`), and how each thread's belief is remembered.

use rustix::io::Errno;

use super::caller::Caller;
use crate::spec::User;

/// Capabilities that matter here, by their bits in `linux/capability.h`: `CAP_CHOWN`, `CAP_FOWNER`,
/// `CAP_FSETID`, `CAP_SETGID`, `CAP_SETUID`, `CAP_MKNOD`.
pub(super) const GIVES_AWAY: u32 = 1;
pub(super) const OWNS_ALL: u32 = 1 << 3;
pub(super) const KEEPS_SET_ID: u32 = 1 << 4;
pub(super) const ANY_GROUP: u32 = 1 << 6;
pub(super) const ANY_USER: u32 = 1 << 7;
pub(super) const MAKES_DEVICES: u32 = 1 << 27;

const ALL: u32 = OF_FILES | ANY_USER | ANY_GROUP;

/// Those that come and go with the user of new files.
const OF_FILES: u32 = GIVES_AWAY | OWNS_ALL | KEEPS_SET_ID | MAKES_DEVICES;

/// The four ids of a kind that a thread has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    /// The real one.
    pub(super) real: u32,
    /// The effective one.
    pub(super) effective: u32,
    /// The saved one.
    pub(super) saved: u32,
    /// The one that new files get.
    pub(super) files: u32,
}

/// What a thread believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Its users.
    pub(super) user: Ids,
    /// Its groups.
    pub(super) group: Ids,
    /// Its supplementary groups.
    pub(super) groups: Vec<u32>,
    /// Which capabilities are in effect.
    pub(super) effective: u32,
    /// Which of them it may put into effect.
    pub(super) permitted: u32,
    /// Whether it may when no user of its is root any more (`PR_SET_KEEPCAPS`).
    pub(super) keeps: bool,
    /// Whether nothing follows from its users (`SECBIT_NO_SETUID_FIXUP`).
    pub(super) detached: bool,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
            files: id,
        }
    }

    /// `setuid(2)`, `setgid(2)`.
    pub(super) fn set(&mut self, id: Option<u32>, privileged: bool) -> Result<(), Errno> {
        let id = id.ok_or(Errno::INVAL)?;
        if privileged {
            *self = Self::all(id);
        } else if id == self.real || id == self.saved {
            self.effective = id;
            self.files = id;
        } else {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// `setreuid(2)`, `setregid(2)`.
    pub(super) fn set_two(
        &mut self,
        real: Option<u32>,
        effective: Option<u32>,
        privileged: bool,
    ) -> Result<(), Errno> {
        let old = *self;
        let own = |id: u32| id == old.real || id == old.effective;
        let real_ok = real.is_none_or(own);
        let effective_ok = effective.is_none_or(|id| own(id) || id == old.saved);
        if !(privileged || real_ok && effective_ok) {
            return Err(Errno::PERM);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        if real.is_some() || effective.is_some_and(|id| id != old.real) {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(())
    }

    /// `setresuid(2)`, `setresgid(2)`.
    pub(super) fn set_three(
        &mut self,
        [real, effective, saved]: [Option<u32>; 3],
        privileged: bool,
    ) -> Result<(), Errno> {
        let old = *self;
        let own = |id: u32| id == old.real || id == old.effective || id == old.saved;
        if !(privileged || [real, effective, saved].into_iter().flatten().all(own)) {
            return Err(Errno::PERM);
        }
        let new = Self {
            real: real.unwrap_or(old.real),
            effective: effective.unwrap_or(old.effective),
            saved: saved.unwrap_or(old.saved),
            files: effective.unwrap_or(old.effective),
        };
        let ids = |ids: &Self| (ids.real, ids.effective, ids.saved);
        // Where nothing is to change, the kernel changes nothing, not even back.
        if ids(&new) != ids(&old) || effective.is_some() {
            *self = new;
        }
        Ok(())
    }

    /// `setfsuid(2)`, `setfsgid(2)`: gives the old one and never fails.
    pub(super) fn set_files(&mut self, id: Option<u32>, privileged: bool) -> u32 {
        let old = *self;
        if let Some(id) = id
            && (privileged || [old.real, old.effective, old.saved, old.files].contains(&id))
        {
            self.files = id;
        }
        old.files
    }
}

/// As the kernel keeps them.
fn sorted(groups: &[u32]) -> Vec<u32> {
    let mut groups = groups.to_vec();
    groups.sort_unstable();
    groups
}

impl Credentials {
    /// Those of a program that is started as `user`.
    fn of(user: &User) -> Self {
        Self {
            user: Ids::all(user.uid),
            group: Ids::all(user.gid),
            groups: sorted(&user.groups),
            effective: if user.uid == 0 { ALL } else { 0 },
            permitted: if user.uid == 0 { ALL } else { 0 },
            keeps: false,
            detached: false,
        }
    }

    /// What becomes of capabilities when the users were `before` (`capabilities(7)`).
    pub(super) fn follow_user(&mut self, before: &Ids) {
        if self.detached {
            return;
        }
        let any_root = |ids: &Ids| [ids.real, ids.effective, ids.saved].contains(&0);
        if any_root(before) && !any_root(&self.user) && !self.keeps {
            self.permitted = 0;
            self.effective = 0;
        }
        match (before.effective, self.user.effective) {
            (0, 1..) => self.effective = 0,
            (1.., 0) => self.effective = self.permitted,
            _ => (),
        }
    }

    /// The same after `setfsuid(2)`.
    pub(super) fn follow_files(&mut self, before: &Ids) {
        match (before.files, self.user.files) {
            _ if self.detached => (),
            (0, 1..) => self.effective &= !OF_FILES,
            (1.., 0) => self.effective |= self.permitted & OF_FILES,
            _ => (),
        }
    }

    /// Whether a capability is in effect.
    pub(super) fn may(&self, capability: u32) -> bool {
        self.effective & capability != 0
    }

    /// `capset(2)`.
    pub(super) fn limit(&mut self, effective: u32, permitted: u32) {
        self.permitted &= permitted;
        self.effective = self.permitted & effective;
    }

    /// What `execve(2)` makes of them, for a program that is set to a user and a group, or not.
    pub(super) fn execute(&mut self, user: Option<u32>, group: Option<u32>) {
        for (ids, set) in [(&mut self.user, user), (&mut self.group, group)] {
            ids.effective = set.unwrap_or(ids.effective);
            ids.saved = ids.effective;
            ids.files = ids.effective;
        }
        self.keeps = false;
        let is_root = |id: u32| if id == 0 { ALL } else { 0 };
        self.effective = is_root(self.user.effective);
        self.permitted = self.effective | is_root(self.user.real);
    }

    /// Whether it is in a group, as far as files are concerned.
    pub(super) fn is_member(&self, group: u32) -> bool {
        self.group.files == group || self.groups.contains(&group)
    }
}

/// The credentials that some thread has or had. What a thread has is remembered by the thread itself:
/// its timer slack (`prctl(2)`, `PR_SET_TIMERSLACK`) is passed on by `fork(2)` and kept by `execve(2)`
/// as credentials are, and nanoseconds of it make no difference to anybody. So no process has to be
/// followed from its start to its end, and orphans keep what they had.
#[derive(Debug)]
pub(super) struct Identities {
    /// The first are those that the container is started with.
    known: Vec<Credentials>,
}

/// The timer slack of threads with the initial credentials that have had others: the default, 50 µs,
/// and a little.
const SLACK: usize = 50_100;

/// Where a thread's timer slack is found, in nanoseconds.
const SLACK_FILE: &str = "timerslack_ns";

/// More different credentials than anything but a loop over all ids makes.
const MOST: usize = 20_000;

impl Identities {
    pub(super) fn new(user: &User) -> Self {
        Self {
            known: vec![Credentials::of(user)],
        }
    }

    /// Whether all are root, and always were.
    pub(super) fn are_plain(&self) -> bool {
        self.known.len() == 1 && self.known.iter().all(|first| first.user == Ids::all(0))
    }

    /// What the caller believes.
    pub(super) fn of(&self, caller: &Caller<'_>) -> &Credentials {
        let index = if self.known.len() == 1 {
            0
        } else {
            remembered(caller).unwrap_or(0)
        };
        // There is always a first; nobody has what was never given out.
        self.known.get(index).unwrap_or(&self.known[0])
    }

    /// Makes the caller believe something else.
    pub(super) fn set(&mut self, caller: &Caller<'_>, believed: Credentials) -> Result<(), Errno> {
        if *self.of(caller) == believed {
            return Ok(());
        }
        let known = self.known.iter().position(|known| *known == believed);
        let index = match known {
            Some(index) => index,
            None if self.known.len() < MOST => {
                self.known.push(believed);
                self.known.len() - 1
            }
            None => return Err(Errno::AGAIN),
        };
        caller.write_file(SLACK_FILE, &(SLACK + index).to_string())
    }
}

/// The number of the credentials that a thread bears.
fn remembered(caller: &Caller<'_>) -> Option<usize> {
    let text = caller.file(SLACK_FILE).ok()?;
    let slack: usize = str::from_utf8(&text).ok()?.trim().parse().ok()?;
    slack.checked_sub(SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(real: u32, effective: u32, saved: u32) -> Ids {
        Ids {
            real,
            effective,
            saved,
            files: effective,
        }
    }

    #[test]
    fn programs_run_as_their_owners_and_forget_who_they_were() {
        let mut believed = Credentials::of(&User {
            uid: 33,
            gid: 34,
            groups: Vec::new(),
        });
        believed.execute(Some(0), None);
        assert_eq!(believed.user, ids(33, 0, 0));
        assert_eq!(believed.effective, ALL);
        let before = believed.user;
        believed.keeps = true;
        believed.user = Ids::all(33);
        believed.follow_user(&before);
        assert_eq!((believed.effective, believed.permitted), (0, ALL));
        believed.limit(ANY_GROUP, ANY_GROUP);
        assert_eq!(
            (believed.effective, believed.permitted),
            (ANY_GROUP, ANY_GROUP)
        );
        believed.execute(None, Some(7));
        assert_eq!(
            (believed.user, believed.group),
            (Ids::all(33), ids(34, 7, 7))
        );
        assert_eq!((believed.effective, believed.keeps), (0, false));
    }

    #[test]
    fn who_may_become_whom() {
        // As `credentials(7)` and the manuals of the calls have it.
        let mut root = Ids::all(0);
        assert_eq!(root.set(Some(33), true), Ok(()));
        assert_eq!(root, Ids::all(33));
        assert_eq!(root.set(Some(0), false), Err(Errno::PERM));
        assert_eq!(root.set(None, true), Err(Errno::INVAL));
        let mut dropped = ids(33, 33, 0);
        assert_eq!(dropped.set(Some(0), false), Ok(()));
        assert_eq!(dropped, ids(33, 0, 0));
        let mut swapped = ids(1, 2, 3);
        assert_eq!(swapped.set_two(Some(2), Some(1), false), Ok(()));
        assert_eq!(swapped, ids(2, 1, 1));
        assert_eq!(ids(1, 2, 3).set_two(Some(3), None, false), Err(Errno::PERM));
        let mut back = ids(1, 2, 3);
        assert_eq!(back.set_two(None, Some(3), false), Ok(()));
        assert_eq!(back, ids(1, 3, 3));
        let mut three = ids(1, 2, 3);
        assert_eq!(three.set_three([Some(3), None, Some(1)], false), Ok(()));
        assert_eq!(three, ids(3, 2, 1));
        assert_eq!(
            three.set_three([None, Some(9), None], false),
            Err(Errno::PERM)
        );
        let mut files = ids(1, 2, 3);
        assert_eq!(files.set_files(Some(9), false), 2);
        assert_eq!(files.set_files(Some(1), false), 2);
        assert_eq!(files.set_files(None, false), 1);
    }
}
