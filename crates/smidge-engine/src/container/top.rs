//! `top`: a container's processes, as `ps` would show them.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smidge_run::{RunError, Status};
use time::OffsetDateTime;

use super::exec::not_running;
use crate::{Engine, Error, Kind, Result};

/// What of a process is shown, by its name in `ps -o`, with its header (ps(1), "STANDARD FORMAT SPECIFIERS").
const FIELDS: [(&str, &str, Field); 54] = [
    ("uid", "UID", Field::Uid),
    ("euid", "EUID", Field::Uid),
    ("ruid", "RUID", Field::Uid),
    ("user", "USER", Field::User),
    ("uname", "USER", Field::User),
    ("euser", "EUSER", Field::User),
    ("ruser", "RUSER", Field::User),
    ("pid", "PID", Field::Pid),
    ("tgid", "TGID", Field::Pid),
    ("ppid", "PPID", Field::Stat(4)),
    ("pgid", "PGID", Field::Stat(5)),
    ("pgrp", "PGRP", Field::Stat(5)),
    ("sid", "SID", Field::Stat(6)),
    ("sess", "SESS", Field::Stat(6)),
    ("session", "SESS", Field::Stat(6)),
    ("c", "C", Field::Share),
    ("pcpu", "%CPU", Field::Percent),
    ("%cpu", "%CPU", Field::Percent),
    ("pmem", "%MEM", Field::Memory),
    ("%mem", "%MEM", Field::Memory),
    ("vsz", "VSZ", Field::Virtual),
    ("vsize", "VSZ", Field::Virtual),
    ("rss", "RSS", Field::Resident),
    ("rssize", "RSS", Field::Resident),
    ("sz", "SZ", Field::Pages),
    ("psr", "PSR", Field::Stat(39)),
    ("stime", "STIME", Field::Since(Since::Today)),
    ("start_time", "START", Field::Since(Since::Today)),
    ("start", "STARTED", Field::Since(Since::Second)),
    ("bsdstart", "START", Field::Since(Since::Minute)),
    ("lstart", "STARTED", Field::Since(Since::Full)),
    ("etime", "ELAPSED", Field::Elapsed),
    ("etimes", "ELAPSED", Field::ElapsedSeconds),
    ("tty", "TT", Field::Terminal),
    ("tt", "TT", Field::Terminal),
    ("tname", "TTY", Field::Terminal),
    ("stat", "STAT", Field::States),
    ("state", "S", Field::Stat(3)),
    ("s", "S", Field::Stat(3)),
    ("ni", "NI", Field::Stat(19)),
    ("nice", "NI", Field::Stat(19)),
    ("nlwp", "NLWP", Field::Stat(20)),
    ("thcount", "THCNT", Field::Stat(20)),
    ("time", "TIME", Field::Time),
    ("cputime", "TIME", Field::Time),
    ("bsdtime", "TIME", Field::Minutes),
    ("times", "TIME", Field::Seconds),
    ("cputimes", "TIME", Field::Seconds),
    ("comm", "COMMAND", Field::Name),
    ("ucmd", "CMD", Field::Name),
    ("ucomm", "COMMAND", Field::Name),
    ("args", "COMMAND", Field::Command),
    ("command", "COMMAND", Field::Command),
    ("cmd", "CMD", Field::Command),
];

/// The columns of `ps -ef`, `ps -F` and `ps aux`.
const FULL: &str = "user=UID,pid,ppid,c,stime,tname,time,cmd";
const EXTRA_FULL: &str = "user=UID,pid,ppid,c,sz,rss,psr,stime,tname,time,cmd";
const BSD: &str = "user,pid,pcpu,pmem,vsz,rss,tname,stat,start_time,bsdtime,args";

/// Something of a process.
#[derive(Clone, Copy)]
enum Field {
    Uid,
    User,
    Pid,
    /// As proc_pid_stat(5) has it in the field of that number.
    Stat(usize),
    Share,
    Percent,
    Memory,
    Virtual,
    Resident,
    Pages,
    Since(Since),
    Elapsed,
    ElapsedSeconds,
    Terminal,
    States,
    Time,
    Minutes,
    Seconds,
    Name,
    Command,
}

