//! The errors that a call returns to the guest.

use core::fmt;

/// Why a call was refused. On the wire: the result register holds minus this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CallError {
    /// No call has this number on this gate.
    Unknown = 1,
    /// The call exists, but not in the mode that this guest runs in.
    WrongMode = 2,
    /// An argument is not a value of its declared type.
    BadArgument = 3,
    /// A pointer and its length are not wholly inside guest memory.
    BadRange = 4,
    /// The call is not possible now, for example a second power-off.
    NotNow = 5,
    /// The batch ring has no room; ring the doorbell and try again.
    RingFull = 6,
    /// The caller may not make this call.
    Denied = 7,
    /// The guest and the hypervisor speak different versions of this interface.
    Version = 8,
    /// A vendor handler failed for a reason of its own.
    Vendor = 9,
}

/// Every error, in the order of its number.
pub const ERRORS: [CallError; 9] = [
    CallError::Unknown,
    CallError::WrongMode,
    CallError::BadArgument,
    CallError::BadRange,
    CallError::NotNow,
    CallError::RingFull,
    CallError::Denied,
    CallError::Version,
    CallError::Vendor,
];

impl CallError {
    /// The word that carries this error in the result register.
    pub const fn to_word(self) -> u64 {
        (-(self as i64)) as u64
    }

    /// The error in a negative result word; an unknown one reads as [`CallError::Unknown`].
    pub fn from_word(word: u64) -> Self {
        let number = (word as i64).wrapping_neg();
        ERRORS
            .into_iter()
            .find(|e| *e as i64 == number)
            .unwrap_or(Self::Unknown)
    }

    /// What the error says, as a sentence fragment.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "no call has this number on this gate",
            Self::WrongMode => "the call does not exist in this mode",
            Self::BadArgument => "an argument is not a value of its type",
            Self::BadRange => "a pointer and its length leave guest memory",
            Self::NotNow => "the call is not possible now",
            Self::RingFull => "the batch ring is full",
            Self::Denied => "the caller may not make this call",
            Self::Version => "the interface versions differ",
            Self::Vendor => "the vendor's handler failed",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for CallError {}

/// The result word of a call: the value, or minus an error number.
///
/// # Errors
/// The error that the word carries, when it is negative.
pub fn decode_result(word: u64) -> Result<u64, CallError> {
    if (word as i64) < 0 {
        Err(CallError::from_word(word))
    } else {
        Ok(word)
    }
}

/// The word for a result; a value too large for the wire becomes [`CallError::BadArgument`].
pub fn encode_result(result: Result<u64, CallError>) -> u64 {
    match result {
        Ok(value) if (value as i64) >= 0 => value,
        Ok(_) => CallError::BadArgument.to_word(),
        Err(error) => error.to_word(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_wire() {
        for error in ERRORS {
            assert_eq!(decode_result(error.to_word()), Err(error));
        }
        assert_eq!(decode_result(i64::MAX as u64), Ok(i64::MAX as u64));
        assert_eq!(decode_result(u64::MAX - 4000), Err(CallError::Unknown));
        assert_eq!(
            encode_result(Ok(u64::MAX)),
            CallError::BadArgument.to_word()
        );
    }
}
