//! Questions for names of a network's containers, and their answers
//! ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035), sections 3 and 4).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a message's header.
const HEADER: usize = 12;

/// The longest name, in bytes.
const NAME: usize = 255;

/// Seconds that an answer may be remembered: containers come and go.
const TIME_TO_LIVE: u32 = 1;

/// Kinds of records, and the class of all of them.
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// Answers without a record, which another server may have.
const SERVER_FAILURE: u8 = 2;
const NOT_IMPLEMENTED: u8 = 4;
const REFUSED: u8 = 5;

/// Says that there is more than the message holds.
const TRUNCATED: u8 = 2;

/// Who is on the networks of a container. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The first name that an address was given.
    names: BTreeMap<IpAddr, String>,
}

/// What is to be said to a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This.
    Reply(Vec<u8>),
    /// What the machine's own name server says.
    Forward,
    /// Nothing: it is no question.
    Nothing,
}

/// The one question of a message.
struct Question<'m> {
    /// In lower case, without the dot at the end.
    name: String,
    kind: u16,
    class: u16,
    /// As it stands in the message.
    bytes: &'m [u8],
}

impl Names {
    /// Adds an address of a name.
    pub(super) fn add(&mut self, name: &str, ip: IpAddr) {
        let name = name.to_ascii_lowercase();
        self.names.entry(ip).or_insert_with(|| name.clone());
        let addresses = self.addresses.entry(name).or_default();
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }

    /// What is to be said to a message.
    pub(super) fn answer(&self, message: &[u8]) -> Answer {
        let Some(question) = question(message) else {
            return Answer::Nothing;
        };
        if question.class != INTERNET {
            return Answer::Forward;
        }
        if question.kind == PTR {
            return match address_of(&question.name).and_then(|ip| self.names.get(&ip)) {
                Some(name) => Answer::Reply(reply(message, &question, &[labels(name)])),
                None => Answer::Forward,
            };
        }
        let Some(addresses) = self.addresses.get(&question.name) else {
            return Answer::Forward;
        };
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|ip| match (ip, question.kind) {
                (IpAddr::V4(ip), A) => Some(ip.octets().to_vec()),
                (IpAddr::V6(ip), AAAA) => Some(ip.octets().to_vec()),
                _ => None,
            })
            .collect();
        Answer::Reply(reply(message, &question, &records))
    }
}

/// What is said to a question that nobody can be asked.
pub(super) fn failure(message: &[u8]) -> Option<Vec<u8>> {
    let question = question(message)?;
    let mut reply = reply(message, &question, &[]);
    reply[3] |= SERVER_FAILURE;
    Some(reply)
}

/// What is said to a question whose answer does not fit: whoever has asked asks again by a connection.
pub(super) fn truncated(message: &[u8]) -> Option<Vec<u8>> {
    let question = question(message)?;
    let mut reply = reply(message, &question, &[]);
    reply[2] |= TRUNCATED;
    Some(reply)
}

/// Whether a message is about what another one has asked, whatever their numbers are.
pub(super) fn is_answer(asked: &[u8], answer: &[u8]) -> bool {
    let (Some(question), Some(header)) = (question(asked), answer.first_chunk::<HEADER>()) else {
        return false;
    };
    let Some(told) = answer.get(HEADER..HEADER + question.bytes.len()) else {
        return false;
    };
    // Lengths of labels and the name's end are no letters; kind and class may be.
    let (name, rest) = question.bytes.split_at(question.bytes.len() - 4);
    let (told_name, told_rest) = told.split_at(name.len());
    header[2] & 0x80 != 0
        && header[4..6] == [0, 1]
        && told_name.eq_ignore_ascii_case(name)
        && told_rest == rest
}

/// Whether an answer only says that its server cannot, or will not, find one.
pub(super) fn is_at_a_loss(answer: &[u8]) -> bool {
    let said = answer.get(3).map(|flags| flags & 0x0f);
    said.is_some_and(|code| [SERVER_FAILURE, NOT_IMPLEMENTED, REFUSED].contains(&code))
}

/// Reads a message that asks for one name.
fn question(message: &[u8]) -> Option<Question<'_>> {
    let header: &[u8; HEADER] = message.first_chunk()?;
    let [_, _, flags, _, high, low, ..] = *header;
    // A question (QR, OPCODE), and one.
    if flags & 0b1111_1000 != 0 || [high, low] != [0, 1] {
        return None;
    }
    let mut name = String::new();
    let mut rest = &message[HEADER..];
    loop {
        let (&length, after) = rest.split_first()?;
        if length == 0 {
            rest = after;
            break;
        }
        // Longer ones are pointers, which a first name has nothing to point at.
        if length > 63 {
            return None;
        }
        let (label, after) = after.split_at_checked(usize::from(length))?;
        if !name.is_empty() {
            name.push('.');
        }
        // Bytes that are no ASCII are nobody's name here.
        name.extend(
            label
                .iter()
                .map(|byte| char::from(byte.to_ascii_lowercase())),
        );
        if name.len() > NAME {
            return None;
        }
        rest = after;
    }
    let [kind, kind_low, class, class_low] = *rest.first_chunk()?;
    let length = message.len() - rest.len() + 4;
    Some(Question {
        name,
        kind: u16::from_be_bytes([kind, kind_low]),
        class: u16::from_be_bytes([class, class_low]),
        bytes: &message[HEADER..length],
    })
}

