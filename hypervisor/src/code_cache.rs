//! Files that keep what machines learn of images' code, from one process to the next.
//!
//! A file is of one image, one mode and patch policy, and one build of this program. What it says is checked as a
//! file of a user's is; one that is damaged, or of other code than its name says, counts as none, and is replaced.

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hypercall_abi::Mode;
use rustc_hash::FxHasher;
use rustix::buffer::spare_capacity;
use rustix::io::retry_on_intr;

use crate::config::Config;
use crate::deprivileged::{Knowledge, Learned};
use crate::loader::{self, Placed, Plan};

/// What a file begins with; the digit rises when what follows changes its meaning.
const MAGIC: &[u8; 8] = b"PVCODE3\n";
/// The checksum behind it.
const CHECK: usize = 4;
/// Which build of this crate it is (`build.rs`).
const BUILD: &str = env!("PARAVANE_BUILD");
/// How long a file is at most, mostly;
const USUAL: usize = 48 << 10;
/// and one that is longer than this is none of ours.
const LIMIT: usize = 64 << 20;
/// How many files a directory keeps: the youngest.
const KEPT: usize = 32;
/// How much of both ends of a segment a file's name depends on. The rest is compared when it is read.
const SAMPLE: usize = 64;
const EXTENSION: &str = "code";

/// A directory of such files.
#[derive(Clone, Debug)]
pub struct CodeCache {
    dir: PathBuf,
}

/// What is kept of one image, for one mode and policy.
#[derive(Debug)]
pub struct Kept {
    cache: CodeCache,
    path: PathBuf,
    learned: Learned,
}

impl CodeCache {
    /// That of a directory, which is made when there is something to keep.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The user's: in `$XDG_CACHE_HOME`, or in `.cache` of `$HOME` (XDG Base Directory Specification). `None` where
    /// neither is an absolute path.
    pub fn of_user() -> Option<Self> {
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let home = || absolute("HOME").map(|home| home.join(".cache"));
        let dir = absolute("XDG_CACHE_HOME").or_else(home)?;
        Some(Self::in_dir(dir.join("paravane")))
    }

    /// What is kept for a configuration, to be read when somebody asks. `None` in modes that learn nothing, and for what
    /// is no image.
    pub fn find(&self, config: &Config) -> Option<Kept> {
        if !matches!(config.mode, Mode::Trap | Mode::Patch) {
            return None;
        }
        let plan = loader::plan(&config.image).ok()?;
        let path = self.dir.join(name(config, &plan));
        let (image, at) = (config.image.clone(), path.clone());
        let source = Placed { image, plan };
        let learned = Learned::elsewhere(move || {
            let bytes = read(&at)?;
            Knowledge::from_bytes(checked(&bytes)?, |frame| source.own(frame))
        });
        Some(Kept {
            cache: self.clone(),
            path,
            learned,
        })
    }

    /// Have no more files than are kept. What cannot be removed stays.
    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == EXTENSION) {
                files.push((fs::metadata(&path)?.modified()?, path));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(KEPT);
        files
            .iter()
            .take(surplus)
            .try_for_each(|(_, path)| fs::remove_file(path))
    }
}

impl Kept {
    /// What machines begin with, and add to: for [`Config::learned`].
    pub fn learned(&self) -> Learned {
        self.learned.clone()
    }

    /// Have no file: the guest went wrong, and what it knew may be why.
    ///
    /// # Errors
    /// Of the file system.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keep what was learned since, if anything was.
    ///
    /// # Errors
    /// Of the file system; what the file had before stays then.
    pub fn keep(&self) -> io::Result<()> {
        let Some(now) = self.learned.news() else {
            return Ok(());
        };
        let Some(body) = now.to_bytes() else {
            return Ok(());
        };
        let dir = &self.cache.dir;
        fs::create_dir_all(dir)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(MAGIC)?;
        file.write_all(&crc32fast::hash(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.persist(&self.path).map_err(|error| error.error)?;
        // Somebody else may prune it at the same time.
        let _ = self.cache.prune();
        Ok(())
    }
}

/// The name of the file: what it depends on, but for what is compared when it is read.
fn name(config: &Config, plan: &Plan) -> String {
    let mut hasher = FxHasher::default();
    BUILD.hash(&mut hasher);
    config.image.len().hash(&mut hasher);
    for segment in &plan.segments {
        (segment.phys, segment.virt, segment.mem_len).hash(&mut hasher);
        let bytes = config.image.get(segment.file.clone()).unwrap_or_default();
        let ends = [bytes.first_chunk::<SAMPLE>(), bytes.last_chunk::<SAMPLE>()];
        ends.hash(&mut hasher);
    }
    if config.mode == Mode::Patch {
        format!("{:?}", config.patch).hash(&mut hasher);
    }
    let (mode, hash) = (config.mode.name(), hasher.finish());
    format!("{mode}-{hash:016x}.{EXTENSION}")
}

/// A file's bytes, if there is one of sensible size.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::with_capacity(USUAL);
    while retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes))).ok()? > 0 {
        if bytes.len() == bytes.capacity() {
            (bytes.len() < LIMIT).then_some(())?;
            bytes.reserve(bytes.len());
        }
    }
    Some(bytes)
}

/// What stands behind the checksum, if that is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (check, body) = rest.split_at_checked(CHECK)?;
    (crc32fast::hash(body).to_le_bytes() == check).then_some(body)
}
