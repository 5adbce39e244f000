//! The bare cost of each mechanism.
