//! A machine in a file: the options of `run`, by their names, in TOML or JSON. They become the
//! command line that says the same, and the user's own words come after them.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use serde::Deserialize;

use super::{Args, Command};
use crate::files;
use crate::status::Failure;

/// The largest machine file, in bytes.
const LIMIT: u64 = 1 << 20;

/// What a machine file may say; each key is the option of that name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Machine {
    image: Option<String>,
    mode: Option<String>,
    patch: Option<String>,
    fast_traps: Option<String>,
    code_cache: Option<String>,
    mem: Option<String>,
    cpus: Option<u32>,
    cmdline: Option<String>,
    initrd: Option<String>,
    io: Option<String>,
    disk: Vec<String>,
    rng: bool,
    net: Vec<String>,
    console: Vec<String>,
    vsock: Option<String>,
    balloon: Option<String>,
}

/// The command line; with what a machine file adds to it, if it names one.
///
/// # Errors
/// The file cannot be read (125), or makes no sense (2).
pub fn parse(words: Vec<OsString>) -> Result<Args, Failure> {
    let args = Args::parse_from(&words);
    let Some(Command::Run(run)) = &args.command else {
        return Ok(args);
    };
    let Some(path) = &run.machine else {
        return Ok(args);
    };
    let mend = "name a TOML or JSON file of options, such as docs/devices.md shows";
    let bytes = files::read(path, "machine file", LIMIT, mend)?;
    let machine = read(path, &bytes).map_err(|error| nonsense(path, &error))?;
    let has_image = run.image.is_some();
    let mut words = words.into_iter();
    // The program and the command, the file's words, the user's: of two, the later counts.
    let mut all: Vec<OsString> = words.by_ref().take(2).collect();
    all.extend(machine.words(has_image).into_iter().map(OsString::from));
    all.extend(words);
    Args::try_parse_from(all).map_err(|error| {
        let error = error.to_string();
        nonsense(path, error.trim_start_matches("error: ").trim_end())
    })
}

fn nonsense(path: &Path, why: &str) -> Failure {
    Failure::usage(format!(
        "the machine file {} makes no sense: {why}",
        path.display()
    ))
}

fn read(path: &Path, bytes: &[u8]) -> Result<Machine, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let is_json = path.extension().is_some_and(|kind| kind == "json");
    match is_json {
        true => serde_json::from_str(text).map_err(|error| error.to_string()),
        false => toml::from_str(text).map_err(|error| error.to_string()),
    }
}

impl Machine {
    fn words(self, has_image: bool) -> Vec<String> {
        let single = [
            ("mode", self.mode),
            ("patch", self.patch),
            ("fast-traps", self.fast_traps),
            ("code-cache", self.code_cache),
            ("mem", self.mem),
            ("cpus", self.cpus.map(|cpus| cpus.to_string())),
            ("cmdline", self.cmdline),
            ("initrd", self.initrd),
            ("io", self.io),
            ("vsock", self.vsock),
            ("balloon", self.balloon),
        ];
        let single = single
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let many = [
            ("disk", self.disk),
            ("net", self.net),
            ("console", self.console),
        ];
        let many = many.into_iter();
        let many = many.flat_map(|(key, values)| values.into_iter().map(move |value| (key, value)));
        let options = single
            .chain(many)
            .map(|(key, value)| format!("--{key}={value}"));
        let rng = self.rng.then(|| "--rng".to_owned());
        let image = self.image.filter(|_| !has_image);
        options.chain(rng).chain(image).collect()
    }
}
