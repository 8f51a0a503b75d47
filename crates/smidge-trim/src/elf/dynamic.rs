use object::elf;

use super::{ElfError, Layout, Record, Segment, Source, VersionNeed};

/// Sixteen times the largest dynamic section of a Debian 12 system; loaders have no limit of their own.
const MAX_DYNAMIC: u64 = 1 << 20;
/// More entries in one version table than any library has: glibc 2.36 defines 41 versions.
const MAX_VERSIONS: usize = 16_384;
/// More libraries than `PATH_MAX` bytes of linker command line could name.
const MAX_NEEDED: usize = 4_096;

/// What the dynamic section says.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    pub(super) soname: Option<String>,
    pub(super) needed: Vec<String>,
    pub(super) rpath: Vec<String>,
    pub(super) runpath: Vec<String>,
    pub(super) no_default_lib: bool,
    pub(super) pie: bool,
    pub(super) version_needs: Vec<VersionNeed>,
    pub(super) version_defs: Vec<String>,
}

/// The numbers of the dynamic section, before any string is read.
#[derive(Debug, Default)]
struct Tags {
    strings: Option<u64>,
    soname: Option<u64>,
    needed: Vec<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
    flags: u64,
    version_needs: Option<u64>,
    version_need_count: u64,
    version_defs: Option<u64>,
    version_def_count: u64,
}

impl Dynamic {
    /// Reads the dynamic section; `None` if the file has none.
    pub(super) fn read(
        source: &mut Source<'_>,
        layout: Layout,
        segments: &[Segment],
    ) -> Result<Option<Self>, ElfError> {
        let Some(segment) = segments
            .iter()
            .find(|segment| segment.kind == elf::PT_DYNAMIC)
        else {
            return Ok(None);
        };
        let tags = Tags::read(source, layout, segment)?;
        Tables {
            source,
            layout,
            segments,
            strings: 0,
        }
        .facts(&tags)
        .map(Some)
    }
}

impl Tags {
    fn read(source: &mut Source<'_>, layout: Layout, segment: &Segment) -> Result<Self, ElfError> {
        const WHAT: &str = "dynamic section";
        if segment.file_size > MAX_DYNAMIC {
            let (found, limit) = (segment.file_size, MAX_DYNAMIC);
            return Err(ElfError::TooLarge {
                what: WHAT,
                found,
                limit,
            });
        }
        let bytes = source.bytes(segment.offset, segment.file_size as usize, WHAT)?;
        let mut tags = Self::default();
        for entry in bytes.chunks_exact(layout.pick(8, 16)) {
            let record = layout.record(entry);
            let tag = elf::DynamicTag(record.wide((0, 0)) as i64);
            if tag == elf::DT_NULL {
                break;
            }
            tags.note(tag, record.wide((4, 8)));
        }
        if tags.needed.len() > MAX_NEEDED {
            let (found, limit) = (tags.needed.len() as u64, MAX_NEEDED as u64);
            return Err(ElfError::TooLarge {
                what: "list of needed libraries",
                found,
                limit,
            });
        }
        Ok(tags)
    }

    fn note(&mut self, tag: elf::DynamicTag, value: u64) {
        match tag {
            elf::DT_STRTAB => self.strings = Some(value),
            elf::DT_SONAME => self.soname = Some(value),
            elf::DT_NEEDED => self.needed.push(value),
            elf::DT_RPATH => self.rpath = Some(value),
            elf::DT_RUNPATH => self.runpath = Some(value),
            elf::DT_FLAGS_1 => self.flags = value,
            elf::DT_VERNEED => self.version_needs = Some(value),
            elf::DT_VERNEEDNUM => self.version_need_count = value,
            elf::DT_VERDEF => self.version_defs = Some(value),
            elf::DT_VERDEFNUM => self.version_def_count = value,
            _ => {}
        }
    }
}

/// The tables that the dynamic section points into.
struct Tables<'a, 'f> {
    source: &'a mut Source<'f>,
    layout: Layout,
    segments: &'a [Segment],
    /// Where in the file the string table begins.
    strings: u64,
}

