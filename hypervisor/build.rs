//! Tells the crate which build it is: what its code and the ABI's says, whoever compiles it, where and when.

use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// What decides how code is followed and patched, and what a file of it means. What of it there is not (in a package
/// alone there is no workspace) is left out.
const SOURCES: [&str; 4] = ["build.rs", "src", "../hypercall-abi/src", "../Cargo.lock"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut hasher = DefaultHasher::new();
    for source in SOURCES.map(Path::new) {
        if source.exists() {
            println!("cargo:rerun-if-changed={}", source.display());
            add(source, &mut hasher)?;
        }
    }
    println!("cargo:rustc-env=PARAVANE_BUILD={:016x}", hasher.finish());
    Ok(())
}

/// Add a file, or the files of a directory, each with its name.
fn add(path: &Path, hasher: &mut DefaultHasher) -> Result<(), Box<dyn Error>> {
    path.hash(hasher);
    if !path.is_dir() {
        fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let entries = fs::read_dir(path)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.iter().try_for_each(|path| add(path, hasher))
}
