//! Emulation of user and group ids, for containers that have a single one.
//!
//! A program that runs as root, the only id of its user namespace, is to believe that all ids exist,
//! and its files are to remember which they were given. So a filter (`filter`) lets some of its system
//! calls be answered by a process outside of the container, here:
//!
//! ```text
//! caller       whose call it is: its memory, where its paths lead
//! credentials  whom it believes to be, and how that is remembered
//! identity     set*id, get*id, setgroups, and the programs that are set to a user
//! file         what is claimed of files, in an attribute of theirs or, where that cannot be, in a table
//! owner        chown, chmod
//! status       stat, statx, and listxattr, which keeps claims out of copies
//! creation     open with O_CREAT, mkdir, symlink, mknod, as somebody else than root
//! ```
//!
//! **Does not** restrict anything: a program that believes to be nobody has root's access to files all
//! the same, but for changing their owners and modes and making devices. Nor does it emulate the
//! credentials that sockets pass on, what `/proc/PID/status` and `capget(2)` say, the ids of what the
//! container does not own (`/proc`, host's devices), who owns a link of a layer, or calls of 32-bit
//! programs. A new file that root makes through a link which leads nowhere gets root's group, whatever the
//! directory's. It needs a host that lets a process read another's memory (Yama's `ptrace_scope` below 3),
//! and a container whose PID 1 is the program ([`Spec::init`] hides it).
//!
//! The serving process becomes a member of the container's user namespace, so that it may do to the
//! container's files what the container's root may. The container's root is its root directory and the
//! host's `/proc` its working directory: paths lead where they lead for the caller, and relative ones
//! start at the caller's directories (`PID/cwd`, `PID/fd/N`). Whatever a caller does between the
//! answer and its effect is to nobody's harm but its own: the emulation guards nothing.

mod caller;
mod creation;
mod credentials;
mod file;
mod filter;
mod identity;
mod owner;
mod status;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::ThreadNameSpaceType;

use self::caller::Caller;
use self::credentials::Identities;
use self::file::Book;
use self::filter::Call;
use crate::copied;
use crate::error::RunError;
use crate::launch::Launched;
use crate::spec::{Spec, User};
use crate::sys::{self, Notification, Verdict};

/// Installs the filter in the calling thread, and gives the descriptor that its calls are to be
/// received from. Whatever of them it makes itself from then on waits for somebody to answer.
pub(crate) fn install() -> std::io::Result<OwnedFd> {
    sys::install_listener(&filter::program()).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => std::io::Error::new(
            std::io::ErrorKind::ResourceBusy,
            "the calls of this container are answered by somebody else, as where its network comes on demand: \
             give it `--network none`, `host` or one that was made",
        ),
        _ => error,
    })
}

/// Lets every call pass until `channel` has something to say or is closed, as the start of the program
/// closes it: the call that starts it waits for an answer as well.
pub(crate) fn let_pass(listener: BorrowedFd<'_>, channel: BorrowedFd<'_>) {
    loop {
        // In this order: when the program's own first call is seen, the channel is seen closed.
        let mut waited = [
            PollFd::from_borrowed_fd(listener, PollFlags::IN),
            PollFd::from_borrowed_fd(channel, PollFlags::IN),
        ];
        match poll(&mut waited, None) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(_) => return,
        }
        let [call, report] = waited.map(|fd| fd.revents());
        if !report.is_empty() {
            return;
        }
        if call.contains(PollFlags::IN)
            && let Ok(call) = sys::receive(listener)
        {
            sys::answer(listener, call.id, Verdict::Continue);
        }
    }
}

/// The emulation for one running container.
#[derive(Debug)]
pub struct Pretence {
    listener: OwnedFd,
    user: User,
    pid: u32,
    upper: PathBuf,
    /// Whether every directory is looked up from the caller's root, not from the container's.
    own_roots: bool,
    owners: Vec<((u64, u64), (u32, u32))>,
}

/// What becomes of a call that did not fail.
#[derive(Debug)]
enum Answer {
    /// The kernel carries it out.
    Continue,
    /// It gives a number.
    Value(i64),
    /// It gives a new descriptor, which is closed by `execve(2)` or not.
    File(OwnedFd, bool),
}

/// What the emulation knows while it serves.
#[derive(Debug)]
struct World {
    identities: Identities,
    book: Book,
}

impl Pretence {
    /// Takes the listener out of what [`launch`](crate::launch()) gave; `None` if the container was
    /// launched without [`Spec::pretend`].
    pub fn take(spec: &Spec, launched: &mut Launched) -> Option<Self> {
        Some(Self {
            listener: launched.pretence.take()?,
            user: spec.user.clone(),
            pid: launched.pid,
            upper: copied::root(&spec.dir).unwrap_or_else(|| spec.dir.join("upper")),
            // Whoever can mount can have another root without telling.
            own_roots: spec.insecure
                || spec.capabilities & rustix::thread::CapabilitySet::SYS_ADMIN.bits() != 0,
            owners: Vec::new(),
        })
    }

    /// Answers the container's system calls until its PID 1, `program`, has ended, or nobody is left
    /// to ask. To be called at once: until then the container's programs wait.
    ///
    /// The caller must have one thread. It becomes a member of the container's user namespace, for
    /// good, which may clear its `PR_SET_PDEATHSIG`.
    ///
    /// # Errors
    /// When the container cannot be entered. It should be killed then: its calls fail with `ENOSYS`.
    pub fn serve(&mut self, program: BorrowedFd<'_>) -> Result<(), RunError> {
        let old = Directories::current().map_err(RunError::supervise("open `/`"))?;
        let umask = rustix::process::umask(Mode::empty());
        let served = match self.enter(program) {
            Ok(mut world) => {
                sys::take_turns(self.listener.as_fd());
                self.answer_all(program, &mut world);
                self.owners = world.book.owners();
                Ok(())
            }
            // It has never asked anything.
            Err(_) if has_ended(program) => Ok(()),
            Err(errno) => Err(RunError::supervise("enter the container")(errno)),
        };
        rustix::process::umask(umask);
        let left = old
            .enter()
            .map_err(RunError::supervise("leave the container"));
        served.and(left)
    }

