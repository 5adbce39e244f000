//! Reads guest images.
