//! The rig's initramfs: what goes in, and the cpio archive of it (format newc, as the kernel reads
//! it). Called by `setup` and by those who carry files. Never changes a file of this machine.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use cpio::newc;

use crate::error::RigError;
use crate::libraries;
use crate::tools;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Folders of a source tree that are no part of it.
pub const NOT_SOURCE: [&str; 2] = [".git", "target"];

/// What the initramfs will hold, by absolute path.
#[derive(Debug, Default)]
pub struct Archive {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder,
    /// A file of this machine, with its permissions.
    File(PathBuf, u32),
    Bytes(Vec<u8>, u32),
    Link(Vec<u8>),
}

impl Archive {
    /// Add an empty folder, and those above it.
    pub fn folder(&mut self, path: &Path) {
        for folder in path.ancestors() {
            self.entries
                .entry(folder.to_owned())
                .or_insert(Entry::Folder);
        }
    }

    /// Add a file with these bytes and permissions.
    pub fn bytes(&mut self, path: &Path, bytes: Vec<u8>, permissions: u32) {
        self.add(path, Entry::Bytes(bytes, permissions));
    }

    /// Add a file of this machine at another path, without the libraries that it may need.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file_at(&mut self, path: &Path, from: &Path) -> Result<(), RigError> {
        let meta = fs::metadata(from).map_err(RigError::file("read", from))?;
        let permissions = meta.permissions().mode() & 0o7777;
        self.add(path, Entry::File(from.to_owned(), permissions));
        Ok(())
    }

    /// Add a program, found at `from`, at `path`, and its libraries at their own paths.
    ///
    /// # Errors
    /// It cannot be read, or lacks a library.
    pub fn program_at(&mut self, path: &Path, from: &Path) -> Result<(), RigError> {
        self.file_at(path, from)?;
        for library in libraries::of(from)? {
            if !self.entries.contains_key(&library) {
                self.file_at(&library, &library)?;
            }
        }
        Ok(())
    }

    /// Add a file or a folder under its own path, with the libraries of the programs in it. A link is
    /// followed; one inside of a folder stays a link.
    ///
    /// # Errors
    /// Something cannot be read, or is neither file, folder nor link.
    pub fn carry(&mut self, path: &Path) -> Result<(), RigError> {
        let path = std::path::absolute(path).map_err(RigError::file("find", path))?;
        let meta = fs::metadata(&path).map_err(RigError::file("read", &path))?;
        if meta.is_dir() {
            self.tree(&path, &[])
        } else if meta.is_file() {
            self.file_or_program(&path)
        } else {
            Err(RigError::CannotCarry { path })
        }
    }

    /// Add a source tree under its own path, without what was built or recorded in it.
    ///
    /// # Errors
    /// As of [`Archive::carry`].
    pub fn sources(&mut self, root: &Path) -> Result<(), RigError> {
        self.tree(root, &NOT_SOURCE)
    }

    fn tree(&mut self, folder: &Path, without: &[&str]) -> Result<(), RigError> {
        self.folder(folder);
        let entries = fs::read_dir(folder).map_err(RigError::file("list", folder))?;
        for entry in entries {
            let entry = entry.map_err(RigError::file("list", folder))?;
            let path = entry.path();
            if without.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let kind = entry.file_type().map_err(RigError::file("read", &path))?;
            if kind.is_dir() {
                self.tree(&path, without)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).map_err(RigError::file("read", &path))?;
                self.add(&path, Entry::Link(target.as_os_str().as_bytes().to_vec()));
            } else if kind.is_file() {
                self.file_or_program(&path)?;
            } else {
                return Err(RigError::CannotCarry { path });
            }
        }
        Ok(())
    }

    fn file_or_program(&mut self, path: &Path) -> Result<(), RigError> {
        if is_elf_program(path) {
            self.program_at(path, path)
        } else {
            self.file_at(path, path)
        }
    }

    /// Add a kernel module, unpacked if it is compressed, and return its path inside.
    ///
    /// # Errors
    /// It cannot be read or unpacked.
    pub fn module(&mut self, file: &Path) -> Result<String, RigError> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let (name, packed) = match name.split_once(".ko.") {
            Some((name, packed)) => (format!("{name}.ko"), Some(packed.to_owned())),
            None => (name.into_owned(), None),
        };
        let inside = Path::new("/rig/modules").join(name);
        match packed.as_deref() {
            None => self.file_at(&inside, file)?,
            Some(packed) => self.bytes(&inside, unpack(file, packed)?, 0o644),
        }
        Ok(inside.display().to_string())
    }

    fn add(&mut self, path: &Path, entry: Entry) {
        if let Some(folder) = path.parent() {
            self.folder(folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Write the archive. Each path comes behind its folder.
    ///
    /// # Errors
    /// A file cannot be read, or the archive not written; the error names the path.
    pub fn write(&self, mut to: impl Write) -> Result<(), RigError> {
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            // The root is there already.
            if path.parent().is_some() {
                let failed = RigError::file("pack", path);
                write_entry(number, path, entry, &mut to).map_err(failed)?;
            }
        }
        newc::trailer(to)
            .and_then(|mut to| to.flush())
            .map_err(RigError::file("end", Path::new("the initramfs")))
    }
}

fn write_entry(number: u32, path: &Path, entry: &Entry, to: &mut impl Write) -> io::Result<()> {
    let name = path.to_string_lossy();
    let name = name.trim_start_matches('/');
    let start = |mode| newc::Builder::new(name).ino(number).nlink(1).mode(mode);
    match entry {
        Entry::Folder => body(start(FOLDER | 0o755), io::empty(), 0, to),
        Entry::Link(target) => body(start(LINK | 0o777), Cursor::new(target), target.len(), to),
        Entry::Bytes(bytes, mode) => body(start(FILE | mode), Cursor::new(bytes), bytes.len(), to),
        Entry::File(from, mode) => {
            let file = File::open(from)?;
            let len = usize::try_from(file.metadata()?.size()).map_err(io::Error::other)?;
            body(start(FILE | mode), file, len, to)
        }
    }
}

fn body(
    start: newc::Builder,
    mut from: impl Read,
    len: usize,
    to: &mut impl Write,
) -> io::Result<()> {
    let len = u32::try_from(len).map_err(|_| io::Error::other("it is larger than 4 GiB"))?;
    let mut writer = start.write(to, len);
    let copied = io::copy(&mut from.by_ref().take(u64::from(len)), &mut writer)?;
    if copied != u64::from(len) {
        return Err(io::Error::other("it changed while it was packed"));
    }
    writer.finish().map(drop)
}

fn unpack(file: &Path, packed: &str) -> Result<Vec<u8>, RigError> {
    let program = match packed {
        "xz" => "xz",
        "zst" => "zstd",
        _ => "gzip",
    };
    let ran = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .map_err(RigError::file("run xz, zstd or gzip on", file))?;
    if ran.status.success() {
        return Ok(ran.stdout);
    }
    Err(RigError::Program {
        program: format!("{program} -dc {}", file.display()),
        how: crate::error::ended(ran.status),
        tail: crate::error::tail(&String::from_utf8_lossy(&ran.stderr), 3),
    })
}

fn is_elf_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    let executable = path
        .metadata()
        .is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    executable
        && File::open(path)
            .and_then(|mut file| file.read_exact(&mut magic))
            .is_ok()
        && magic == *b"\x7fELF"
}

/// Make a copy of a program without what only a debugger reads, which is most of a test's bytes; false
/// where there is no `strip`.
pub fn strip(program: &Path, copy: &Path) -> bool {
    tools::output(
        Command::new("strip")
            .arg("--strip-debug")
            .arg("-o")
            .args([copy, program]),
    )
    .is_ok()
}

#[cfg(test)]
mod tests;
