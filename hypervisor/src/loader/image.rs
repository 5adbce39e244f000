//! The bytes of an image.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of a guest image, an ELF file. Cheap to clone.
#[derive(Clone)]
pub struct Image(Bytes);

#[derive(Clone)]
enum Bytes {
    /// Part of this program.
    BuiltIn(&'static [u8]),
    /// Read from somewhere.
    Shared(Arc<Vec<u8>>),
}

impl Image {
    /// The bytes, if they are part of this program.
    pub fn built_in(&self) -> Option<&'static [u8]> {
        match self.0 {
            Bytes::BuiltIn(bytes) => Some(bytes),
            Bytes::Shared(_) => None,
        }
    }
}

impl Deref for Image {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::BuiltIn(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

impl From<&'static [u8]> for Image {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::BuiltIn(bytes))
    }
}

impl<const LEN: usize> From<&'static [u8; LEN]> for Image {
    fn from(bytes: &'static [u8; LEN]) -> Self {
        Self(Bytes::BuiltIn(bytes))
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Shared(Arc::new(bytes)))
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_their_bytes() {
        static BYTES: [u8; 3] = [1, 2, 3];
        let (built_in, read) = (Image::from(&BYTES), Image::from(BYTES.to_vec()));
        for image in [&built_in, &read] {
            assert_eq!(**image, BYTES);
            assert!(std::ptr::eq::<[u8]>(&**image, &*image.clone()));
        }
        assert_eq!(built_in.built_in(), Some(BYTES.as_slice()));
        assert_eq!(read.built_in(), None);
    }
}
