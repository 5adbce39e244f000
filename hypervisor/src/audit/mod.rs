//! Counts the privileged and sensitive instructions of an ELF image.
