//! What must happen: a guest, the steps at its console, and how it must end.

use std::fmt;
use std::time::Duration;

use super::pattern::{Pattern, PatternError};
use crate::config::Config;
use crate::error::HostError;
use crate::vm::Vm;

/// How long a scenario may take that does not say.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a step may take that does not say.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How much a guest may write that is not told, in bytes.
const OUTPUT_LIMIT: usize = 16 << 20;

/// Work on a virtual machine before it runs, such as registering vendor calls.
pub type Prepare = dyn Fn(&mut Vm) -> Result<(), HostError> + Send + Sync;

/// One test of a guest.
pub struct Scenario {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) steps: Vec<Step>,
    pub(super) status: Option<u8>,
    pub(super) timeout: Duration,
    pub(super) step_timeout: Duration,
    pub(super) output_limit: usize,
    pub(super) prepare: Option<Box<Prepare>>,
}

/// One step at the console.
#[derive(Clone, Debug)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// How long it may take; the scenario's step timeout where it does not say.
    pub timeout: Option<Duration>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Wait until the guest has written this, after what the step before waited for.
    Expect(Pattern),
    /// Type this.
    Send(Vec<u8>),
}

impl Scenario {
    /// A scenario without steps, which asks for no status: add at least one of them.
    pub fn new(name: impl Into<String>, config: Config) -> Self {
        Self {
            name: name.into(),
            config,
            steps: Vec::new(),
            status: None,
            timeout: TIMEOUT,
            step_timeout: STEP_TIMEOUT,
            output_limit: OUTPUT_LIMIT,
            prepare: None,
        }
    }

    /// Wait until the guest has written `pattern`.
    ///
    /// # Errors
    /// [`PatternError`], see [`Pattern::new`].
    pub fn expect(self, pattern: &str) -> Result<Self, PatternError> {
        let action = Action::Expect(Pattern::new(pattern)?);
        Ok(self.step(Step {
            action,
            timeout: None,
        }))
    }

    /// Type text at the guest's console; a line ends with "\n".
    pub fn send(self, text: impl Into<Vec<u8>>) -> Self {
        let action = Action::Send(text.into());
        self.step(Step {
            action,
            timeout: None,
        })
    }

    /// Add a step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// After the steps the guest must power off with this status. Without it the guest is stopped
    /// then, however far it is.
    pub fn status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// How long all of it may take; 60 s where nothing is said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a step may take that does not say; 10 s where nothing is said.
    pub fn step_timeout(mut self, timeout: Duration) -> Self {
        self.step_timeout = timeout;
        self
    }

    /// How many bytes the guest may write before the case fails; 16 MiB where nothing is said.
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Do this to the virtual machine before it runs, such as registering vendor calls.
    pub fn prepare(
        mut self,
        prepare: impl Fn(&mut Vm) -> Result<(), HostError> + Send + Sync + 'static,
    ) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it asks for nothing: a test that cannot fail.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.status.is_none()
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the configuration, which holds the image's bytes.
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .field("steps", &self.steps)
            .field("status", &self.status)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