/// An answer with records of the question's kind.
fn reply(message: &[u8], question: &Question<'_>, records: &[Vec<u8>]) -> Vec<u8> {
    let mut reply = Vec::with_capacity(512);
    reply.extend_from_slice(&message[..2]);
    // A response with recursion available, and with it desired if it was.
    reply.extend([0x80 | message[2] & 1, 0x80]);
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
    reply.extend([0, 1]);
    reply.extend(count.to_be_bytes());
    reply.extend([0; 4]);
    reply.extend_from_slice(question.bytes);
    for record in records {
        // The name is that of the question, which follows the header.
        reply.extend([0xc0, 12]);
        reply.extend(question.kind.to_be_bytes());
        reply.extend(INTERNET.to_be_bytes());
        reply.extend(TIME_TO_LIVE.to_be_bytes());
        let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
        reply.extend(length.to_be_bytes());
        reply.extend_from_slice(record);
    }
    reply
}

/// A name as it stands in a message.
fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

/// The address that a name of the reverse zones stands for (RFC 1035, 3.5; RFC 3596, 2.5).
fn address_of(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = digits.split('.').map(str::parse::<u8>);
        let mut next = || octets.next()?.ok();
        let (d, c, b, a) = (next()?, next()?, next()?, next()?);
        return octets
            .next()
            .is_none()
            .then(|| Ipv4Addr::new(a, b, c, d).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut count = 0;
    for (place, digit) in digits.split('.').enumerate() {
        let value = u128::from_str_radix(digit, 16).ok()?;
        if digit.len() != 1 || place > 31 {
            return None;
        }
        bits |= value << (4 * place);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(labels(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message
    }

    fn names() -> Names {
        let mut names = Names::default();
        names.add("Web", "10.1.0.2".parse().unwrap());
        names.add("web", "10.1.0.3".parse().unwrap());
        names.add("db", "fd00::7".parse().unwrap());
        names.add("any", "10.1.0.2".parse().unwrap());
        names
    }

    /// The records of a reply: what follows their lengths.
    fn records(answer: Answer, question: &[u8]) -> Vec<Vec<u8>> {
        let Answer::Reply(bytes) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(bytes[..4], [0xab, 0xcd, 0x81, 0x80]);
        assert_eq!(bytes[HEADER..question.len()], question[HEADER..]);
        let mut rest = &bytes[question.len()..];
        let mut records = Vec::new();
        while let Some((head, body)) = rest.split_at_checked(12) {
            let length = usize::from(u16::from_be_bytes([head[10], head[11]]));
            records.push(body[..length].to_vec());
            rest = &body[length..];
        }
        assert_eq!(usize::from(bytes[7]), records.len());
        records
    }

    #[test]
    fn names_have_addresses_and_addresses_names() {
        for (name, kind, expected) in [
            ("web", A, vec![vec![10, 1, 0, 2], vec![10, 1, 0, 3]]),
            ("WEB", A, vec![vec![10, 1, 0, 2], vec![10, 1, 0, 3]]),
            ("web", AAAA, vec![]),
            ("db", A, vec![]),
            ("2.0.1.10.in-addr.arpa", PTR, vec![labels("web")]),
        ] {
            let message = ask(name, kind);
            let answer = names().answer(&message);
            assert_eq!(records(answer, &message), expected, "{name} {kind}");
        }
        let message = ask("db", AAAA);
        let address: Ipv6Addr = "fd00::7".parse().unwrap();
        let found = records(names().answer(&message), &message);
        assert_eq!(found, [address.octets()]);
    }

    #[test]
    fn what_is_nobodys_name_is_for_others_to_answer() {
        for (name, kind) in [
            ("example.com", A),
            ("", 2),
            ("9.0.1.10.in-addr.arpa", PTR),
            ("1.in-addr.arpa", PTR),
            ("x.ip6.arpa", PTR),
        ] {
            let message = ask(name, kind);
            assert_eq!(names().answer(&message), Answer::Forward, "{name}");
        }
        let mut other_class = ask("web", A);
        *other_class.last_mut().unwrap() = 3;
        assert_eq!(names().answer(&other_class), Answer::Forward);
        let message = ask("example.com", A);
        assert_eq!(failure(&message).unwrap()[3], 0x82);
        assert_eq!(truncated(&message).unwrap()[2], 0x83);
    }

    #[test]
    fn addresses_are_read_backwards() {
        let name = format!("7.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        let address: IpAddr = "fd00::7".parse().unwrap();
        assert_eq!(address_of(&name), Some(address));
        assert_eq!(
            address_of("4.3.2.1.in-addr.arpa"),
            Some("1.2.3.4".parse().unwrap())
        );
        for wrong in [
            "5.4.3.2.1.in-addr.arpa",
            "256.3.2.1.in-addr.arpa",
            "in-addr.arpa",
        ] {
            assert_eq!(address_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let good = ask("web", A);
        for length in 0..good.len() {
            assert_eq!(names().answer(&good[..length]), Answer::Nothing, "{length}");
        }
        for (at, byte) in [(2, 0x80), (2, 0x28), (5, 0), (5, 2), (12, 0xc0), (12, 63)] {
            let mut wrong = good.clone();
            wrong[at] = byte;
            assert_eq!(names().answer(&wrong), Answer::Nothing, "{at} {byte}");
        }
        let long = ask(&["a".repeat(60).as_str(); 5].join("."), A);
        assert_eq!(names().answer(&long), Answer::Nothing);
    }
}
