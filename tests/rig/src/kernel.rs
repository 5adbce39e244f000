//! The rig's kernel: Debian's for cloud machines, unpacked once into a folder of this user's. Called
//! by `setup`. Never installs a kernel on this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::error::RigError;
use crate::packages;
use crate::tools::{self, Failed};

/// The package that names the newest kernel's.
const NEWEST: &str = "linux-image-cloud-amd64";

/// A kernel that the rig can boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its image, a `vmlinuz`.
    pub image: PathBuf,
    /// The folder with its modules and `modules.dep`.
    pub modules: PathBuf,
}

/// The kernel fetched before, or else the newest of Debian's.
///
/// # Errors
/// [`RigError::KernelDownload`], [`RigError::KernelPackage`], [`RigError::NoCache`], or a file's.
pub fn find(busybox: &Path) -> Result<Kernel, RigError> {
    let cache = cache()?;
    match cached(&cache) {
        Some(kernel) => Ok(kernel),
        None => fetch(&cache, busybox),
    }
}

/// `${XDG_CACHE_HOME:-~/.cache}/paravane-rig`.
fn cache() -> Result<PathBuf, RigError> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("paravane-rig"))
        .ok_or(RigError::NoCache)
}

/// The kernel that was fetched last.
fn cached(cache: &Path) -> Option<Kernel> {
    let age = |entry: &fs::DirEntry| {
        let changed = entry.metadata().and_then(|meta| meta.modified());
        changed.unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut folders: Vec<_> = fs::read_dir(cache).ok()?.filter_map(Result::ok).collect();
    folders.sort_by_key(age);
    folders.iter().rev().find_map(|folder| {
        let name = folder.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        (!hidden).then(|| in_folder(&folder.path()).ok())?
    })
}

/// The kernel of an unpacked package, if it is whole.
fn in_folder(folder: &Path) -> Result<Kernel, String> {
    let modules = ["lib/modules", "usr/lib/modules"]
        .iter()
        .find_map(|place| fs::read_dir(folder.join(place)).ok()?.next()?.ok())
        .ok_or("it has no folder of modules")?;
    let image = folder
        .join("boot")
        .join(format!("vmlinuz-{}", modules.file_name().to_string_lossy()));
    if !image.is_file() {
        return Err("it has no vmlinuz".to_owned());
    }
    if !modules.path().join("modules.dep").is_file() {
        return Err("it has no modules.dep".to_owned());
    }
    Ok(Kernel {
        image,
        modules: modules.path(),
    })
}

fn fetch(cache: &Path, busybox: &Path) -> Result<Kernel, RigError> {
    fs::create_dir_all(cache).map_err(RigError::file("make", cache))?;
    // Complete before it gets its name, so that a run that is cut off leaves no half a kernel.
    let work = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(cache)
        .map_err(RigError::file("make a folder in", cache))?;
    let mut package = NEWEST.to_owned();
    eprintln!("rig: fetching the kernel of {NEWEST}, once");
    download(work.path(), &mut package).map_err(|failed| RigError::KernelDownload {
        package: package.clone(),
        how: failed.how,
        tail: failed.tail,
    })?;
    let unusable = |why: String| RigError::KernelPackage {
        package: package.clone(),
        why,
        cache: cache.to_owned(),
    };
    let unpacked = work.path().join("unpacked");
    unpack(work.path(), &unpacked, busybox).map_err(unusable)?;
    in_folder(&unpacked).map_err(unusable)?;
    let home = cache.join(package.trim_start_matches("linux-image-"));
    // Another rig may have been faster: its kernel is as good.
    if let Err(error) = fs::rename(&unpacked, &home)
        && !home.is_dir()
    {
        return Err(RigError::file("make", &home)(error));
    }
    in_folder(&home).map_err(unusable)
}

/// Get the newest kernel's package into a folder; `package` becomes its name.
fn download(folder: &Path, package: &mut String) -> Result<(), Failed> {
    *package = match newest() {
        Ok(newest) => newest,
        Err(_) if packages::is_root() => {
            packages::update()?;
            newest()?
        }
        Err(failed) => return Err(failed),
    };
    tools::output(
        Command::new("apt-get")
            .args(["download", "-q", package])
            .current_dir(folder),
    )
    .map(drop)
}

/// The package of the newest kernel, as apt knows it.
fn newest() -> Result<String, Failed> {
    let said = tools::output(Command::new("apt-cache").args(["depends", NEWEST]))?;
    said.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .ok_or_else(|| Failed {
            how: format!("apt-cache knows no kernel behind {NEWEST}"),
            tail: String::new(),
        })
}

fn unpack(folder: &Path, unpacked: &Path, busybox: &Path) -> Result<(), String> {
    let package = fs::read_dir(folder)
        .map_err(|error| error.to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb"))
        .ok_or("apt-get download left no file")?;
    let run = |command: &mut Command| {
        tools::output(command).map_err(|failed| format!("{}{}", failed.how, failed.tail))
    };
    run(Command::new("dpkg-deb")
        .arg("-x")
        .args([&package, unpacked]))?;
    // The package's own script would do this at its installation.
    for base in [unpacked.to_owned(), unpacked.join("usr")] {
        let Ok(mut versions) = fs::read_dir(base.join("lib/modules")) else {
            continue;
        };
        if let Some(Ok(version)) = versions.next() {
            run(Command::new(busybox)
                .arg("depmod")
                .arg("-b")
                .arg(&base)
                .arg(version.file_name()))?;
        }
    }
    Ok(())
}
