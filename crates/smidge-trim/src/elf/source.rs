use smidge_image::ReadAt;

use super::ElfError;

/// Reads smaller than this are widened to it, since headers, strings and versions lie close together.
const WINDOW: usize = 4096;
/// Longest string accepted: `PATH_MAX`, which also bounds `PT_INTERP` in the kernel.
const MAX_STRING: usize = 4096;

/// A file behind one small window, so that a parse costs a handful of reads whatever the file's size.
pub(crate) struct Source<'a> {
    file: &'a dyn ReadAt,
    start: u64,
    window: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a dyn ReadAt) -> Self {
        Self {
            file,
            start: 0,
            window: Vec::new(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.size()
    }

    /// Reads exactly `len` bytes. The caller bounds `len`.
    pub(crate) fn bytes(
        &mut self,
        offset: u64,
        len: usize,
        what: &'static str,
    ) -> Result<&[u8], ElfError> {
        let end = offset.saturating_add(len as u64);
        let truncated = ElfError::Truncated {
            what,
            end,
            size: self.size(),
        };
        if end > self.size() {
            return Err(truncated);
        }
        if offset < self.start || end > self.start + self.window.len() as u64 {
            self.fill(offset, len.max(WINDOW))?;
        }
        let from = (offset - self.start) as usize;
        self.window.get(from..from + len).ok_or(truncated)
    }

    /// Reads a NUL-terminated string; bytes that are not UTF-8 are replaced.
    pub(crate) fn string(&mut self, offset: u64, what: &'static str) -> Result<String, ElfError> {
        let mut len = 64;
        loop {
            let rest = self.size().saturating_sub(offset);
            let take = len.min(usize::try_from(rest).unwrap_or(len));
            let bytes = self.bytes(offset, take, what)?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                return Ok(String::from_utf8_lossy(&bytes[..end]).into_owned());
            }
            if take < len || len >= MAX_STRING {
                return Err(ElfError::BadString { what });
            }
            len *= 4;
        }
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<(), ElfError> {
        self.start = offset;
        self.window.resize(len, 0);
        let mut filled = 0;
        while filled < len {
            match self
                .file
                .read_at(offset + filled as u64, &mut self.window[filled..])?
            {
                0 => break,
                read => filled += read.min(len - filled),
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}