    /// The owners of what cannot carry a claim, as `((st_dev, st_ino), (uid, gid))` of the container's
    /// upper directory on the host: symbolic links, named pipes, sockets. Complete after
    /// [`serve`](Self::serve).
    #[must_use]
    pub fn link_owners(&self) -> Vec<((u64, u64), (u32, u32))> {
        self.owners.clone()
    }

    /// Becomes a member of the container's user namespace, at home between its root and `/proc`.
    fn enter(&self, program: BorrowedFd<'_>) -> Result<World, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open("/proc", flags, Mode::empty())?;
        let root = rustix::fs::openat(
            &directory,
            format!("{}/root", self.pid),
            flags,
            Mode::empty(),
        )?;
        let book = Book::new(root.as_fd(), &self.upper)?;
        // Nobody can enter where he is already.
        let namespace = |process: &str| -> Result<_, Errno> {
            let path = format!("{process}/ns/user");
            let file = rustix::fs::statat(&directory, path, AtFlags::empty())?;
            Ok((file.st_dev, file.st_ino))
        };
        if namespace("self")? != namespace(&self.pid.to_string())? {
            rustix::thread::move_into_thread_name_spaces(program, ThreadNameSpaceType::USER)?;
        }
        Directories { root, directory }.enter()?;
        // Whoever is root inside must not look into it, and out by it.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        Ok(World {
            identities: Identities::new(&self.user),
            book,
        })
    }

    fn answer_all(&mut self, program: BorrowedFd<'_>, world: &mut World) {
        loop {
            let mut waited = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::from_borrowed_fd(program, PollFlags::IN),
            ];
            match poll(&mut waited, None) {
                Ok(_) | Err(Errno::INTR) => (),
                Err(_) => return,
            }
            let [listener, program] = waited.map(|fd| fd.revents());
            if listener.contains(PollFlags::IN) {
                // It is no error that a caller was killed meanwhile.
                if let Ok(call) = sys::receive(self.listener.as_fd()) {
                    self.answer(call, world);
                }
            }
            let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
            if listener.intersects(gone) || program.intersects(PollFlags::IN | gone) {
                return;
            }
        }
    }

    fn answer(&mut self, call: Notification, world: &mut World) {
        let listener = self.listener.as_fd();
        let caller = Caller::new(listener, call);
        let answered = match Call::of(call.number) {
            Some(Call::Chroot) => {
                self.own_roots = true;
                Ok(Answer::Continue)
            }
            Some(kind) => {
                if self.own_roots {
                    // Fails if the caller is gone.
                    let _ = rustix::process::chroot(format!("{}/root", caller.thread()));
                }
                world.answer(kind, &caller)
            }
            None => Ok(Answer::Continue),
        };
        let verdict = match answered {
            Ok(Answer::Continue) => Verdict::Continue,
            Ok(Answer::Value(value)) => Verdict::Give(value),
            Ok(Answer::File(file, close_on_exec)) => {
                match sys::answer_file(listener, call.id, file.as_fd(), close_on_exec) {
                    Ok(()) => return,
                    Err(error) => Verdict::Fail(error.raw_os_error().unwrap_or(libc::EIO)),
                }
            }
            Err(errno) => Verdict::Fail(errno.raw_os_error()),
        };
        sys::answer(listener, call.id, verdict);
    }
}

impl World {
    fn answer(&mut self, call: Call, caller: &Caller<'_>) -> Result<Answer, Errno> {
        match call {
            Call::Chown | Call::Lchown | Call::Fchown | Call::Fchownat => self.chown(call, caller),
            Call::Chmod | Call::Fchmod | Call::Fchmodat | Call::Fchmodat2 => {
                self.chmod(call, caller)
            }
            Call::Stat | Call::Lstat | Call::Fstat | Call::Fstatat => self.stat(call, caller),
            Call::Statx => self.statx(caller),
            Call::Open | Call::Creat | Call::Openat | Call::Openat2 => self.open(call, caller),
            Call::Mkdir | Call::Mkdirat => self.make_directory(call, caller),
            Call::Symlink | Call::Symlinkat => self.make_link(call, caller),
            Call::Mknod | Call::Mknodat => self.make_node(call, caller),
            Call::Listxattr | Call::Llistxattr | Call::Flistxattr => self.attributes(call, caller),
            Call::Prctl => self.control(caller),
            Call::Capset => self.limit(caller),
            Call::Execve | Call::Execveat => self.execute(call, caller),
            _ => self.identify(call, caller),
        }
    }
}

/// Where a process is at home.
struct Directories {
    root: OwnedFd,
    directory: OwnedFd,
}

impl Directories {
    fn current() -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: rustix::fs::open("/", flags, Mode::empty())?,
            directory: rustix::fs::open(".", flags, Mode::empty())?,
        })
    }

    fn enter(&self) -> Result<(), Errno> {
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(".")?;
        rustix::process::fchdir(&self.directory)
    }
}

fn has_ended(program: BorrowedFd<'_>) -> bool {
    let mut waited = [PollFd::from_borrowed_fd(program, PollFlags::IN)];
    poll(&mut waited, Some(&rustix::event::Timespec::default())).is_ok_and(|ready| ready > 0)
}
