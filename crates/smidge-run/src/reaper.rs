//! A PID 1 for programs that are none: passes signals on and takes in orphans (`--init`).

use rustix::process::{
    DumpableBehavior, Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper,
    set_dumpable_behavior, setpgid, wait,
};

use crate::sys;

/// Forks: returns in the child, which becomes the program; the parent stays behind as PID 1 and ends
/// with the program's exit status. Where it is not the first of a PID namespace, it has to ask for orphans.
pub(crate) fn split(tty: bool, is_first: bool) -> std::io::Result<()> {
    sys::block_signals();
    // The program could open this process's binary, the host's, through /proc/1/exe otherwise
    // (CVE-2019-5736). To execute something ends this for itself, so it is done before there are two.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    if !is_first {
        set_child_subreaper(Some(getpid()))?;
    }
    if let Some(program) = sys::fork()? {
        // Also the channel: its last owner shall be the program.
        sys::close_all_but(&[]);
        watch(program);
    }
    if tty {
        // The terminal's signals are for the program and its children alone.
        setpgid(None, None)?;
        rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid())?;
    }
    Ok(())
}

fn watch(program: Pid) -> ! {
    loop {
        let signal = sys::wait_for_signal();
        if signal == libc::SIGCHLD {
            reap(program);
        } else if signal > 0 {
            sys::kill(program, signal);
        }
    }
}

/// Takes in everything that has ended; ends itself if the program is among it.
fn reap(program: Pid) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            sys::exit(code(status));
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    }
}
