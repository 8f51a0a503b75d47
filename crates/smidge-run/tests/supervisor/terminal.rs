//! Programs with a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use smidge_tests::InTime as _;

use crate::sandbox::{Sandbox, contain};

/// A user's terminal with a command in it.
struct Terminal {
    master: File,
    child: Child,
    seen: String,
}

impl Terminal {
    fn new(command: &mut Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(33, 101)).unwrap();
        let slave = || -> OwnedFd { ioctl_tiocgptpeer(&master, flags).unwrap() };
        let child = command
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .unwrap();
        Self {
            master: File::from(master),
            child,
            seen: String::new(),
        }
    }

    fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until `text` has come; forgets everything up to it.
    fn expect(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        while !self.seen.contains(text) {
            let length = self.master.read(&mut buffer).unwrap_or(0);
            assert_ne!(length, 0, "`{text}` did not come after `{}`", self.seen);
            self.seen
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn end(&mut self) -> Option<i32> {
        self.child.status_in_time().unwrap().code()
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[test]
fn a_shell_has_a_terminal_of_its_own() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("shell", &["sh"]);
    (spec.tty, spec.stdin) = (true, true);
    let mut terminal = Terminal::new(&mut sandbox.start(&spec, &["-a", "-i"]));
    terminal.send("tty; stty size\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("33 101");
    tcsetwinsize(&terminal.master, size(44, 111)).unwrap();
    kill_process(
        Pid::from_raw(terminal.child.id().cast_signed()).unwrap(),
        Signal::WINCH,
    )
    .unwrap();
    // Asks again until the new size has got there.
    terminal.send(
        "until stty size | grep '44 111'; do :; done 2>/dev/null\n"
            .replace("grep", "busybox grep")
            .as_str(),
    );
    terminal.expect("44 111\r\n");
    // Job control: Ctrl-C ends the foreground job, not the shell.
    terminal.send("sh -c 'echo o''n; exec sleep 1000'\n");
    terminal.expect("on\r\n");
    terminal.send("\x03");
    terminal.send("echo status $?\n");
    terminal.expect("status 130");
    terminal.send("exit 7\n");
    assert_eq!(terminal.end(), Some(7));
}

#[test]
fn the_user_detaches_and_comes_back() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("back", &["sh"]);
    (spec.tty, spec.stdin) = (true, true);
    let mut terminal = Terminal::new(&mut sandbox.start(&spec, &["-a", "-i"]));
    terminal.send("echo o''ne\n");
    terminal.expect("one\r\n");
    terminal.send("\x10\x11");
    assert_eq!(terminal.end(), Some(77));
    let mut command = contain("attach");
    let mut terminal = Terminal::new(command.arg(sandbox.dir("back")));
    terminal.send("echo t''wo\n");
    terminal.expect("two\r\n");
    terminal.send("exit 5\n");
    assert_eq!(terminal.end(), Some(5));
    assert!(sandbox.verb("logs", "back", &[]).1.contains("two\r\n"));
}

#[test]
fn ctrl_c_ends_a_program_without_handlers() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    // Not from a shell: until it has executed the program it catches the signal itself.
    let mut spec = sandbox.spec("interrupt", &["cat", "/proc/sys/kernel/ostype", "-"]);
    (spec.tty, spec.stdin) = (true, true);
    let mut terminal = Terminal::new(&mut sandbox.start(&spec, &["-a", "-i"]));
    terminal.expect("Linux\r\n");
    terminal.send("\x03");
    assert_eq!(terminal.end(), Some(130));
}

#[test]
fn the_terminal_is_as_it_was_afterwards() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut spec = sandbox.spec("restore", &["sh", "-c", "echo on; cat"]);
    (spec.tty, spec.stdin) = (true, true);
    for end in ["\x10\x11", "\x04"] {
        let mut terminal = Terminal::new(&mut sandbox.start(&spec, &["-a", "-i"]));
        let held =
            ioctl_tiocgptpeer(&terminal.master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        terminal.expect("on\r\n");
        assert!(
            !tcgetattr(&held)
                .unwrap()
                .local_modes
                .contains(LocalModes::ICANON)
        );
        terminal.send(end);
        terminal.end();
        assert!(
            tcgetattr(&held)
                .unwrap()
                .local_modes
                .contains(LocalModes::ICANON)
        );
        sandbox.verb("signal", "restore", &["9"]);
        sandbox.verb("wait", "restore", &[]);
    }
}