impl Tables<'_, '_> {
    fn facts(mut self, tags: &Tags) -> Result<Dynamic, ElfError> {
        let speaks = !tags.needed.is_empty()
            || [
                tags.soname,
                tags.rpath,
                tags.runpath,
                tags.version_needs,
                tags.version_defs,
            ]
            .iter()
            .any(Option::is_some);
        match tags.strings {
            Some(address) => self.strings = self.offset(address, "string table")?,
            None if speaks => return Err(ElfError::NoStringTable),
            None => {}
        }
        let mut facts = Dynamic {
            no_default_lib: tags.flags & elf::DF_1_NODEFLIB.0 != 0,
            pie: tags.flags & elf::DF_1_PIE.0 != 0,
            ..Dynamic::default()
        };
        for &name in &tags.needed {
            facts
                .needed
                .push(self.string(name, "name of a needed library")?);
        }
        if let Some(name) = tags.soname {
            facts.soname = Some(self.string(name, "name of the library itself")?);
        }
        facts.rpath = self.directories(tags.rpath)?;
        facts.runpath = self.directories(tags.runpath)?;
        if let Some(address) = tags.version_needs {
            facts.version_needs = self.version_needs(address, tags.version_need_count)?;
        }
        if let Some(address) = tags.version_defs {
            facts.version_defs = self.version_defs(address, tags.version_def_count)?;
        }
        Ok(facts)
    }

    fn offset(&self, address: u64, what: &'static str) -> Result<u64, ElfError> {
        self.segments
            .iter()
            .find_map(|segment| segment.offset_of(address))
            .ok_or(ElfError::Unmapped { what, address })
    }

    fn string(&mut self, at: u64, what: &'static str) -> Result<String, ElfError> {
        self.source.string(self.strings.saturating_add(at), what)
    }

    fn directories(&mut self, at: Option<u64>) -> Result<Vec<String>, ElfError> {
        let Some(at) = at else { return Ok(Vec::new()) };
        let list = self.string(at, "library search path")?;
        if list.is_empty() {
            return Ok(Vec::new());
        }
        Ok(list.split(':').map(str::to_owned).collect())
    }

    fn version_needs(&mut self, address: u64, count: u64) -> Result<Vec<VersionNeed>, ElfError> {
        const WHAT: &str = "table of needed versions";
        let mut at = self.offset(address, WHAT)?;
        let mut budget = MAX_VERSIONS;
        let mut needs = Vec::new();
        for _ in 0..count {
            let need = self.record(at, 16, WHAT)?;
            let (entries, file) = (need.half(2), need.word(4));
            let (first, next) = (need.word(8), need.word(12));
            let file = self.string(file.into(), "name of a library with versions")?;
            let mut versions = Vec::new();
            let mut entry_at = at.saturating_add(first.into());
            for _ in 0..entries {
                spend(&mut budget, WHAT)?;
                let entry = self.record(entry_at, 16, WHAT)?;
                let (flags, name, next) = (entry.half(4), entry.word(8), entry.word(12));
                if flags & elf::VER_FLG_WEAK.0 == 0 {
                    versions.push(self.string(name.into(), "name of a needed version")?);
                }
                if next == 0 {
                    break;
                }
                entry_at = entry_at.saturating_add(next.into());
            }
            needs.push(VersionNeed { file, versions });
            spend(&mut budget, WHAT)?;
            if next == 0 {
                break;
            }
            at = at.saturating_add(next.into());
        }
        Ok(needs)
    }

    fn version_defs(&mut self, address: u64, count: u64) -> Result<Vec<String>, ElfError> {
        const WHAT: &str = "table of defined versions";
        let mut at = self.offset(address, WHAT)?;
        let mut budget = MAX_VERSIONS;
        let mut names = Vec::new();
        for _ in 0..count {
            spend(&mut budget, WHAT)?;
            let definition = self.record(at, 20, WHAT)?;
            let (first, next) = (definition.word(12), definition.word(16));
            let name = self
                .record(at.saturating_add(first.into()), 8, WHAT)?
                .word(0);
            names.push(self.string(name.into(), "name of a defined version")?);
            if next == 0 {
                break;
            }
            at = at.saturating_add(next.into());
        }
        Ok(names)
    }

    fn record(&mut self, at: u64, len: usize, what: &'static str) -> Result<Record<'_>, ElfError> {
        let layout = self.layout;
        Ok(layout.record(self.source.bytes(at, len, what)?))
    }
}

fn spend(budget: &mut usize, what: &'static str) -> Result<(), ElfError> {
    let limit = MAX_VERSIONS as u64;
    *budget = budget.checked_sub(1).ok_or(ElfError::TooLarge {
        what,
        found: limit + 1,
        limit,
    })?;
    Ok(())
}