/// How the moment at which a process began is written.
#[derive(Clone, Copy)]
enum Since {
    /// `19:16` of today, `Nov21` of this year, or the year.
    Today,
    /// `19:16:32` of the last 24 hours, or `Nov 21`.
    Second,
    /// `19:16` of the last 24 hours, or `Nov 21`.
    Minute,
    /// `Sun Nov 22 19:16:32 2026`.
    Full,
}

/// A process: the fields of proc_pid_stat(5) from the third on, and what is beside it.
struct Process {
    pid: u32,
    name: String,
    fields: Vec<String>,
    uid: u32,
    command: String,
}

/// What is the same for all processes.
struct Machine {
    now: SystemTime,
    /// Since it was started.
    up: f64,
    ticks: f64,
    page: u64,
    memory: u64,
    users: String,
}

impl Engine {
    /// Lists a container's processes: headers, and a row of texts each. `options` are those of `ps`: none or
    /// `-ef`, `aux`, `-o FIELDS`.
    ///
    /// # Errors
    /// When there is no such container, it does not run, or an option is not known.
    pub fn top(&self, name: &str, options: &[String]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let columns = columns(options)?;
        let known = self.container(name)?;
        if known.state.status != Status::Running {
            return Err(not_running(&known));
        }
        let pids = smidge_run::processes(&known.container.dir).map_err(|fault| match fault {
            RunError::NotRunning { .. } => not_running(&known),
            fault => fault.into(),
        })?;
        let machine = Machine::look(self.host.now);
        let rows = pids.into_iter().filter_map(Process::look).map(|process| {
            let cell = |(_, field): &(String, Field)| machine.show(&process, *field);
            columns.iter().map(cell).collect()
        });
        let rows = rows.collect();
        self.note_container(&known, "top", &[]);
        Ok((
            columns.into_iter().map(|(header, _)| header).collect(),
            rows,
        ))
    }
}

/// Reads the options of `ps`.
fn columns(options: &[String]) -> Result<Vec<(String, Field)>> {
    let mut wanted: Option<String> = None;
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let letters = word.trim_start_matches('-');
        if let Some((before, fields)) = letters.split_once('o')
            && before.chars().all(|letter| "eAaxw".contains(letter))
        {
            let fields = match fields {
                "" => words.next().map_or("", String::as_str),
                fields => fields,
            };
            let all = wanted.map_or_else(String::new, |wanted| wanted + ",");
            wanted = Some(all + fields);
        } else if letters.contains('u') && letters.chars().all(|letter| "auxw".contains(letter)) {
            wanted = Some(BSD.to_owned());
        } else if !letters.is_empty() && letters.chars().all(|letter| "efFAaxw".contains(letter)) {
            if letters.contains('F') {
                wanted = Some(EXTRA_FULL.to_owned());
            }
        } else {
            return Err(
                Error::new(Kind::Input, format!("`{word}` is no option of `top`"))
                    .with_fact("known are `-ef`, `-eF`, `aux` and `-o FIELD,…`"),
            );
        }
    }
    let columns = wanted.as_deref().unwrap_or(FULL).split(',').map(column);
    let columns = columns.collect::<Result<Vec<_>>>()?;
    if !columns.iter().any(|(_, field)| matches!(field, Field::Pid)) {
        return Err(
            Error::new(Kind::Input, "Couldn't find PID field in ps output")
                .with_hint("name it, too: `-o pid,…`"),
        );
    }
    Ok(columns)
}

fn column(text: &str) -> Result<(String, Field)> {
    let (name, header) = match text.split_once('=') {
        Some((name, header)) => (name, Some(header)),
        None => (text, None),
    };
    // How wide a column is to be does not matter here.
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let found = FIELDS.iter().find(|(known, _, _)| *known == name);
    let (_, usual, field) = found.ok_or_else(|| {
        let names: Vec<&str> = FIELDS.iter().map(|(name, _, _)| *name).collect();
        Error::new(Kind::Input, format!("`top` knows no field `{name}`"))
            .with_fact(format!("known are: {}", names.join(", ")))
    })?;
    Ok((header.unwrap_or(usual).to_owned(), *field))
}

