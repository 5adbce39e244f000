//! What a guest costs that has every kind of device, and does nothing.

use std::path::Path;
use std::time::Duration;

use hypercall_abi::Mode;
use serde::Serialize;

use crate::error::BenchError;
use crate::life;
use crate::watch::Watch;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// The mode.
    pub mode: &'static str,
    /// The options that name the devices.
    pub devices: String,
    /// How long it was watched, in milliseconds.
    pub watched_ms: u64,
    /// Time on a processor, of all threads of the process, in percent of the time that passed.
    pub cpu_percent: f64,
    /// Resident memory of the process without the guest's, in bytes.
    pub resident_bytes: u64,
}

/// Boot a guest in a process of its own, with this disk and all other devices, and watch it sleep. Its network has an
/// address, so that there is somebody who waits for frames.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(
    program: &Path,
    disk: &Path,
    period: Duration,
    watch: &Watch,
) -> Result<Idle, BenchError> {
    let fail = |source| BenchError::File {
        path: std::env::temp_dir(),
        source,
    };
    let directory = tempfile::tempdir().map_err(fail)?;
    // A comma in a name is written twice.
    let name = |path: &Path| path.display().to_string().replace(',', ",,");
    let disk = name(disk);
    let console = format!("file={}", name(&directory.path().join("console")));
    let vsock = format!("3,uds={}", name(&directory.path().join("vsock")));
    let devices = [
        "--disk",
        &disk,
        "--rng",
        "--net",
        "user",
        "--console",
        &console,
        "--vsock",
        &vsock,
        "--balloon",
        "1M",
    ];
    let before =
        "random 8; disk vda read 0 1; net static 10.0.2.15/24 gw 10.0.2.2; ping 10.0.2.2 1";
    let before = Some((before, "1 sent, 1 received"));
    let mode = Mode::Pv;
    let found = life::footprint_with(program, mode, &devices, before, period, watch)?;
    Ok(Idle {
        mode: mode.name(),
        devices: "--disk --rng --net user --console file --vsock --balloon".into(),
        watched_ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX),
        cpu_percent: found.cpu_percent,
        resident_bytes: found.resident,
    })
}
