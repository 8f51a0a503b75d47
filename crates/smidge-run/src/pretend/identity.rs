//! Answers to who a program is, and to whom it wants to be.

use rustix::io::Errno;

use super::caller::Caller;
use super::credentials::{Credentials, Ids};
use super::filter::Call;
use super::{Answer, World};

/// `NGROUPS_MAX` of `linux/limits.h`.
const MOST_GROUPS: usize = 65_536;

impl World {
    /// `get*id`, `set*id`, `getgroups`, `setgroups`.
    pub(super) fn identify(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        let believed = self.identities.of(caller);
        let number = |id: u32| Ok(Answer::Value(i64::from(id)));
        match call {
            Call::Getuid => number(believed.user.real),
            Call::Geteuid => number(believed.user.effective),
            Call::Getgid => number(believed.group.real),
            Call::Getegid => number(believed.group.effective),
            Call::Getresuid => tell(caller, &believed.user),
            Call::Getresgid => tell(caller, &believed.group),
            Call::Getgroups => groups(caller, &believed.groups),
            _ => {
                let mut believed = believed.clone();
                let value = change(call, caller, &mut believed)?;
                if !caller.still_waits() {
                    return Err(Errno::SRCH);
                }
                self.identities.set(caller, believed)?;
                number(value)
            }
        }
    }
}

/// Changes credentials as a call asks, and gives its answer.
fn change(call: Call, caller: &Caller<'_>, believed: &mut Credentials) -> Result<u32, Errno> {
    let privileged = believed.is_privileged();
    let (user, group) = (&mut believed.user, &mut believed.group);
    let [first, second, third] = [0, 1, 2].map(|place| caller.id(place));
    match call {
        Call::Setuid => user.set(first, privileged)?,
        Call::Setgid => group.set(first, privileged)?,
        Call::Setreuid => user.set_two(first, second, privileged)?,
        Call::Setregid => group.set_two(first, second, privileged)?,
        Call::Setresuid => user.set_three([first, second, third], privileged)?,
        Call::Setresgid => group.set_three([first, second, third], privileged)?,
        Call::Setfsuid => return Ok(user.set_files(first, privileged)),
        Call::Setfsgid => return Ok(group.set_files(first, privileged)),
        Call::Setgroups if privileged => believed.groups = new_groups(caller)?,
        Call::Setgroups => return Err(Errno::PERM),
        _ => return Err(Errno::NOSYS),
    }
    Ok(0)
}

/// Writes the real, the effective and the saved id to where the arguments say.
fn tell(caller: &Caller<'_>, ids: &Ids) -> Result<Answer, Errno> {
    for (place, id) in [ids.real, ids.effective, ids.saved].into_iter().enumerate() {
        caller.write(caller.argument(place), &id.to_ne_bytes())?;
    }
    Ok(Answer::Value(0))
}

/// `getgroups(2)`.
fn groups(caller: &Caller<'_>, groups: &[u32]) -> Result<Answer, Errno> {
    let count = caller.number(0).cast_signed();
    let count = usize::try_from(count).map_err(|_| Errno::INVAL)?;
    if count > 0 {
        if count < groups.len() {
            return Err(Errno::INVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|id| id.to_ne_bytes()).collect();
        if !bytes.is_empty() {
            caller.write(caller.argument(1), &bytes)?;
        }
    }
    Ok(Answer::Value(i64::try_from(groups.len()).unwrap_or(0)))
}

fn new_groups(caller: &Caller<'_>) -> Result<Vec<u32>, Errno> {
    let count = usize::try_from(caller.number(0)).unwrap_or(usize::MAX);
    if count > MOST_GROUPS {
        return Err(Errno::INVAL);
    }
    let mut bytes = vec![0; count * size_of::<u32>()];
    if count > 0 {
        caller.read(caller.argument(1), &mut bytes)?;
    }
    let (ids, _) = bytes.as_chunks::<4>();
    let mut groups: Vec<u32> = ids.iter().map(|id| u32::from_ne_bytes(*id)).collect();
    if groups.contains(&u32::MAX) {
        return Err(Errno::INVAL);
    }
    groups.sort_unstable();
    Ok(groups)
}
