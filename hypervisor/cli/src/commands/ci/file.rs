//! Reads scenario files. Every complaint names the file and the line.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use hypercall_abi::Mode;
use hypervisor::Config;
use hypervisor::ci::{Action, Pattern, Scenario, Step};
use serde::Deserialize;
use toml::Spanned;

use super::Scenarios;
use crate::args::{Ci, values};
use crate::commands::built_in;
use crate::files;
use crate::status::Failure;

/// The largest scenario file, in bytes.
const LIMIT: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    name: Option<String>,
    #[serde(default)]
    scenario: Vec<Spanned<Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    image: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    #[serde(default)]
    cmdline: String,
    initrd: Option<Spanned<String>>,
    timeout: Option<Spanned<f64>>,
    step_timeout: Option<Spanned<f64>>,
    output_limit: Option<Spanned<String>>,
    #[serde(default)]
    steps: Vec<Spanned<StepTable>>,
    status: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTable {
    expect: Option<String>,
    send: Option<String>,
    timeout: Option<f64>,
}

/// A complaint, and where in the file; `is_host` when the file is right and the host is not.
struct Complaint {
    at: Range<usize>,
    what: String,
    is_host: bool,
}

impl Complaint {
    fn new(at: Range<usize>, what: impl ToString) -> Self {
        Self {
            at,
            what: what.to_string(),
            is_host: false,
        }
    }
}

/// The scenarios of all files, but for those that `--only` leaves out.
pub fn read_all(options: &Ci) -> Result<Vec<Scenarios>, Failure> {
    let mut suites: Vec<Scenarios> = Vec::new();
    for path in &options.files {
        suites.push(read(path, &options.kvm)?);
    }
    if options.only.is_empty() {
        return Ok(suites);
    }
    for only in &options.only {
        let mut all = suites.iter().flat_map(|(_, scenarios)| scenarios);
        if !all.any(|scenario| scenario.name() == only) {
            return Err(Failure::usage(format!(
                "no scenario is called {only:?}: --only takes whole names"
            )));
        }
    }
    for (_, scenarios) in &mut suites {
        scenarios.retain(|scenario| options.only.iter().any(|only| scenario.name() == only));
    }
    suites.retain(|(_, scenarios)| !scenarios.is_empty());
    Ok(suites)
}

