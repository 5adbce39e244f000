//! Selectors, descriptors and the cached halves of segment registers (SDM vol. 3, 3.4 and 3.5).

/// A segment register, by its number in an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentName {
    /// ES.
    Es = 0,
    /// CS.
    Cs = 1,
    /// SS.
    Ss = 2,
    /// DS.
    Ds = 3,
    /// FS.
    Fs = 4,
    /// GS.
    Gs = 5,
}

/// What a segment register's visible part holds: index, table and requested privilege.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub u16);

impl Selector {
    /// The requested privilege level.
    pub fn rpl(self) -> u8 {
        (self.0 & 3) as u8
    }

    /// The same descriptor with another requested privilege level.
    pub fn with_rpl(self, rpl: u8) -> Self {
        Self(self.0 & !3 | u16::from(rpl & 3))
    }

    /// Whether it names no descriptor, whatever its privilege level.
    pub fn is_null(self) -> bool {
        self.0 & !3 == 0
    }

    /// Whether it names a descriptor of the local table.
    pub fn is_local(self) -> bool {
        self.0 & 4 != 0
    }

    /// The descriptor's offset in its table, in bytes.
    pub fn offset(self) -> u64 {
        u64::from(self.0 & !7)
    }

    /// The error code that names the descriptor (SDM vol. 3, 6.13).
    pub fn error(self) -> u32 {
        u32::from(self.0 & !3)
    }
}

/// Types of system descriptors in long mode (SDM vol. 3, table 3-2).
pub mod system {
    /// Local descriptor table.
    pub const LDT: u8 = 2;
    /// Task-state segment, available.
    pub const TSS: u8 = 9;
    /// Task-state segment, in use.
    pub const BUSY_TSS: u8 = 11;
    /// Call gate.
    pub const CALL_GATE: u8 = 12;
    /// Interrupt gate.
    pub const INTERRUPT_GATE: u8 = 14;
    /// Trap gate.
    pub const TRAP_GATE: u8 = 15;
}

/// A descriptor's access rights: its bits 40 to 47 in bits 0 to 7, its bits 52 to 55 in bits 8 to
/// 11. 0 is an unusable segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u16);

impl Attributes {
    fn bit(self, bit: u32) -> bool {
        self.0 & 1 << bit != 0
    }

    /// The type, four bits.
    pub fn kind(self) -> u8 {
        (self.0 & 15) as u8
    }

    /// A code or data segment; otherwise a system descriptor.
    pub fn is_memory(self) -> bool {
        self.bit(4)
    }

    /// The descriptor's privilege level.
    pub fn dpl(self) -> u8 {
        (self.0 >> 5 & 3) as u8
    }

    /// Present.
    pub fn is_present(self) -> bool {
        self.bit(7)
    }

    /// 64-bit code (L).
    pub fn is_long(self) -> bool {
        self.bit(9)
    }

    /// 32-bit code or stack (D or B).
    pub fn is_32(self) -> bool {
        self.bit(10)
    }

    /// The limit counts pages (G).
    pub fn counts_pages(self) -> bool {
        self.bit(11)
    }

    /// A code segment.
    pub fn is_code(self) -> bool {
        self.is_memory() && self.bit(3)
    }

    /// A code segment that keeps its caller's privilege.
    pub fn is_conforming(self) -> bool {
        self.is_code() && self.bit(2)
    }

    /// Data, or code that may be read.
    pub fn is_readable(self) -> bool {
        self.is_memory() && (!self.bit(3) || self.bit(1))
    }

    /// Data that may be written.
    pub fn is_writable(self) -> bool {
        self.is_memory() && !self.bit(3) && self.bit(1)
    }

    /// Data whose limit is its lowest offset.
    pub fn grows_down(self) -> bool {
        self.is_memory() && !self.bit(3) && self.bit(2)
    }
}

/// A segment register with its cached descriptor; also LDTR and TR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The visible part.
    pub selector: Selector,
    /// Linear address of its first byte.
    pub base: u64,
    /// The last offset, in bytes.
    pub limit: u32,
    /// Access rights; 0 is an unusable segment.
    pub attributes: Attributes,
}

impl Segment {
    /// What a null selector loads: a base of 0, and no rights.
    pub fn null(selector: Selector) -> Self {
        Self {
            selector,
            ..Self::default()
        }
    }

    /// 64-bit code over all memory, as SYSCALL loads it.
    pub fn flat_code(selector: Selector, dpl: u8) -> Self {
        Self::flat(selector, 0xa9b, dpl)
    }

    /// 32-bit code over 4 GiB, as SYSRET to compatibility mode loads it.
    pub fn flat_code_32(selector: Selector, dpl: u8) -> Self {
        Self::flat(selector, 0xc9b, dpl)
    }

    /// Data over 4 GiB, as SYSCALL loads it into SS.
    pub fn flat_data(selector: Selector, dpl: u8) -> Self {
        Self::flat(selector, 0xc93, dpl)
    }

    fn flat(selector: Selector, rights: u16, dpl: u8) -> Self {
        Self {
            selector,
            base: 0,
            limit: u32::MAX,
            attributes: Attributes(rights | u16::from(dpl & 3) << 5),
        }
    }

    /// Whether a descriptor is loaded.
    pub fn is_usable(&self) -> bool {
        self.attributes.is_present()
    }

    /// Whether `len` bytes from `offset` lie within the limit (SDM vol. 3, 5.3); not asked in 64-bit
    /// mode.
    pub fn covers(&self, offset: u64, len: u64) -> bool {
        let Some(last) = offset.checked_add(len.max(1) - 1) else {
            return false;
        };
        let limit = u64::from(self.limit);
        if self.attributes.grows_down() {
            let top = if self.attributes.is_32() {
                u64::from(u32::MAX)
            } else {
                0xffff
            };
            offset > limit && last <= top
        } else {
            last <= limit
        }
    }
}

/// A descriptor as it lies in its table; `high` is the second half of a system descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// The first eight bytes.
    pub low: u64,
    /// The second eight bytes, of a system descriptor in long mode.
    pub high: u64,
}

impl Descriptor {
    /// Access rights.
    pub fn attributes(&self) -> Attributes {
        let word = self.low >> 40;
        Attributes((word & 0xff | word >> 4 & 0xf00) as u16)
    }

    /// Base address; a code or data descriptor has 32 bits of it.
    pub fn base(&self) -> u64 {
        self.low >> 16 & 0xff_ffff | self.low >> 32 & 0xff00_0000 | self.high << 32
    }

    /// The last offset, in bytes.
    pub fn limit(&self) -> u32 {
        let limit = (self.low & 0xffff | self.low >> 32 & 0xf_0000) as u32;
        if self.attributes().counts_pages() {
            limit << 12 | 0xfff
        } else {
            limit
        }
    }

    /// The segment register that it loads.
    pub fn segment(&self, selector: Selector) -> Segment {
        Segment {
            selector,
            base: self.base(),
            limit: self.limit(),
            attributes: self.attributes(),
        }
    }
}