impl Process {
    /// What is known of a process, unless it has ended.
    fn look(pid: u32) -> Option<Self> {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        // The name may hold anything.
        let (start, end) = (stat.find('(')?, stat.rfind(')')?);
        let name = stat.get(start + 1..end)?.to_owned();
        let fields = stat.get(end + 1..)?.split_ascii_whitespace();
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let mut lines = status.lines();
        // The second is the effective one.
        let uid = lines.find_map(|line| line.strip_prefix("Uid:"))?;
        let line = read("cmdline").unwrap_or_default();
        let line = String::from_utf8_lossy(&line)
            .trim_end_matches('\0')
            .replace('\0', " ");
        Some(Self {
            pid,
            fields: fields.map(str::to_owned).collect(),
            uid: uid.split_ascii_whitespace().nth(1)?.parse().ok()?,
            command: match line.is_empty() {
                true => format!("[{name}]"),
                false => line,
            },
            name,
        })
    }

    /// A field by its number in proc_pid_stat(5).
    fn field(&self, number: usize) -> &str {
        self.fields.get(number - 3).map_or("", String::as_str)
    }

    fn number(&self, number: usize) -> u64 {
        self.field(number).parse().unwrap_or(0)
    }

    /// Its state with what else `ps` says of it (ps(1), "PROCESS STATE CODES").
    fn states(&self) -> String {
        let nice: i64 = self.field(19).parse().unwrap_or(0);
        let leads = self.number(6) == u64::from(self.pid);
        let is_in_front = self.field(8) == self.field(5);
        let marks = [
            (nice < 0, '<'),
            (nice > 0, 'N'),
            (leads, 's'),
            (self.number(20) > 1, 'l'),
            (is_in_front, '+'),
        ];
        let marks = marks
            .into_iter()
            .filter_map(|(is, mark)| is.then_some(mark));
        self.field(3).chars().chain(marks).collect()
    }
}

impl Machine {
    fn look(now: SystemTime) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let first = |text: &str| {
            text.split([' ', '\t'])
                .find_map(|word| word.trim().parse().ok())
        };
        let memory = read("/proc/meminfo");
        let memory = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"));
        let kilobytes: f64 = memory.and_then(first).unwrap_or(0.0);
        Self {
            now,
            up: first(&read("/proc/uptime")).unwrap_or(0.0),
            ticks: rustix::param::clock_ticks_per_second() as f64,
            page: rustix::param::page_size() as u64,
            memory: (kilobytes * 1024.0) as u64,
            users: read("/etc/passwd"),
        }
    }

    fn show(&self, process: &Process, field: Field) -> String {
        let used = (process.number(14) + process.number(15)) as f64 / self.ticks;
        let age = (self.up - process.number(22) as f64 / self.ticks).max(0.0);
        let share = match age {
            0.0 => 0.0,
            age => used * 100.0 / age,
        };
        let resident = process.number(24) * self.page;
        match field {
            Field::Uid => process.uid.to_string(),
            Field::User => self.user(process.uid),
            Field::Pid => process.pid.to_string(),
            Field::Stat(number) => process.field(number).to_owned(),
            Field::Share => format!("{}", share as u64),
            Field::Percent => format!("{share:.1}"),
            Field::Memory => format!("{:.1}", resident as f64 * 100.0 / self.memory.max(1) as f64),
            Field::Virtual => (process.number(23) / 1024).to_string(),
            Field::Resident => (resident / 1024).to_string(),
            Field::Pages => (process.number(23) / self.page).to_string(),
            Field::Since(form) => self.moment(age, form),
            Field::Elapsed => elapsed(age as u64),
            Field::ElapsedSeconds => (age as u64).to_string(),
            Field::Terminal => terminal(process.number(7)),
            Field::States => process.states(),
            Field::Time => clock(used as u64),
            Field::Minutes => format!("{}:{:02}", used as u64 / 60, used as u64 % 60),
            Field::Seconds => (used as u64).to_string(),
            Field::Name => process.name.clone(),
            Field::Command => process.command.clone(),
        }
    }

    /// The name that this machine has for a user.
    fn user(&self, uid: u32) -> String {
        let number = uid.to_string();
        let mut entries = self
            .users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let entry = entries.find(|entry| entry.get(2) == Some(&number.as_str()));
        entry.map_or(number.clone(), |entry| entry[0].to_owned())
    }

    /// When something of that age in seconds began, in UTC.
    fn moment(&self, age: f64, form: Since) -> String {
        let then = self.now.checked_sub(Duration::from_secs_f64(age));
        moment(then.unwrap_or(UNIX_EPOCH).into(), self.now.into(), form)
    }
}

