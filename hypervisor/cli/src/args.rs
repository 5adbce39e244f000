//! The command line, and the help that teaches it.

mod devices;
pub mod machine;
pub mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as Group, Parser, Subcommand, ValueEnum};
use hypercall_abi::Mode;
use hypervisor::io::{Console, Disk, Net, Vsock};
use hypervisor::patch::Policy;

use crate::status;

/// A hypervisor on KVM, with a guest kernel that runs paravirtualized and native.
#[derive(Debug, Parser)]
#[command(name = "paravane", version, long_about = LONG, after_help = EXAMPLES, after_long_help = after_long_help())]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// What to do; without a command: boot the guest, show its greeting, and measure.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const LONG: &str = "\
Paravane runs a guest kernel on KVM and measures what each trap costs, and what
paravirtualization buys. The guest kernel is built in, as two images: a native one, which
executes privileged instructions, and a pv one, which makes hypercalls instead.

Without a command it boots the pv guest, shows its greeting, and prints a quick benchmark.";

const EXAMPLES: &str = "\
Examples:
  paravane                                        see it boot, and what it gains
  paravane run                                    the pv guest's shell; Ctrl-C ends it
  paravane run --cmdline \"run='mem; poweroff 3'\"  run a script; its status is paravane's
  paravane run --mode hvm --stats                 the native guest, and what made it exit
  paravane doctor                                 can this host do it, and if not, why";

fn after_long_help() -> String {
    format!("{EXAMPLES}\n\n{}", status::HELP)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot a guest and give it the terminal
    #[command(args_override_self = true)]
    #[command(after_help = RUN_EXAMPLES, after_long_help = format!("{RUN_EXAMPLES}\n\n{}", status::HELP))]
    Run(Box<Run>),
    /// Measure what each operation costs in each mode
    #[command(after_help = BENCH_EXAMPLES, after_long_help = format!("{BENCH_EXAMPLES}\n\n{BENCH_STATUS}"))]
    Bench(Bench),
    /// Count the privileged and sensitive instructions of an image
    #[command(after_help = AUDIT_EXAMPLES, after_long_help = format!("{AUDIT_EXAMPLES}\n\n{}", hypervisor::audit::explain()))]
    Audit(Audit),
    /// Print the table of hypercalls
    #[command(after_help = HYPERCALLS_EXAMPLES)]
    Hypercalls(Hypercalls),
    /// Test guests: boot them, type at them, wait for what they must say
    #[command(after_help = CI_EXAMPLES, after_long_help = format!("{CI_EXAMPLES}\n\n{CI_STATUS}"))]
    Ci(Ci),
    /// Show what mode patch does to a kernel, site by site
    #[command(after_help = PATCHES_EXAMPLES)]
    Patches(Patches),
    /// Say what this host's KVM can do, and how to mend what it cannot
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Doctor),
    /// One VM, one byte, and how long each part took; for the benchmark
    #[command(hide = true)]
    FloorVm,
}

const RUN_EXAMPLES: &str = "\
The guest's console is stdin and stdout; the exit status is the guest's. On a terminal Ctrl-C ends
the VM, Ctrl-A C sends Ctrl-C to the guest, and Ctrl-A A sends Ctrl-A. What comes from a pipe is
typed as it is, and its end as Ctrl-D, at which the shell powers off.

Examples:
  paravane run                                    the pv guest's shell
  echo mem | paravane run                         the same, from a pipe
  paravane run --cmdline \"run='mem; poweroff 3'\"  commands from the kernel's command line
  paravane run --mode hvm --mem 1G --stats        the native guest, and what made it exit
  paravane run --disk my.img --disk cd.iso,ro     two disks; `lsdev` and `disk` show them
  paravane run --net user --rng                   a network without a privilege
  paravane run --net tap=tap0 --console pty       a network on a tap, a second console
  paravane run --machine my-machine.toml          the same words, from a file
  paravane run my-kernel.elf --timeout 10 --json  another guest, for 10 s; a report on stdout

In modes trap and patch a boot learns which bytes of the image are code, and what of it to replace;
the boots after it begin with that and are faster. It is kept in files of 30 to 50 KiB, one for an
image, a mode and a --patch: in $XDG_CACHE_HOME/paravane or ~/.cache/paravane (--code-cache auto), in
a directory of your choice, or nowhere (--code-cache off).

