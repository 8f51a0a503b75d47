//! `top`: a container's processes, as `ps` would show them.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smidge_run::{RunError, Status};
use time::OffsetDateTime;

use super::exec::not_running;
use crate::{Engine, Error, Kind, Result};

/// What of a process is shown, by its name in `ps -o`, with its header.
const FIELDS: [(&str, &str, Field); 26] = [
    ("uid", "UID", Field::Uid),
    ("user", "USER", Field::User),
    ("euser", "EUSER", Field::User),
    ("pid", "PID", Field::Pid),
    ("ppid", "PPID", Field::Parent),
    ("c", "C", Field::Share),
    ("pcpu", "%CPU", Field::Percent),
    ("%cpu", "%CPU", Field::Percent),
    ("pmem", "%MEM", Field::Memory),
    ("%mem", "%MEM", Field::Memory),
    ("vsz", "VSZ", Field::Virtual),
    ("rss", "RSS", Field::Resident),
    ("stime", "STIME", Field::Started),
    ("start", "START", Field::Started),
    ("etime", "ELAPSED", Field::Elapsed),
    ("tty", "TT", Field::Terminal),
    ("tname", "TTY", Field::Terminal),
    ("stat", "STAT", Field::States),
    ("state", "S", Field::State),
    ("s", "S", Field::State),
    ("ni", "NI", Field::Nice),
    ("nlwp", "NLWP", Field::Threads),
    ("time", "TIME", Field::Time),
    ("comm", "COMMAND", Field::Name),
    ("args", "COMMAND", Field::Command),
    ("cmd", "CMD", Field::Command),
];

/// The columns of `ps -ef`, and of `ps aux`.
const FULL: &str = "user=UID,pid,ppid,c,stime,tname,time,cmd";
const BSD: &str = "user,pid,pcpu,pmem,vsz,rss,tname,stat,start,time,args";

/// Something of a process.
#[derive(Clone, Copy)]
enum Field {
    Uid,
    User,
    Pid,
    Parent,
    Share,
    Percent,
    Memory,
    Virtual,
    Resident,
    Started,
    Elapsed,
    Terminal,
    State,
    States,
    Nice,
    Threads,
    Time,
    Name,
    Command,
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
        } else if letters.is_empty() || !letters.chars().all(|letter| "efAaxw".contains(letter)) {
            return Err(
                Error::new(Kind::Input, format!("`{word}` is no option of `top`"))
                    .with_fact("known are `-ef`, `aux` and `-o FIELD,…`"),
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
    let name = match name {
        "command" => "args",
        "ucmd" | "ucomm" => "comm",
        "ruser" | "uname" => "user",
        "euid" | "ruid" => "uid",
        "cputime" => "time",
        "tt" => "tty",
        "start_time" | "bsdstart" => "stime",
        "rssize" => "rss",
        "vsize" => "vsz",
        "nice" => "ni",
        name => name,
    };
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
    fn number(&self, number: usize) -> u64 {
        let field = self.fields.get(number - 3);
        field.and_then(|field| field.parse().ok()).unwrap_or(0)
    }
}

impl Process {
    /// Its state with what else `ps` says of it (ps(1), "PROCESS STATE CODES").
    fn states(&self) -> String {
        let nice: i64 = self
            .fields
            .get(16)
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        let leads = self.number(6) == u64::from(self.pid);
        let is_in_front = self.fields.get(5) == self.fields.get(2);
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
        self.fields
            .iter()
            .take(1)
            .cloned()
            .chain(marks.map(String::from))
            .collect()
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
            Field::Parent => process.number(4).to_string(),
            Field::Share => format!("{}", share as u64),
            Field::Percent => format!("{share:.1}"),
            Field::Memory => format!("{:.1}", resident as f64 * 100.0 / self.memory.max(1) as f64),
            Field::Virtual => (process.number(23) / 1024).to_string(),
            Field::Resident => (resident / 1024).to_string(),
            Field::Started => self.moment(age),
            Field::Elapsed => elapsed(age as u64),
            Field::Terminal => terminal(process.number(7)),
            Field::State => process.fields.first().cloned().unwrap_or_default(),
            Field::States => process.states(),
            Field::Nice => process.fields.get(16).cloned().unwrap_or_default(),
            Field::Threads => process.number(20).to_string(),
            Field::Time => clock(used as u64),
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

    /// When something of that age began, in UTC: the time of today, or the day.
    fn moment(&self, age: f64) -> String {
        let then = self.now.checked_sub(Duration::from_secs_f64(age));
        let then = OffsetDateTime::from(then.unwrap_or(UNIX_EPOCH));
        match then.date() == OffsetDateTime::from(self.now).date() {
            true => format!("{:02}:{:02}", then.hour(), then.minute()),
            false => {
                let month = then.month().to_string();
                format!("{}{:02}", &month[..3], then.day())
            }
        }
    }
}

/// `01:02:03`.
fn clock(seconds: u64) -> String {
    let (hours, rest) = (seconds / 3600, seconds % 3600);
    format!("{hours:02}:{:02}:{:02}", rest / 60, rest % 60)
}

/// `4-01:02:03`, without what is zero in front of the minutes.
fn elapsed(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    match (days, rest) {
        (0, rest) if rest < 3600 => format!("{:02}:{:02}", rest / 60, rest % 60),
        (0, rest) => clock(rest),
        (days, rest) => format!("{days}-{}", clock(rest)),
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
        for options in [
            &["-o", "pid,comm"][..],
            &["-eo", "pid,comm"],
            &["-eopid,comm"],
            &["-o", "pid", "-o", "comm"],
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
        assert_eq!(elapsed(59), "00:59");
        assert_eq!(elapsed(3661), "01:01:01");
        assert_eq!(elapsed(90061), "1-01:01:01");
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal((136 << 8) | 3), "pts/3");
        assert_eq!(terminal((4 << 8) | 1), "tty1");
    }
}