/// Writes `then` as `ps` does at the time `now`.
fn moment(then: OffsetDateTime, now: OffsetDateTime, form: Since) -> String {
    let (month, weekday) = (then.month().to_string(), then.weekday().to_string());
    let month = &month[..3];
    let minute = format!("{:02}:{:02}", then.hour(), then.minute());
    let second = format!("{minute}:{:02}", then.second());
    let day = format!("{month} {:2}", then.day());
    let is_recent = now - then < time::Duration::DAY;
    match form {
        Since::Today if then.date() == now.date() => minute,
        Since::Today if then.year() == now.year() => format!("{month}{:02}", then.day()),
        Since::Today => then.year().to_string(),
        Since::Second if is_recent => second,
        Since::Minute if is_recent => minute,
        Since::Second | Since::Minute => day,
        Since::Full => format!("{} {day} {second} {}", &weekday[..3], then.year()),
    }
}

/// `01:02:03`, or `4-01:02:03`.
fn clock(seconds: u64) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24);
    let rest = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => rest,
        days => format!("{days}-{rest}"),
    }
}

/// As [`clock`], without an hour that is zero.
fn elapsed(seconds: u64) -> String {
    match seconds {
        0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        seconds => clock(seconds),
    }
}

/// The name of a terminal by its device number (proc_pid_stat(5), field 7).
fn terminal(number: u64) -> String {
    let (major, minor) = (
        (number >> 8) & 0xfff,
        (number & 0xff) | ((number >> 12) & 0xfff00),
    );
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(options: &[&str]) -> Result<Vec<String>> {
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        Ok(columns(&options)?
            .into_iter()
            .map(|(header, _)| header)
            .collect())
    }

    #[test]
    fn the_options_of_ps_are_understood() {
        let full = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        assert_eq!(headers(&[]).unwrap(), full);
        assert_eq!(headers(&["-ef"]).unwrap(), full);
        assert_eq!(headers(&["aux"]).unwrap()[..3], ["USER", "PID", "%CPU"]);
        assert_eq!(headers(&["-eF"]).unwrap()[4..7], ["SZ", "RSS", "PSR"]);
        for options in [
            &["-o", "pid,comm"][..],
            &["-eo", "pid,comm"],
            &["-eopid,comm"],
            &["-o", "pid", "-o", "comm"],
            &["-o", "pid,comm:20"],
        ] {
            assert_eq!(headers(options).unwrap(), ["PID", "COMMAND"], "{options:?}");
        }
        assert_eq!(headers(&["-o", "pid=ID,cmd"]).unwrap(), ["ID", "CMD"]);
        for bad in [&["-o", "comm"][..], &["-o", "pid,nothing"], &["-z"], &["-"]] {
            assert!(headers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_and_terminals_are_written_as_ps_does() {
        assert_eq!(clock(3661), "01:01:01");
        assert_eq!(clock(90061), "1-01:01:01");
        assert_eq!(elapsed(59), "00:59");
        assert_eq!(elapsed(3661), "01:01:01");
        assert_eq!(elapsed(90061), "1-01:01:01");
        let now = OffsetDateTime::from_unix_timestamp(1_795_374_992).unwrap();
        for (age, shown) in [
            (
                59,
                ["19:15", "19:15:33", "19:15", "Sun Nov 22 19:15:33 2026"],
            ),
            (
                80_000,
                ["Nov21", "21:03:12", "21:03", "Sat Nov 21 21:03:12 2026"],
            ),
            (
                1_800_000,
                ["Nov01", "Nov  1", "Nov  1", "Sun Nov  1 23:16:32 2026"],
            ),
            (
                40_000_000,
                ["2025", "Aug 16", "Aug 16", "Sat Aug 16 20:09:52 2025"],
            ),
        ] {
            let then = now - time::Duration::seconds(age);
            let forms = [Since::Today, Since::Second, Since::Minute, Since::Full];
            assert_eq!(forms.map(|form| moment(then, now, form)), shown, "{age}");
        }
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal((136 << 8) | 3), "pts/3");
        assert_eq!(terminal((4 << 8) | 1), "tty1");
    }
}