Words of --disk: `ro`, the guest may not write; `direct`, past the host's page cache (O_DIRECT);
`engine=auto|io_uring|threads|sync`, how the host is asked for I/O; `queues=1` to `queues=8`;
`format=raw|qcow2` (by default qcow2 where the name ends so); `backing=FILE` for each file that an
image is based on, which is never opened otherwise; `rate=10M` bytes and `iops=1000` requests a
second at most; `snapshot`, so that writes are gone with the machine. A disk that is written is
locked: a second virtual machine is refused. `vhost-user=SOCKET[,queues=N]` in place of a file is a
disk that the program at that Unix socket serves.
--net user: this process translates addresses, as QEMU's user network does; the guest gets 10.0.2.15
by DHCP, and 10.0.2.2 is the host. Words: `hostfwd=tcp:127.0.0.1:8080-:80`, a port of the host that
leads into the guest; `restrict`, the guest reaches nothing by itself. Other carriers: `tap=NAME`,
`socket=PATH`, `vhost-user=SOCKET`. Of any --net:
`mac=02:fc:00:00:00:01`; `mtu=1500`, which the carrier must take; `rate=10M` bytes and `pps=1000`
frames a second at most.
A comma inside a name is written twice.";

/// Where what is learned of code is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeCacheAt {
    /// In the user's cache directory, if there is one.
    Auto,
    /// Nowhere.
    Off,
    /// In a directory.
    Dir(PathBuf),
}

/// Options of `run`.
#[derive(Debug, Group)]
pub struct Run {
    /// The guest: a static ELF64 file with a Paravane note [default: the kernel built in]
    pub image: Option<PathBuf>,
    /// How the guest's privileged operations are done
    #[arg(long, value_name = "MODE", default_value = "pv", value_parser = values::mode())]
    pub mode: Mode,
    /// In mode patch: when instructions are replaced
    #[arg(long, value_name = "WHEN", default_value = "found")]
    pub patch: PatchPolicy,
    /// In mode trap: whether the monitor handles the hottest traps by itself, without an exit
    #[arg(long, value_name = "WHETHER", default_value = "auto")]
    pub fast_traps: FastTraps,
    /// In modes trap and patch: where what boots learn of the image's code is kept
    #[arg(long, value_name = "auto|off|DIR", default_value = "auto", value_parser = values::code_cache)]
    pub code_cache: CodeCacheAt,
    /// The guest's memory: bytes, or a number with K, M, G or T; 8M at least
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = values::size)]
    pub mem: u64,
    /// The guest's processors; this version runs one
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = values::cpus)]
    pub cpus: u32,
    /// The guest kernel's command line; the kernel built in knows run='COMMANDS' and quiet
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub cmdline: String,
    /// A file that the guest finds in its memory as its initial ramdisk
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Attach a disk, /dev/vda the first: a raw or qcow2 image, and words behind commas (see below)
    #[arg(long = "disk", value_name = "FILE[,WORD..]", value_parser = devices::disk)]
    pub disks: Vec<Disk>,
    /// What disks and networks are: virtio, or what a PC has, with an exit for each access
    #[arg(long, value_name = "KIND", default_value = "pv")]
    pub io: Io,
    /// Attach a source of random numbers
    #[arg(long)]
    pub rng: bool,
    /// Attach a network device, eth0 the first: user, tap=NAME or another carrier, and words (see below)
    #[arg(long = "net", value_name = "CARRIER[,WORD..]", value_parser = devices::net)]
    pub nets: Vec<Net>,
    /// Attach a virtio console, hvc0 the first: pty, stdio, file=PATH or socket=PATH
    #[arg(long = "console", value_name = "WHERE", value_parser = devices::console)]
    pub consoles: Vec<Console>,
    /// Attach sockets between host and guest, by Firecracker's convention: 3,uds=/tmp/guest.vsock
    #[arg(long, value_name = "CID,uds=PATH", value_parser = devices::vsock)]
    pub vsock: Option<Vsock>,
    /// Attach a balloon, and ask the guest to give up so much of its memory
    #[arg(long, value_name = "SIZE", value_parser = devices::balloon)]
    pub balloon: Option<u64>,
    /// Read more options from a file, .toml or .json (see docs/devices.md); those here come after them
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    /// After the run, print its exits and hypercalls by name to stderr
    #[arg(long)]
    pub stats: bool,
    /// Write each hypercall, emulated instruction and device access to a file, a line each
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// End the guest after this many seconds, with status 124; fractions are fine
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub timeout: Option<Duration>,
    /// Print a report as JSON to stdout; the guest's console goes to stderr
    #[arg(long)]
    pub json: bool,
    /// The KVM device node
    #[arg(long, value_name = "NODE", default_value = hypervisor::vm::NODE)]
    pub kvm: PathBuf,
}

const BENCH_EXAMPLES: &str = "\
Figures are of this host alone; ratios are taken inside one run. Leave the host idle meanwhile.

Examples:
  paravane bench --quick                          a first look, in seconds
  paravane bench io --quick                       devices instead of instructions
  paravane bench --json > today.json              steady figures, for a machine
  paravane bench --write-baseline base.json       remember this platform's counts and ratios
  paravane bench --check base.json --counts-only  what exits and calls moved: no times, so it suits CI";

