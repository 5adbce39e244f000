//! The rig as a process of this machine: QEMU with the second serial port as its output. Called with
//! what `setup` has packed. Reads reports, and tells a rig that is silent or gone from one that works.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{RigError, tail};
use crate::plan::{self, Report};
use crate::tools;

/// How long the rig may take to its first report. It takes 5 s on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How many of the console's last lines an error shows.
const CONSOLE_LINES: usize = 12;
/// Has a processor that is stuck for 120 s end the kernel, with a reason. A busy host holds one up for some seconds. One
/// that takes no interrupts does not see that it is stuck: the others do, who wait for it (RCU).
const STUCK: &str = "softlockup_panic=1 watchdog_thresh=60 \
                     sysctl.kernel.panic_on_rcu_stall=1 rcupdate.rcu_cpu_stall_timeout=120";
/// What a kernel says when it panics: its reason, above the many lines of its backtrace.
const PANIC: &str = "Kernel panic";
/// What QEMU says of each feature of the processor that it does not emulate: of no interest.
const TCG_LACKS: &str = "warning: TCG doesn't support requested feature";
/// How much of a line that cannot be read an error shows.
const GARBLED: usize = 120;

/// What QEMU is to emulate.
#[derive(Debug)]
pub struct Hardware {
    /// `qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The initial file system.
    pub initramfs: PathBuf,
    /// How many processors programs have.
    pub cpus: u8,
    /// How much memory, in MiB.
    pub memory_mib: u32,
    /// How large a scratch disk, if any.
    pub disk_bytes: Option<u64>,
}

/// A rig that runs. It ends with this value.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    folder: tempfile::TempDir,
    started: Instant,
}

impl Machine {
    /// Start QEMU. `folder` keeps the console and lives as long as the rig.
    ///
    /// # Errors
    /// A file's, or QEMU cannot be run.
    pub fn start(hardware: &Hardware, folder: tempfile::TempDir) -> Result<Self, RigError> {
        let mut command = command(hardware, &folder)?;
        let said = folder.path().join("qemu");
        let stderr = File::create(&said).map_err(RigError::file("write", &said))?;
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .map_err(RigError::file("run", &hardware.qemu))?;
        let (send, lines) = mpsc::channel();
        if let Some(stdout) = qemu.stdout.take() {
            thread::spawn(move || {
                let mut reader = BufReader::new(stdout);
                let mut line = Vec::new();
                while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                    if send
                        .send(String::from_utf8_lossy(&line).into_owned())
                        .is_err()
                    {
                        return;
                    }
                    line.clear();
                }
            });
        }
        Ok(Self {
            qemu,
            lines,
            folder,
            started: Instant::now(),
        })
    }

    /// Hand on each report until the last, and then end the rig. `silence_s` is how long it may say
    /// nothing once it is up: longer than any job may run.
    ///
    /// # Errors
    /// The rig did not boot, hung, died or sent something else than reports.
    pub fn watch(
        mut self,
        silence_s: u64,
        mut on_report: impl FnMut(Report, Duration),
    ) -> Result<(), RigError> {
        let mut is_up = false;
        loop {
            let limit = if is_up {
                Duration::from_secs(silence_s)
            } else {
                BOOT_LIMIT.saturating_sub(self.started.elapsed())
            };
            let line = match self.lines.recv_timeout(limit) {
                Ok(line) => line,
                Err(why) => return Err(self.lost(is_up, why, silence_s)),
            };
            let report = plan::parse(&line).map_err(|error| RigError::Garbled {
                line: line.trim().chars().take(GARBLED).collect(),
                error,
            })?;
            match report {
                None => {}
                Some(Report::Done) => return Ok(()),
                Some(Report::Broken(why)) => return Err(RigError::Agent(why)),
                Some(report) => {
                    is_up |= matches!(report, Report::Ready { .. });
                    on_report(report, self.started.elapsed());
                }
            }
        }
    }

    /// What to say of a rig that reports no more.
    fn lost(&mut self, was_up: bool, why: RecvTimeoutError, silence_s: u64) -> RigError {
        let is_gone = why == RecvTimeoutError::Disconnected;
        let ended = if is_gone { self.qemu.wait().ok() } else { None };
        let tail = self.console();
        match (was_up, is_gone) {
            (false, true) => RigError::Boot {
                why: match ended {
                    Some(status) => format!("QEMU {}", crate::error::ended(status)),
                    None => "QEMU is gone".to_owned(),
                },
                tail,
            },
            (false, false) => RigError::Boot {
                why: format!("nothing came in {} s", BOOT_LIMIT.as_secs()),
                tail,
            },
            (true, true) => RigError::Died { tail },
            (true, false) => RigError::Hung {
                seconds: silence_s,
                tail,
            },
        }
    }

    /// A panic's reason, if there was one, and the last lines of QEMU itself and of the console.
    fn console(&self) -> String {
        let text = |name| {
            let bytes = fs::read(self.folder.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\r', "")
        };
        let (qemu, console) = (text("qemu"), text("console"));
        let said: String = qemu
            .lines()
            .filter(|line| !line.contains(TCG_LACKS))
            .chain(console.lines())
            .flat_map(|line| [line, "\n"])
            .collect();
        let panic = console.lines().find(|line| line.contains(PANIC));
        tail(panic.unwrap_or_default(), 1) + &tail(&said, CONSOLE_LINES)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has no state that anybody wants: no need to shut it down. A process that is gone already
        // cannot be killed, and that is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// How many processors QEMU emulates for so many that programs use, and what to tell the kernel.
///
/// What others do with their floating point can undo what QEMU's first processor has just noted of
/// entering or leaving a guest (docs/decisions/0009). So no program runs on that one, unless it is
/// alone.
fn processors(cpus: u8) -> (u16, &'static str) {
    match cpus {
        ..=1 => (1, ""),
        _ => (u16::from(cpus) + 1, " isolcpus=0"),
    }
}

fn command(hardware: &Hardware, folder: &tempfile::TempDir) -> Result<Command, RigError> {
    let mut command = match tools::find("setpriv".as_ref()) {
        // So that QEMU does not outlive this process, however that ends.
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&hardware.qemu);
            command
        }
        None => Command::new(&hardware.qemu),
    };
    // Those with which KVM's SVM works on TCG 7.2: nested paging, and no NRIP save.
    command.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "EPYC,+svm,+npt,-nrip-save",
    ]);
    let (processors, apart) = processors(hardware.cpus);
    command.args([
        "-smp",
        &processors.to_string(),
        "-m",
        &hardware.memory_mib.to_string(),
    ]);
    command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
    let console = folder.path().join("console");
    command
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    command.args(["-serial", "stdio"]);
    command.arg("-kernel").arg(&hardware.kernel);
    command.arg("-initrd").arg(&hardware.initramfs);
    command.arg("-append");
    command.arg(format!("console=ttyS0 quiet panic=-1 {STUCK}{apart}"));
    if let Some(bytes) = hardware.disk_bytes {
        let disk = folder.path().join("disk");
        let failed = RigError::file("make", &disk);
        File::create(&disk)
            .and_then(|file| file.set_len(bytes))
            .map_err(failed)?;
        let drive = format!("file={},if=virtio,format=raw", disk.display());
        command.arg("-drive").arg(drive);
    }
    Ok(command)
}

#[cfg(test)]
pub(crate) mod tests;