fn read(path: &Path, node: &Path) -> Result<Scenarios, Failure> {
    let bytes = files::read(path, "scenario file", LIMIT, "name a TOML file")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{}: not UTF-8 text", path.display())))?;
    parse(path, &text, node).map_err(|complaint| {
        let line = line_of(&text, complaint.at.start);
        let what = format!("{}:{line}: {}", path.display(), complaint.what);
        if complaint.is_host {
            Failure::host(what)
        } else {
            Failure::usage(what)
        }
    })
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn parse(path: &Path, text: &str, node: &Path) -> Result<Scenarios, Complaint> {
    let whole: Whole = toml::from_str(text).map_err(|error| {
        let what = error.message().replace('\n', "; ");
        Complaint::new(error.span().unwrap_or_default(), what)
    })?;
    let mut names = HashSet::new();
    let mut scenarios = Vec::new();
    for table in whole.scenario {
        let at = table.span();
        let table = table.into_inner();
        if !names.insert(table.name.get_ref().clone()) {
            let what = format!("a second scenario is called {:?}", table.name.get_ref());
            return Err(Complaint::new(table.name.span(), what));
        }
        scenarios.push(scenario(table, at, path, node)?);
    }
    if scenarios.is_empty() {
        let what = "no scenario: a file has at least one [[scenario]]";
        return Err(Complaint::new(0..0, what));
    }
    let stem = path.file_stem().unwrap_or_default();
    let name = whole.name.unwrap_or_else(|| stem.to_string_lossy().into());
    Ok((name, scenarios))
}

fn scenario(
    table: Table,
    at: Range<usize>,
    path: &Path,
    node: &Path,
) -> Result<Scenario, Complaint> {
    let mut config = config(&table, path)?;
    config.kvm_node = node.to_path_buf();
    let mut scenario = Scenario::new(table.name.into_inner(), config);
    if let Some(limit) = table.timeout {
        scenario = scenario.timeout(seconds(*limit.get_ref(), limit.span())?);
    }
    if let Some(limit) = table.step_timeout {
        scenario = scenario.step_timeout(seconds(*limit.get_ref(), limit.span())?);
    }
    if let Some(limit) = table.output_limit {
        let bytes = size(&limit)?;
        scenario = scenario.output_limit(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    for table in table.steps {
        let at = table.span();
        scenario = scenario.step(step(table.into_inner(), at)?);
    }
    if let Some(status) = table.status {
        scenario = scenario.status(status);
    }
    if scenario.is_empty() {
        let what = "the scenario asks for nothing: give it `steps`, a `status`, or both";
        return Err(Complaint::new(at, what));
    }
    Ok(scenario)
}

fn config(table: &Table, path: &Path) -> Result<Config, Complaint> {
    let image = table.image.as_ref().map_or("pv", |image| image.get_ref());
    let mode = match &table.mode {
        Some(mode) => Mode::ALL
            .into_iter()
            .find(|known| known.name() == mode.get_ref())
            .ok_or_else(|| Complaint::new(mode.span(), modes(mode.get_ref())))?,
        None if image == "native" => Mode::Hvm,
        None => Mode::Pv,
    };
    let mut config = match &table.image {
        Some(name) if !matches!(image, "pv" | "native") => {
            let (path, bytes) = beside(path, name, "image")?;
            Config::new(mode, bytes, path)
        }
        // The mode is set after: one that does not go with the image is for the library to refuse.
        _ if image == "native" => built_in(Mode::Hvm),
        _ => built_in(Mode::Pv),
    };
    config.mode = mode;
    if let Some(text) = &table.memory {
        config.memory_bytes = size(text)?;
    }
    if let Some(name) = &table.initrd {
        config.initrd = Some(beside(path, name, "initial ramdisk")?.1.into());
    }
    config.command_line = table.cmdline.clone();
    Ok(config)
}

fn modes(mode: &str) -> String {
    let names = Mode::ALL.map(Mode::name).join(", ");
    format!("no mode is called {mode:?}: use one of {names}")
}

/// A file that a scenario names, relative to the scenario's own.
fn beside(path: &Path, name: &Spanned<String>, what: &str) -> Result<(String, Vec<u8>), Complaint> {
    let path = path.parent().unwrap_or(Path::new("")).join(name.get_ref());
    let mend = "paths are relative to the scenario file";
    let bytes = files::read(&path, what, files::LIMIT, mend).map_err(|failure| Complaint {
        at: name.span(),
        what: failure.message,
        is_host: true,
    })?;
    Ok((path.display().to_string(), bytes))
}

fn step(table: StepTable, at: Range<usize>) -> Result<Step, Complaint> {
    let action = match (table.expect, table.send) {
        (Some(pattern), None) => Action::Expect(
            Pattern::new(&pattern).map_err(|error| Complaint::new(at.clone(), error))?,
        ),
        (None, Some(text)) => Action::Send(text.into_bytes()),
        _ => {
            let what = "a step has either `expect` or `send`";
            return Err(Complaint::new(at, what));
        }
    };
    let timeout = table.timeout.map(|limit| seconds(limit, at)).transpose()?;
    Ok(Step { action, timeout })
}

fn size(text: &Spanned<String>) -> Result<u64, Complaint> {
    values::size(text.get_ref()).map_err(|what| Complaint::new(text.span(), what))
}

fn seconds(limit: f64, at: Range<usize>) -> Result<Duration, Complaint> {
    values::seconds(&limit.to_string()).map_err(|what| Complaint::new(at, what))
}
