//! The bits of control registers and EFER, by name (SDM vol. 3, 2.5; vol. 4).

/// Bits of CR0.
pub mod cr0 {
    /// Protected mode.
    pub const PE: u64 = 1 << 0;
    /// WAIT obeys TS.
    pub const MP: u64 = 1 << 1;
    /// No x87: its instructions raise #NM.
    pub const EM: u64 = 1 << 2;
    /// Task switched: x87 and SSE raise #NM.
    pub const TS: u64 = 1 << 3;
    /// Always set.
    pub const ET: u64 = 1 << 4;
    /// x87 errors raise #MF.
    pub const NE: u64 = 1 << 5;
    /// CPL 0 obeys read-only pages.
    pub const WP: u64 = 1 << 16;
    /// Alignment checks are possible.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Caches off.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
    /// Every bit that exists.
    pub const ALL: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// Bits of CR4 that this machine may have.
pub mod cr4 {
    /// RDTSC at CPL 0 alone.
    pub const TSD: u64 = 1 << 2;
    /// DR4 and DR5 are #UD.
    pub const DE: u64 = 1 << 3;
    /// 4 MiB pages, without meaning in long mode.
    pub const PSE: u64 = 1 << 4;
    /// Entries of 8 bytes, which long mode needs.
    pub const PAE: u64 = 1 << 5;
    /// Machine checks.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// RDPMC at every level.
    pub const PCE: u64 = 1 << 8;
    /// FXSAVE and SSE.
    pub const OSFXSR: u64 = 1 << 9;
    /// SSE errors raise #XM.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// RDFSBASE and its like.
    pub const FSGSBASE: u64 = 1 << 16;
    /// XSAVE and XCR0.
    pub const OSXSAVE: u64 = 1 << 18;
    /// What every 64-bit processor has.
    pub const BASIC: u64 = TSD | DE | PSE | PAE | MCE | PGE | PCE | OSFXSR | OSXMMEXCPT;
}

/// Bits of EFER.
pub mod efer {
    /// SYSCALL.
    pub const SCE: u64 = 1 << 0;
    /// Long mode enabled.
    pub const LME: u64 = 1 << 8;
    /// Long mode active.
    pub const LMA: u64 = 1 << 10;
    /// Execute-disable.
    pub const NXE: u64 = 1 << 11;
    /// Every bit that exists.
    pub const ALL: u64 = SCE | LME | LMA | NXE;
}
