//! Builds the tiny guests.

use std::path::Path;

fn main() -> Result<(), guest_build::BuildError> {
    let here = guest_build::package()?;
    let workspace = here.join("..");
    let inputs = [
        here.join("guests"),
        workspace.join("pv-guest/runtime"),
        workspace.join("pv-guest/pv-runtime"),
        workspace.join("pv-guest/src/arch"),
        workspace.join("hypercall-abi"),
        workspace.join("Cargo.toml"),
    ];
    let inputs: Vec<&Path> = inputs.iter().map(|path| path.as_path()).collect();
    guest_build::build(
        &guest_build::Image {
            package: "guests",
            bin: "guests",
            workspace: &workspace,
            script: &workspace.join("pv-guest/kernel.ld"),
            inputs: &inputs,
        },
        "PARAVANE_TINY_GUESTS",
    )?;
    Ok(())
}
