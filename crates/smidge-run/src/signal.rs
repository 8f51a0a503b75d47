//! Signals by name and number, as on the command line of `kill`.

/// The names of the standard signals of Linux on x86-64 and ARM, at the index of their number less one
/// (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names of the same signals.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// The first and last real-time signal; the C library keeps 32 and 33 for itself.
const REALTIME: (i32, i32) = (34, 64);

/// Finds a signal by its number (`15`) or name (`TERM`, `SIGTERM`, `RTMIN+3`, `RTMAX-1`), whatever its case.
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .ok()
            .filter(|number| (1..=REALTIME.1).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index).ok().map(|index| index + 1);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Some(*number);
    }
    realtime(name)
}

/// The name of a signal, with its `SIG`: `SIGTERM`, `SIGRTMIN+3`.
#[must_use]
pub fn signal_name(number: i32) -> Option<String> {
    let (first, last) = REALTIME;
    match number {
        1..=31 => Some(format!("SIG{}", NAMES[usize::try_from(number).ok()? - 1])),
        _ if number == first => Some("SIGRTMIN".to_owned()),
        _ if number == last => Some("SIGRTMAX".to_owned()),
        _ if (first..last).contains(&number) => Some(format!("SIGRTMIN+{}", number - first)),
        _ => None,
    }
}

fn realtime(name: &str) -> Option<i32> {
    let (base, sign, rest) = if let Some(rest) = name.strip_prefix("RTMIN") {
        (REALTIME.0, '+', rest)
    } else {
        (REALTIME.1, '-', name.strip_prefix("RTMAX")?)
    };
    if rest.is_empty() {
        return Some(base);
    }
    let digits = rest.strip_prefix(sign)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset: i32 = digits.parse().ok()?;
    if offset > REALTIME.1 - REALTIME.0 {
        return None;
    }
    Some(if sign == '+' {
        base + offset
    } else {
        base - offset
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_found_by_name_and_number() {
        let cases = [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigterm", Some(15)),
            ("15", Some(15)),
            ("HUP", Some(1)),
            ("SYS", Some(31)),
            ("IOT", Some(6)),
            ("POLL", Some(29)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX", Some(64)),
            ("rtmax-1", Some(63)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIG", None),
            ("-1", None),
            ("RTMIN+31", None),
            ("RTMIN+", None),
            ("RTMIN++1", None),
            ("RTMIN-1", None),
            ("99999999999", None),
            ("SIGSIGTERM", None),
        ];
        for (text, number) in cases {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }

    #[test]
    fn every_name_leads_back_to_its_number() {
        for number in (1..=31).chain(34..=64) {
            let name = signal_name(number).unwrap();
            assert_eq!(signal_number(&name), Some(number), "{name}");
        }
        assert_eq!(signal_name(15).as_deref(), Some("SIGTERM"));
        for number in [-1, 0, 32, 33, 65] {
            assert_eq!(signal_name(number), None);
        }
    }
}
