//! Builds freestanding guest images from a build script.
//!
//! An image is a package with a `[[bin]]` that is compiled for itself alone: as a plain member of a
//! workspace build it would share crate features with the host's programs (docs/decisions/0002).
//! The stable toolchain and the host's target are enough.
#![forbid(unsafe_code)]

mod symbols;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs, io};

/// Why an image could not be built.
#[derive(Debug)]
pub enum BuildError {
    /// A variable that cargo sets for build scripts is missing.
    NotInBuildScript(&'static str),
    /// Cargo could not be started, or what it built not be read or kept.
    Cargo(io::Error),
    /// Cargo ended with an error, which it has printed.
    Failed(String),
    /// The names of the image's functions cannot be put into it.
    Symbols(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInBuildScript(name) => {
                write!(f, "{name} is not set: call this from a build script")
            }
            Self::Cargo(error) => write!(f, "cannot start cargo or keep what it built: {error}"),
            Self::Symbols(why) => write!(f, "cannot name the image's functions: {why}"),
            Self::Failed(image) => write!(f, "cargo could not build the guest image {image}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// A guest image to build.
#[derive(Debug)]
pub struct Image<'a> {
    /// The package that holds it.
    pub package: &'a str,
    /// The name of its `[[bin]]`.
    pub bin: &'a str,
    /// The folder of a workspace that contains the package.
    pub workspace: &'a Path,
    /// The linker script.
    pub script: &'a Path,
    /// Folders whose change makes the image stale.
    pub inputs: &'a [&'a Path],
}

/// The compiler flags of every image: static, in the top 2 GiB, no SSE, no red zone.
const FLAGS: &[&str] = &[
    "-Crelocation-model=static",
    "-Ccode-model=kernel",
    "-Cno-redzone=yes",
    "-Cforce-frame-pointers=yes",
    "-Ctarget-feature=-mmx,-sse,-sse2,+soft-float",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static",
    "-Clink-arg=-no-pie",
    "-Clink-arg=-Wl,--build-id=none",
    "-Clink-arg=-Wl,-z,max-page-size=0x1000",
    "-Clink-arg=-Wl,-z,norelro",
    "-Clink-arg=-Wl,--gc-sections",
];

/// The folder of the package whose build script this is: as cargo says now. What `env!` said when the script
/// was compiled is another checkout's, where a target folder was copied.
///
/// # Errors
/// [`BuildError::NotInBuildScript`].
pub fn package() -> Result<PathBuf, BuildError> {
    let folder = env::var_os("CARGO_MANIFEST_DIR");
    let folder = folder.ok_or(BuildError::NotInBuildScript("CARGO_MANIFEST_DIR"))?;
    Ok(PathBuf::from(folder))
}

/// Build an image, in the `guest` profile, and set the environment variable `variable` to its path
/// for the crate whose build script calls this: `include_bytes!(env!("..."))`.
///
/// # Errors
/// [`BuildError`]; cargo's own output goes to the build script's.
pub fn build(image: &Image<'_>, variable: &str) -> Result<PathBuf, BuildError> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(BuildError::NotInBuildScript("OUT_DIR"))?);
    let cargo = env::var_os("CARGO").ok_or(BuildError::NotInBuildScript("CARGO"))?;
    let target = "x86_64-unknown-linux-gnu";
    let folder = out.join("guest");

    for input in image.inputs.iter().copied().chain([image.script]) {
        println!("cargo:rerun-if-changed={}", input.display());
    }
    let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    flags.push(format!("-Clink-arg=-Wl,-T,{}", image.script.display()));

    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--locked",
            "--features",
            "image",
            "--profile",
            "guest",
        ])
        .args([
            "-p",
            image.package,
            "--bin",
            image.bin,
            "--target",
            target,
            "--target-dir",
        ])
        .arg(&folder)
        .current_dir(image.workspace)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_RUSTFLAGS",
    ] {
        command.env_remove(name);
    }
    if !command.status().map_err(BuildError::Cargo)?.success() {
        return Err(BuildError::Failed(image.bin.to_owned()));
    }
    let built = folder.join(target).join("guest").join(image.bin);
    let mut bytes = fs::read(&built).map_err(BuildError::Cargo)?;
    symbols::fill(&mut bytes).map_err(BuildError::Symbols)?;
    let kept = out.join(variable.to_ascii_lowercase());
    fs::write(&kept, bytes).map_err(BuildError::Cargo)?;
    println!("cargo:rustc-env={variable}={}", kept.display());
    Ok(kept)
}
