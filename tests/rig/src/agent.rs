//! The side inside the rig: loads modules, runs the plan's jobs, some at a time, and reports on the
//! serial port. `init` starts it. It trusts the plan, which this crate's other side has written.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VmFd};

use crate::plan::{self, End, Job, Plan, Report, Stream};

/// How often a running job is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long to wait for the last output of a job that has ended, if it left children behind.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The agent's own variables for each job.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("HOME", "/root"),
    ("PATH", "/bin:/sbin:/usr/bin:/usr/sbin"),
    ("TERM", "dumb"),
    ("TMPDIR", "/tmp"),
    ("RIG", "svm"),
];

/// Carry out the plan. What goes wrong is reported on the port, or said on the console.
///
/// # Errors
/// A sentence for the console: there is no plan, or no port.
pub fn run() -> Result<(), String> {
    let text = fs::read_to_string(plan::PLAN).map_err(|e| format!("{}: {e}", plan::PLAN))?;
    let plan: Plan = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", plan::PLAN))?;
    let port = File::options()
        .write(true)
        .open(plan::PORT)
        .map_err(|e| format!("{}: {e}", plan::PORT))?;
    let port = Arc::new(Reports(Mutex::new(port)));
    match prepare(&plan) {
        Ok((kernel, _vm)) => {
            port.send(&Report::Ready { kernel });
            run_jobs(&plan, &port);
            port.send(&Report::Done);
        }
        Err(why) => port.send(&Report::Broken(why)),
    }
    Ok(())
}

/// The port, shared by the jobs' threads.
struct Reports(Mutex<File>);

impl Reports {
    fn send(&self, report: &Report) {
        let mut port = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        // Nobody is left to tell, but those who look at the console.
        if let Err(error) = plan::write(report, &mut *port) {
            eprintln!("rig: the port failed: {error}");
        }
    }
}

/// Load the modules, and open KVM. The virtual machine returned stays open while jobs run: switching
/// SVM off and on again with the last and the first machine can hang there (docs/decisions/0004).
fn prepare(plan: &Plan) -> Result<(String, VmFd), String> {
    for module in &plan.modules {
        let ran = Command::new("/bin/busybox")
            .args(["insmod", module])
            .output()
            .map_err(|error| format!("busybox insmod cannot be run: {error}"))?;
        if !ran.status.success() {
            let why = String::from_utf8_lossy(&ran.stderr);
            return Err(format!("the kernel refuses {module}: {}", why.trim()));
        }
    }
    let processor =
        fs::read_to_string("/proc/cpuinfo").map_err(|e| format!("/proc/cpuinfo: {e}"))?;
    if !processor.split_whitespace().any(|flag| flag == "svm") {
        return Err("its processor has no SVM".to_owned());
    }
    let vm = Kvm::new()
        .and_then(|kvm| kvm.create_vm())
        .map_err(|error| format!("KVM makes no virtual machine: {error}"))?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok((kernel.trim().to_owned(), vm))
}

fn run_jobs(plan: &Plan, port: &Arc<Reports>) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..plan.at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = plan.jobs.get(number) else {
                        return;
                    };
                    port.send(&Report::Started { job: number });
                    let start = Instant::now();
                    let end = run_job(number, job, port).unwrap_or_else(End::NotStarted);
                    let ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                    port.send(&Report::Ended {
                        job: number,
                        end,
                        ms,
                    });
                }
            });
        }
    });
}

fn run_job(number: usize, job: &Job, port: &Arc<Reports>) -> Result<End, String> {
    fs::create_dir_all(&job.dir).map_err(|error| format!("no folder {}: {error}", job.dir))?;
    let mut child = Command::new(&job.program)
        .args(&job.args)
        .current_dir(Path::new(&job.dir))
        .env_clear()
        .envs(ENVIRONMENT)
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", job.program))?;
    let (over, wait) = mpsc::channel::<()>();
    forward(child.stdout.take(), number, Stream::Out, port, over.clone());
    forward(child.stderr.take(), number, Stream::Err, port, over);
    let status = wait_for(&mut child, Duration::from_secs(job.timeout_s));
    // Both outputs end when the last holder of their pipes does. A child that was left behind may be
    // one: it is killed, and one that has left the group as well is not waited for.
    for _ in 0..2 {
        if wait.recv_timeout(LAST_WORDS) == Err(mpsc::RecvTimeoutError::Disconnected) {
            break;
        }
        kill_group(&child);
    }
    Ok(status.map_or(End::OutOfTime, end_of))
}

/// Wait for the end, or end it when its time is over.
fn wait_for(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(LOOK);
    }
    kill_group(child);
    // Killed, it ends, unless the kernel holds it: then the other side sees a rig that is hung.
    let _ = child.wait();
    None
}

/// Kill a job with all its children, but those that have made a group of their own.
fn kill_group(child: &Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("/bin/busybox")
        .args(["kill", "-9", "--", &group])
        .stderr(Stdio::null())
        .status();
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Status(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}

/// Report what comes from a pipe, from a thread of its own, which drops `over` at the end.
fn forward(
    from: Option<impl Read + Send + 'static>,
    job: usize,
    stream: Stream,
    port: &Arc<Reports>,
    over: mpsc::Sender<()>,
) {
    let port = Arc::clone(port);
    thread::spawn(move || {
        let _over = over;
        let Some(mut from) = from else { return };
        let mut buffer = [0; 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let text = plan::text_of(buffer.get(..len).unwrap_or_default());
            port.send(&Report::Output { job, stream, text });
        }
    });
}
