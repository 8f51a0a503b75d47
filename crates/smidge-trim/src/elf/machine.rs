use object::elf;

use super::{Class, Elf};

/// What is known about the machine of a file beyond its number: one row of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    number: elf::Machine,
    class: Class,
    big_endian: bool,
    /// What people call it.
    pub(crate) name: &'static str,
    /// `GOARCH` as the OCI image specification uses it.
    pub(crate) architecture: Option<&'static str>,
    /// glibc's loader, by the System V ABI supplement.
    pub(crate) loader: &'static str,
    /// Debian's name for the directory of its libraries.
    pub(crate) multiarch: &'static str,
    /// What `$PLATFORM` expands to: the kernel's `AT_PLATFORM`.
    pub(crate) platform: &'static str,
}

impl Machine {
    /// The row of a file's machine, if it is one that Linux distributions ship for.
    pub(crate) fn of(file: &Elf) -> Option<&'static Self> {
        MACHINES.iter().find(|row| {
            (row.number.0, row.class, row.big_endian) == (file.machine, file.class, file.big_endian)
        })
    }
}

macro_rules! machines {
    ($($number:ident $class:ident $order:ident: $name:literal $architecture:expr, $loader:literal $multiarch:literal $platform:literal;)*) => {
        &[$(Machine {
            number: elf::$number,
            class: Class::$class,
            big_endian: machines!($order),
            name: $name,
            architecture: $architecture,
            loader: $loader,
            multiarch: $multiarch,
            platform: $platform,
        }),*]
    };
    (little) => { false };
    (big) => { true };
}

/// Loaders: <https://sourceware.org/glibc/wiki/ABIList>; multiarch: <https://wiki.debian.org/Multiarch/Tuples>.
const MACHINES: &[Machine] = machines! {
    EM_X86_64 Elf64 little: "x86-64" Some("amd64"), "/lib64/ld-linux-x86-64.so.2" "x86_64-linux-gnu" "x86_64";
    EM_X86_64 Elf32 little: "x32" None, "/libx32/ld-linux-x32.so.2" "x86_64-linux-gnux32" "x86_64";
    EM_386 Elf32 little: "i386" Some("386"), "/lib/ld-linux.so.2" "i386-linux-gnu" "i686";
    EM_AARCH64 Elf64 little: "aarch64" Some("arm64"), "/lib/ld-linux-aarch64.so.1" "aarch64-linux-gnu" "aarch64";
    EM_ARM Elf32 little: "ARM" Some("arm"), "/lib/ld-linux-armhf.so.3" "arm-linux-gnueabihf" "v7l";
    EM_RISCV Elf64 little: "riscv64" Some("riscv64"), "/lib/ld-linux-riscv64-lp64d.so.1" "riscv64-linux-gnu" "";
    EM_PPC64 Elf64 little: "ppc64le" Some("ppc64le"), "/lib64/ld64.so.2" "powerpc64le-linux-gnu" "power8";
    EM_PPC64 Elf64 big: "ppc64" Some("ppc64"), "/lib64/ld64.so.1" "powerpc64-linux-gnu" "power4";
    EM_PPC Elf32 big: "ppc" None, "/lib/ld.so.1" "powerpc-linux-gnu" "powerpc";
    EM_S390 Elf64 big: "s390x" Some("s390x"), "/lib/ld64.so.1" "s390x-linux-gnu" "z900";
    EM_LOONGARCH Elf64 little: "loongarch64" Some("loong64"), "/lib64/ld-linux-loongarch-lp64d.so.1" "loongarch64-linux-gnu" "loongarch";
    EM_MIPS Elf32 big: "mips" Some("mips"), "/lib/ld.so.1" "mips-linux-gnu" "mips";
    EM_MIPS Elf32 little: "mipsel" Some("mipsle"), "/lib/ld.so.1" "mipsel-linux-gnu" "mips";
    EM_MIPS Elf64 big: "mips64" Some("mips64"), "/lib64/ld.so.1" "mips64-linux-gnuabi64" "mips";
    EM_MIPS Elf64 little: "mips64el" Some("mips64le"), "/lib64/ld.so.1" "mips64el-linux-gnuabi64" "mips";
    EM_SPARCV9 Elf64 big: "sparc64" None, "/lib64/ld-linux.so.2" "sparc64-linux-gnu" "sparc";
};
