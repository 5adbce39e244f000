//! `paravane patches`: what mode `patch` does to a kernel, site by site.

use std::collections::BTreeMap;
use std::io::{self, Write};

use hypercall_abi::Mode;
use hypervisor::loader::Symbols;
use hypervisor::patch::{PatchedSite, Policy, State, disassembly};
use hypervisor::{Config, End};
use serde::Serialize;

use super::boot::{self, Around};
use crate::args::Patches;
use crate::ending::Ending;
use crate::files;
use crate::output;
use crate::status::{self, Failure};
use crate::stdin::Source;

/// The version of [`Report`] as it is serialized; it rises when a field changes its meaning.
const SCHEMA: u32 = 1;
/// What the built-in kernel does where nothing else is asked for.
const SCRIPT: &str = "quiet run='help; mem; selftest; poweroff'";
const WIDTH: u16 = 120;
/// Characters of a symbol in the table.
const SYMBOL: usize = 36;

/// Run a guest without patches and with them, and say what became of each site; the exit status.
pub fn run(options: &Patches, ending: &Ending) -> Result<u8, Failure> {
    let mut sites = BTreeMap::new();
    let mut exits = [0; 2];
    let mut image = Vec::new();
    for (run, policy) in [Policy::Never, options.patch.into()]
        .into_iter()
        .enumerate()
    {
        let config = config(options, policy)?;
        image = config.image.to_vec();
        let console: Box<dyn Write + Send> = match options.console {
            true => Box::new(io::stderr()),
            false => Box::new(io::sink()),
        };
        let around = Around {
            input: Source::Nothing,
            console,
            trace: None,
            timeout: Some(options.timeout),
            ending,
        };
        let ran = boot::boot(config, around)?;
        if !matches!(ran.outcome.end, End::PowerOff(_)) {
            return Ok(boot::conclude(&ran.outcome, Source::Nothing));
        }
        exits[run] = ran.outcome.stats.total_exits();
        for found in ran.patches {
            let site: &mut Both = sites.entry(found.at).or_default();
            site.traps[run] = found.site.traps;
            site.last = Some(found);
        }
    }
    let names = Symbols::read(&image);
    let report = Report::of(&sites, &names, exits, options.patch.name());
    match options.json {
        true => output::print_json(&report)?,
        false => output::print(&report.text(options.code))?,
    }
    Ok(status::OK)
}

fn config(options: &Patches, policy: Policy) -> Result<Config, Failure> {
    let mut config = match &options.image {
        Some(path) => {
            let mend = "name a static ELF64 file, or none for the kernel that is built in";
            let bytes = files::read(path, "image", files::LIMIT, mend)?;
            Config::new(Mode::Patch, bytes, path.display().to_string())
        }
        None => super::built_in(Mode::Patch),
    };
    let script = match options.image {
        Some(_) => "",
        None => SCRIPT,
    };
    config.command_line = options.cmdline.clone().unwrap_or_else(|| script.to_owned());
    config.kvm_node = options.kvm.clone();
    config.patch = policy;
    Ok(config)
}

/// A site in both runs.
#[derive(Default)]
struct Both {
    traps: [u64; 2],
    last: Option<PatchedSite>,
}

/// What was done, for a machine to read.
#[derive(Serialize)]
struct Report {
    schema: u32,
    policy: &'static str,
    /// Exits of the run without patches, and with them.
    exits_unpatched: u64,
    exits_patched: u64,
    sites: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    /// The linear address, hexadecimal.
    at: String,
    symbol: String,
    instruction: String,
    patched: bool,
    /// Of a site that is patched: how many bytes were moved, and where to.
    moved_bytes: Option<u64>,
    moved_to: Option<String>,
    /// Of a site that is not, why not.
    why: Option<String>,
    traps_unpatched: u64,
    traps_patched: u64,
    before: Vec<String>,
    after: Vec<String>,
}

impl Report {
    fn of(
        sites: &BTreeMap<u64, Both>,
        names: &Symbols,
        exits: [u64; 2],
        policy: &'static str,
    ) -> Self {
        let rows = sites.iter().filter_map(|(at, both)| {
            let last = both.last.as_ref()?;
            Some(Row::of(*at, both.traps, last, names))
        });
        Self {
            schema: SCHEMA,
            policy,
            exits_unpatched: exits[0],
            exits_patched: exits[1],
            sites: rows.collect(),
        }
    }

    fn text(&self, with_code: bool) -> String {
        let head = ["site", "", "symbol", "traps", "patched", "what was done"];
        let mut table = output::table(&head, WIDTH);
        for row in &self.sites {
            let done = match (&row.moved_bytes, &row.moved_to, &row.why) {
                (Some(bytes), Some(to), _) => format!("{bytes} bytes moved to {to}"),
                (_, _, Some(why)) => format!("traps: {why}"),
                _ => "traps: not often enough for a patch".to_owned(),
            };
            table.add_row([
                row.at.clone(),
                row.instruction.clone(),
                short(&row.symbol),
                row.traps_unpatched.to_string(),
                row.traps_patched.to_string(),
                done,
            ]);
        }
        output::align_right(&mut table, 3..5);
        let mut text = output::lines(&mut table);
        if with_code {
            for row in self.sites.iter().filter(|row| row.patched) {
                text += &format!("\n{} {} in {}\n", row.at, row.instruction, row.symbol);
                for (what, lines) in [("before", &row.before), ("after", &row.after)] {
                    text += &format!("  {what}:\n");
                    for line in lines {
                        text += &format!("    {line}\n");
                    }
                }
            }
        }
        let patched = self.sites.iter().filter(|row| row.patched).count();
        let sum = |of: fn(&Row) -> u64| self.sites.iter().map(of).sum::<u64>();
        text += &format!(
            "\n{patched} of {} sites patched ({}); their traps: {} without patches, {} with; exits of the runs: {} and {}\n",
            self.sites.len(),
            self.policy,
            sum(|row| row.traps_unpatched),
            sum(|row| row.traps_patched),
            self.exits_unpatched,
            self.exits_patched,
        );
        text
    }
}

/// A symbol for a column of a table: of a long name the end, with the offset.
fn short(symbol: &str) -> String {
    let from = symbol.chars().count().saturating_sub(SYMBOL);
    match from {
        0 => symbol.to_owned(),
        from => symbol
            .chars()
            .skip(from + 1)
            .fold("…".to_owned(), |text, next| {
                text + next.encode_utf8(&mut [0; 4])
            }),
    }
}

impl Row {
    fn of(at: u64, traps: [u64; 2], found: &PatchedSite, names: &Symbols) -> Self {
        let patch = found.patch.as_ref();
        let why = match found.site.state {
            State::Trapping(Some(why)) => Some(why.to_string()),
            State::Trapping(None) | State::Patched => None,
        };
        Self {
            at: format!("{at:#x}"),
            symbol: names.describe(at),
            instruction: found.site.kind.to_string(),
            patched: patch.is_some(),
            moved_bytes: patch.map(|patch| patch.end - patch.start),
            moved_to: patch.map(|patch| format!("{:#x}", patch.at)),
            why,
            traps_unpatched: traps[0],
            traps_patched: traps[1],
            before: patch.map_or(Vec::new(), |patch| disassembly(&patch.before, patch.start)),
            after: patch.map_or(Vec::new(), |patch| disassembly(&patch.code, patch.at)),
        }
    }
}
