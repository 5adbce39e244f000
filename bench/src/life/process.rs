//! Whole processes of the `paravane` program, from their start to their end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hypercall_abi::Mode;

use crate::error::BenchError;
use crate::floor;
use crate::watch::{Watch, lock};

/// A process that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// What a guest that powers off at once is told.
const POWER_OFF: &str = "run=poweroff";
/// The most that is read of what a process writes.
const READ_LIMIT: u64 = 1 << 20;

/// How long a process took from its start.
#[derive(Clone, Copy, Debug)]
pub struct Lived {
    /// To the first byte on its standard output, in the reader's hands.
    pub first_byte: Duration,
    /// To its end, and whatever the host took to clean up behind it.
    pub all: Duration,
}

/// The `paravane` program.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The program at this path.
    pub fn new(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    /// A guest that powers off at once.
    pub fn guest(&self, mode: Mode, watch: &Watch) -> Result<Lived, BenchError> {
        // The kernel's greeting is its first byte.
        self.live(
            &["run", "--mode", mode.name(), "--cmdline", POWER_OFF],
            b'P',
            watch,
        )
    }

    /// The floor's virtual machine.
    pub fn floor(&self, watch: &Watch) -> Result<Lived, BenchError> {
        self.live(&["floor-vm"], floor::BYTE, watch)
    }

    fn live(&self, args: &[&str], first: u8, watch: &Watch) -> Result<Lived, BenchError> {
        let start = Instant::now();
        let mut running = Running::start(&self.0, args, Stdio::null(), watch, LIMIT)?;
        let mut byte = [0];
        let read = running.stdout.read(&mut byte);
        let first_byte = start.elapsed();
        // Its output ends with the process: from there on waiting is short.
        let rest = running.rest();
        let status = running.wait();
        let all = start.elapsed();
        let is_right = matches!(read, Ok(1)) && byte == [first] && rest.is_ok();
        match status {
            Ok(status) if status.success() && is_right => Ok(Lived { first_byte, all }),
            Ok(status) if status.success() => {
                let what = format!("did not begin its output with {:?}", char::from(first));
                Err(running.failure(what))
            }
            Ok(status) => Err(running.failure(format!("ended with {status}"))),
            Err(error) => Err(running.failure(format!("cannot be waited for: {error}"))),
        }
    }
}

/// A process that runs; dropped, it is killed.
pub struct Running<'a> {
    child: Arc<Mutex<Child>>,
    /// Its standard output.
    pub stdout: ChildStdout,
    command: String,
    _bound: crate::watch::Bounded<'a>,
}

impl<'a> Running<'a> {
    /// Start a process that is killed after `limit`.
    pub fn start(
        program: &Path,
        args: &[&str],
        stdin: Stdio,
        watch: &'a Watch,
        limit: Duration,
    ) -> Result<Self, BenchError> {
        let command = format!("{} {}", program.display(), args.join(" "));
        let fail = |source| BenchError::Start {
            program: program.to_path_buf(),
            source,
        };
        let child = Command::new(program)
            .args(args)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(fail)?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| fail(std::io::ErrorKind::BrokenPipe.into()))?;
        let child = Arc::new(Mutex::new(child));
        let bound = watch.process(&child, limit);
        Ok(Self {
            child,
            stdout,
            command,
            _bound: bound,
        })
    }

    /// The path of the program at work, for `/proc`.
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    fn rest(&mut self) -> std::io::Result<usize> {
        let mut rest = Vec::new();
        self.stdout.by_ref().take(READ_LIMIT).read_to_end(&mut rest)
    }

    fn wait(&self) -> std::io::Result<ExitStatus> {
        lock(&self.child).wait()
    }

    /// An error that shows what the process wrote to its error output. Ends it.
    pub fn failure(&mut self, what: String) -> BenchError {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let mut evidence = Vec::new();
        if let Some(stderr) = child.stderr.take() {
            // A message that cannot be read says nothing; the error stands for itself.
            let _ = stderr.take(READ_LIMIT).read_to_end(&mut evidence);
        }
        let evidence = String::from_utf8_lossy(&evidence).into_owned();
        BenchError::Program {
            command: self.command.clone(),
            what,
            evidence,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // Refused only when it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that does what `body` says, whatever its arguments are.
    fn script(name: &str, body: &str) -> Program {
        let path =
            std::env::temp_dir().join(format!("paravane-bench-{}-{name}", std::process::id()));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Program(path)
    }

    fn error_of(name: &str, body: &str) -> String {
        let watch = Watch::start().unwrap();
        let program = script(name, body);
        let result = program.floor(&watch);
        std::fs::remove_file(&program.0).unwrap();
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_process_is_timed_to_its_first_byte_and_to_its_end() {
        let watch = Watch::start().unwrap();
        let program = script("good", "printf P; sleep 0.1; echo more");
        let lived = program.floor(&watch).unwrap();
        std::fs::remove_file(&program.0).unwrap();
        assert!(
            lived.all - lived.first_byte >= Duration::from_millis(90),
            "{lived:?}"
        );
    }

    #[test]
    fn a_process_that_fails_is_shown_with_its_own_words() {
        let error = error_of("bad", "printf P; echo no KVM here >&2; exit 125");
        assert!(
            error.contains("floor-vm` ended with exit status: 125\nno KVM here"),
            "{error}"
        );
    }

    #[test]
    fn output_of_something_else_s_is_not_mistaken_for_the_guest_s() {
        assert!(error_of("other", "echo hello").contains("did not begin its output with 'P'"));
        assert!(error_of("silent", "exit 0").contains("did not begin its output"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let watch = Watch::start().unwrap();
        let error = Program::new(Path::new("/nowhere/paravane"))
            .floor(&watch)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot start /nowhere/paravane: ")
        );
    }
}
