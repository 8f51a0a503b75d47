//! ELF files made byte by byte, for machines that no compiler is here for.

use smidge_trim::Class;

/// Where the one loaded segment lies in memory.
const BASE: u64 = 0x1_0000;

#[derive(Clone)]
pub(crate) struct Handmade {
    pub(crate) class: Class,
    pub(crate) big_endian: bool,
    pub(crate) machine: u16,
    pub(crate) kind: u16,
    pub(crate) interpreter: Option<&'static str>,
    pub(crate) soname: Option<&'static str>,
    pub(crate) runpath: Option<&'static str>,
    pub(crate) needed: Vec<&'static str>,
    /// Versions needed of a library.
    pub(crate) needs: Option<(&'static str, Vec<&'static str>)>,
    pub(crate) defines: Vec<&'static str>,
}

impl Handmade {
    /// A program for x86-64.
    pub(crate) fn program(interpreter: Option<&'static str>, needed: &[&'static str]) -> Self {
        Self {
            class: Class::Elf64,
            big_endian: false,
            machine: 62,
            kind: 3,
            interpreter,
            soname: None,
            runpath: None,
            needed: needed.to_vec(),
            needs: None,
            defines: Vec::new(),
        }
    }

    /// A library for x86-64.
    pub(crate) fn library(soname: &'static str, needed: &[&'static str]) -> Self {
        Self {
            soname: Some(soname),
            ..Self::program(None, needed)
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let headers = 2 + u16::from(self.interpreter.is_some());
        let (header, entry) = self.pick((52, 32), (64, 56));
        let start = header + entry * u64::from(headers);
        let mut body = Body {
            made: self,
            start,
            bytes: Vec::new(),
            strings: vec![0],
        };
        let interpreter = self.interpreter.map(|path| body.text(path));
        let (dynamic, size) = body.dynamic();
        let mut file = self.header(headers);
        let end = start + body.bytes.len() as u64;
        file.extend(self.segment(1, 0, end));
        if let Some((at, len)) = interpreter {
            file.extend(self.segment(3, at, len));
        }
        file.extend(self.segment(2, dynamic, size));
        file.extend(body.bytes);
        file
    }

    fn header(&self, headers: u16) -> Vec<u8> {
        let class = self.pick(1, 2);
        let mut file = b"\x7fELF".to_vec();
        file.extend([class, 1 + u8::from(self.big_endian), 1]);
        file.resize(16, 0);
        file.extend([self.half(self.kind), self.half(self.machine)].concat());
        file.extend(self.word(1));
        file.extend(self.wide(BASE));
        file.extend(self.wide(self.pick(52, 64)));
        file.extend(self.wide(0));
        file.extend(self.word(0));
        for half in [
            self.pick(52, 64),
            self.pick(32, 56),
            headers,
            self.pick(40, 64),
            0,
            0,
        ] {
            file.extend(self.half(half));
        }
        file
    }

    fn segment(&self, kind: u32, at: u64, len: u64) -> Vec<u8> {
        let wide = |value| self.wide(value);
        let place = [
            wide(at),
            wide(BASE + at),
            wide(BASE + at),
            wide(len),
            wide(len),
        ]
        .concat();
        match self.class {
            Class::Elf32 => [self.word(kind), place, self.word(5), wide(1)].concat(),
            Class::Elf64 => [self.word(kind), self.word(5), place, wide(1)].concat(),
        }
    }

    fn pick<T>(&self, elf32: T, elf64: T) -> T {
        match self.class {
            Class::Elf32 => elf32,
            Class::Elf64 => elf64,
        }
    }

    fn order(&self, mut little: Vec<u8>) -> Vec<u8> {
        if self.big_endian {
            little.reverse();
        }
        little
    }

    fn half(&self, value: u16) -> Vec<u8> {
        self.order(value.to_le_bytes().to_vec())
    }

    fn word(&self, value: u32) -> Vec<u8> {
        self.order(value.to_le_bytes().to_vec())
    }

    fn wide(&self, value: u64) -> Vec<u8> {
        match self.class {
            Class::Elf32 => self.word(u32::try_from(value).unwrap()),
            Class::Elf64 => self.order(value.to_le_bytes().to_vec()),
        }
    }
}

/// What follows the headers.
struct Body<'m> {
    made: &'m Handmade,
    start: u64,
    bytes: Vec<u8>,
    strings: Vec<u8>,
}

impl Body<'_> {
    fn put(&mut self, bytes: &[u8]) -> (u64, u64) {
        let at = self.start + self.bytes.len() as u64;
        self.bytes.extend(bytes);
        (at, bytes.len() as u64)
    }

    fn text(&mut self, text: &str) -> (u64, u64) {
        self.put(&[text.as_bytes(), b"\0"].concat())
    }

    fn string(&mut self, text: &str) -> u64 {
        let at = self.strings.len() as u64;
        self.strings.extend([text.as_bytes(), b"\0"].concat());
        at
    }

    fn dynamic(&mut self) -> (u64, u64) {
        let mut tags = Vec::new();
        for name in self.made.needed.clone() {
            tags.push((1, self.string(name)));
        }
        for (tag, text) in [(14, self.made.soname), (29, self.made.runpath)] {
            tags.extend(text.map(|text| (tag, self.string(text))));
        }
        if let Some((file, versions)) = self.made.needs.clone() {
            let table = self.needs(file, &versions);
            tags.extend([(0x6fff_fffe, BASE + self.put(&table).0), (0x6fff_ffff, 1)]);
        }
        let defines = self.made.defines.clone();
        if !defines.is_empty() {
            let table = self.defines(&defines);
            let count = defines.len() as u64;
            tags.extend([
                (0x6fff_fffc, BASE + self.put(&table).0),
                (0x6fff_fffd, count),
            ]);
        }
        let strings = self.strings.clone();
        tags.extend([(5, BASE + self.put(&strings).0), (0, 0)]);
        let made = self.made;
        let entries: Vec<_> = tags
            .into_iter()
            .flat_map(|(tag, value)| [made.wide(tag), made.wide(value)])
            .collect();
        self.put(&entries.concat())
    }

    fn needs(&mut self, file: &str, versions: &[&str]) -> Vec<u8> {
        let made = self.made;
        let count = u16::try_from(versions.len()).unwrap();
        let file = u32::try_from(self.string(file)).unwrap();
        let mut table = [made.half(1), made.half(count), made.word(file)].concat();
        table.extend([made.word(16), made.word(0)].concat());
        for (index, version) in versions.iter().enumerate() {
            let next = if index + 1 == versions.len() { 0 } else { 16 };
            let name = u32::try_from(self.string(version)).unwrap();
            table.extend([made.word(0), made.half(0), made.half(2)].concat());
            table.extend([made.word(name), made.word(next)].concat());
        }
        table
    }

    fn defines(&mut self, versions: &[&str]) -> Vec<u8> {
        let made = self.made;
        let mut table = Vec::new();
        for (index, version) in versions.iter().enumerate() {
            let next = if index + 1 == versions.len() { 0 } else { 28 };
            let name = u32::try_from(self.string(version)).unwrap();
            table.extend([1, 0, 1, 1].map(|half| made.half(half)).concat());
            table.extend([0, 20, next].map(|word| made.word(word)).concat());
            table.extend([made.word(name), made.word(0)].concat());
        }
        table
    }
}