const BENCH_STATUS: &str = "\
Exit status:
    0    measured, or with --check: nothing moved
    1    --check: a count or a ratio moved
    2    the command line or the baseline makes no sense: no baseline, one of another schema, one
         that says nothing of this platform
    125  the host cannot do it: no KVM, a file that cannot be read or written
    129, 130, 143  ended by SIGHUP, by Ctrl-C or SIGINT, by SIGTERM";

/// Options of `bench`.
#[derive(Debug, Group)]
#[command(group = ArgGroup::new("baseline").args(["check", "write_baseline"]))]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    /// What to measure; without it: privileged operations and the lives of machines.
    #[command(subcommand)]
    pub what: Option<BenchWhat>,
    /// Fewer repetitions: seconds instead of minutes, and a wider spread
    #[arg(long)]
    pub quick: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Measure only these rows
    #[arg(long, value_name = "ROW,..", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Compare with a baseline: counts exactly, ratios within its tolerances, no times
    #[arg(long, value_name = "BASELINE")]
    pub check: Option<PathBuf>,
    /// Write this platform's counts and ratios into a baseline; other platforms' stay
    #[arg(long, value_name = "BASELINE")]
    pub write_baseline: Option<PathBuf>,
    /// With --check or --write-baseline: counts alone, which no busy host disturbs
    #[arg(long, requires = "baseline")]
    pub counts_only: bool,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchWhat {
    /// Measure input and output: each device in each mode, beside a loop on the host
    #[command(after_help = BENCH_IO_EXAMPLES)]
    Io(BenchIo),
}

const BENCH_IO_EXAMPLES: &str = "\
Files of some hundred MiB are made in /dev/shm and in --dir, and removed. The network is a tap in a
namespace of its own, which needs root; without, its rows say so. All data is checked. The exit status
is 0 where all was measured that can be here, whatever the goals say. docs/bench.md has the JSON's fields.

Examples:
  paravane bench io --quick                       the main figures, in a minute
  paravane bench io --dir /mnt/nvme --json        another disk, for a machine";

/// Options of `bench io`.
#[derive(Debug, Group)]
pub struct BenchIo {
    /// Fewer cases and repetitions
    #[arg(long)]
    pub quick: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// A directory on the disk to measure [default: that for temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The smallest run that passes through everything; its figures say nothing
    #[arg(long, hide = true)]
    pub smoke: bool,
}

const AUDIT_EXAMPLES: &str = "\
Without a file or --image it audits the pv guest that is built in. `paravane audit --help` explains
what is counted and why.

Examples:
  paravane audit --forbid                         0 findings, or status 1
  paravane audit --image native --all             every privileged instruction of the native guest
  paravane audit my-kernel.elf --kind pv --json   another image, held to the pv rules";

/// Options of `audit`.
#[derive(Debug, Group)]
#[command(group = ArgGroup::new("what").args(["elf", "image"]))]
pub struct Audit {
    /// The ELF file to audit
    pub elf: Option<PathBuf>,
    /// Audit a guest kernel that is built in [default: pv]
    #[arg(long)]
    pub image: Option<Kind>,
    /// Which rules hold [default: what the image's Paravane note says, or else pv]
    #[arg(long)]
    pub kind: Option<Kind>,
    /// End with status 1 when something forbidden is found
    #[arg(long)]
    pub forbid: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// List every finding, those that are allowed included
    #[arg(long)]
    pub all: bool,
}

/// The kinds of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Makes hypercalls: no privileged or sensitive instruction is allowed
    Pv,
    /// Executes privileged instructions: they are only counted
    Native,
}

const HYPERCALLS_EXAMPLES: &str = "\
Examples:
  paravane hypercalls                             the table
  paravane hypercalls --markdown > docs/abi.md    the whole document of the interface";

/// Options of `hypercalls`.
#[derive(Debug, Group)]
pub struct Hypercalls {
    /// Print the table as JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print the whole of docs/abi.md
    #[arg(long)]
    pub markdown: bool,
}

