//! The types of a call's arguments and results, and their form in a register.

use core::marker::PhantomData;

use crate::CallError;

/// The size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// A value that travels in one 64-bit register.
pub trait Word: Sized {
    /// The type's name in the table and in documents.
    const NAME: &'static str;
    /// The register's content for this value.
    fn into_word(self) -> u64;
    /// The value in a register.
    ///
    /// # Errors
    /// [`CallError::BadArgument`] when the word is no value of this type.
    fn from_word(word: u64) -> Result<Self, CallError>;
}

/// A page frame of guest-physical memory, by number: physical address / 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u64);

impl Frame {
    /// The frame that holds a physical address.
    pub const fn containing(at: GuestPhys) -> Self {
        Self(at.0 / PAGE_SIZE)
    }

    /// The address of the frame's first byte.
    pub const fn start(self) -> GuestPhys {
        GuestPhys(self.0 * PAGE_SIZE)
    }
}

/// A guest-physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestPhys(pub u64);

/// A guest-virtual address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestVirt(pub u64);

impl GuestVirt {
    /// Whether bits 63..47 are all equal (SDM vol. 1, 3.3.7.1), as 4-level paging demands.
    pub const fn is_canonical(self) -> bool {
        let top = (self.0 as i64) >> 47;
        top == 0 || top == -1
    }
}

/// A guest-physical pointer to `T` whose target is *not* known to be in memory.
///
/// The host reads through it by copying once and validating the copy; see [`crate::GuestMemory`].
#[derive(Debug, PartialEq, Eq)]
pub struct GuestPtr<T>(pub GuestPhys, PhantomData<fn() -> T>);

impl<T> GuestPtr<T> {
    /// The pointer to a physical address.
    pub const fn new(at: GuestPhys) -> Self {
        Self(at, PhantomData)
    }
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

/// An interrupt vector that a guest may use: 0x20..=0x3f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vector(u8);

impl Vector {
    /// The lowest vector.
    pub const FIRST: u8 = 0x20;
    /// The highest vector; the shared page has one pending bit for each up to here.
    pub const LAST: u8 = 0x3f;

    /// The vector of this number, where it is in range.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= Self::FIRST && number <= Self::LAST {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The vector's number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

macro_rules! plain_word {
    ($($ty:ident),*) => {$(
        impl Word for $ty {
            const NAME: &'static str = stringify!($ty);
            fn into_word(self) -> u64 { u64::from(self) }
            fn from_word(word: u64) -> Result<Self, CallError> {
                Self::try_from(word).map_err(|_| CallError::BadArgument)
            }
        }
    )*};
}
plain_word!(u64, u32, u16, u8);

macro_rules! wrapped_word {
    ($($ty:ident),*) => {$(
        impl Word for $ty {
            const NAME: &'static str = stringify!($ty);
            fn into_word(self) -> u64 { self.0 }
            fn from_word(word: u64) -> Result<Self, CallError> { Ok(Self(word)) }
        }
    )*};
}
wrapped_word!(Frame, GuestPhys, GuestVirt);

impl Word for () {
    const NAME: &'static str = "()";
    fn into_word(self) -> u64 {
        0
    }
    fn from_word(_: u64) -> Result<Self, CallError> {
        Ok(())
    }
}

impl Word for Vector {
    const NAME: &'static str = "Vector";
    fn into_word(self) -> u64 {
        u64::from(self.0)
    }
    fn from_word(word: u64) -> Result<Self, CallError> {
        u8::try_from(word)
            .ok()
            .and_then(Self::new)
            .ok_or(CallError::BadArgument)
    }
}

impl<T> Word for GuestPtr<T> {
    const NAME: &'static str = "GuestPtr";
    fn into_word(self) -> u64 {
        self.0.0
    }
    fn from_word(word: u64) -> Result<Self, CallError> {
        Ok(Self::new(GuestPhys(word)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_words_refuse_wide_values() {
        assert_eq!(u8::from_word(256), Err(CallError::BadArgument));
        assert_eq!(u32::from_word(1 << 32), Err(CallError::BadArgument));
        assert_eq!(Vector::from_word(0x1f), Err(CallError::BadArgument));
        assert_eq!(Vector::from_word(0x40), Err(CallError::BadArgument));
        assert_eq!(Vector::from_word(0x120), Err(CallError::BadArgument));
        assert_eq!(Vector::from_word(0x3f).map(Vector::number), Ok(0x3f));
    }

    #[test]
    fn canonical_addresses_have_equal_top_bits() {
        assert!(GuestVirt(0x0000_7fff_ffff_ffff).is_canonical());
        assert!(!GuestVirt(0x0000_8000_0000_0000).is_canonical());
        assert!(GuestVirt(0xffff_8000_0000_0000).is_canonical());
    }
}