const CI_EXAMPLES: &str = "\
A scenario file is TOML; docs/ci.md has all of it:
  [[scenario]]
  name = \"boots\"
  image = \"my-kernel.elf\"           # or \"pv\" or \"native\", the kernels built in
  steps = [{ expect = \"> \" }, { send = \"poweroff 3\\n\" }]
  status = 3

Examples:
  paravane ci boot.toml                           each case, and a closing line
  paravane ci *.toml --junit junit.xml --log logs reports for a CI system
  paravane ci boot.toml --only boots --json -     one case, for a machine";

const CI_STATUS: &str = "\
Exit status:
    0    every case passed (or was skipped)
    1    a case failed
    2    the command line or a scenario file makes no sense
    125  the host cannot do it: no KVM, an image or report that cannot be read or written
    129, 130, 143  ended by SIGHUP, by Ctrl-C or SIGINT, by SIGTERM";

/// Options of `ci`.
#[derive(Debug, Group)]
pub struct Ci {
    /// Scenario files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Run only the scenarios of these names
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Write a JUnit XML report
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a report as JSON; `-` is stdout, and the summary then goes to stderr
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write what each guest wrote to a file in this folder
    #[arg(long, value_name = "DIR")]
    pub log: Option<PathBuf>,
    /// Skip every case, and end with 0, where KVM cannot be used
    #[arg(long)]
    pub skip_without_kvm: bool,
    /// The KVM device node
    #[arg(long, value_name = "NODE", default_value = hypervisor::vm::NODE)]
    pub kvm: PathBuf,
}

/// The kind of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Io {
    /// virtio: queues in memory, doorbells and interrupts without an exit
    Pv,
    /// ATA disks behind an I/O APIC (docs/trapped.md)
    Trapped,
}

impl From<Io> for hypervisor::IoKind {
    fn from(kind: Io) -> Self {
        match kind {
            Io::Pv => Self::Pv,
            Io::Trapped => Self::Trapped,
        }
    }
}

/// Whether the monitor handles traps by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FastTraps {
    /// On VMX and SVM; on kvm_pvm it is slower
    Auto,
    /// Yes
    On,
    /// No
    Off,
}

impl From<FastTraps> for hypervisor::FastTraps {
    fn from(whether: FastTraps) -> Self {
        match whether {
            FastTraps::Auto => Self::Auto,
            FastTraps::On => Self::On,
            FastTraps::Off => Self::Off,
        }
    }
}

/// When mode patch replaces an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PatchPolicy {
    /// As its code is found, or (a CLI that stands alone) as it traps first; else as adaptive
    Found,
    /// Once it has trapped three times
    Adaptive,
    /// As soon as it is found; all functions of the image are looked through first
    Eager,
    /// Never: each one traps
    Never,
}

impl PatchPolicy {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Adaptive => "adaptive",
            Self::Eager => "eager",
            Self::Never => "never",
        }
    }
}

impl From<PatchPolicy> for Policy {
    fn from(policy: PatchPolicy) -> Self {
        match policy {
            PatchPolicy::Found => Self::default(),
            PatchPolicy::Adaptive => Self::Adaptive { after: 3 },
            PatchPolicy::Eager => Self::Eager,
            PatchPolicy::Never => Self::Never,
        }
    }
}

const PATCHES_EXAMPLES: &str = "\
The guest runs twice, first with every instruction trapping, then with patches. A site is a cli, sti,
pushf or popf that the kernel executed. It is moved, with its neighbours, to where it is a plain access
to a flag in memory; where that cannot be done safely it goes on trapping, and the list says why.

Examples:
  paravane patches                                the native kernel's self-test
  paravane patches --code                         with the code before and after
  paravane patches --patch eager --json           ahead of time, for a machine
  paravane patches my-kernel.elf --cmdline quick  another kernel";

/// Options of `patches`.
#[derive(Debug, Group)]
pub struct Patches {
    /// The guest: a static ELF64 file with a Paravane note of a native image [default: the native
    /// kernel built in]
    pub image: Option<PathBuf>,
    /// When instructions are replaced
    #[arg(long, value_name = "WHEN", default_value = "found")]
    pub patch: PatchPolicy,
    /// The guest kernel's command line [default, of the kernel built in: a script with its self-test]
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// Show the code before and after
    #[arg(long)]
    pub code: bool,
    /// Let the guest's console write to stderr
    #[arg(long)]
    pub console: bool,
    /// End each of the two runs after this many seconds, with status 124
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = values::seconds)]
    pub timeout: Duration,
    /// Print the list as JSON
    #[arg(long)]
    pub json: bool,
    /// The KVM device node
    #[arg(long, value_name = "NODE", default_value = hypervisor::vm::NODE)]
    pub kvm: PathBuf,
}

const DOCTOR_EXAMPLES: &str = "\
It opens the KVM node, makes VMs and measures a few exits: under a second. The exit status is 1
when no guest can run here; each problem comes with its mend.

Examples:
  paravane doctor
  paravane doctor --json | jq .problems";

/// Options of `doctor`.
#[derive(Debug, Group)]
pub struct Doctor {
    /// Print the diagnosis as JSON
    #[arg(long)]
    pub json: bool,
    /// The KVM device node
    #[arg(long, value_name = "NODE", default_value = hypervisor::vm::NODE)]
    pub kvm: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Args::command().debug_assert();
    }
}
