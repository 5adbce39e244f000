//! Builds the tiny guests, the foreign kernel, and the kernel that runs cases.

use std::path::Path;

fn main() -> Result<(), guest_build::BuildError> {
    build(
        "guests",
        "guests",
        &["pv-guest/pv-runtime", "pv-guest/src/arch"],
        "PARAVANE_TINY_GUESTS",
    )?;
    build(
        "foreign-kernel",
        "foreign",
        &["tests/guests/src"],
        "PARAVANE_FOREIGN_KERNEL",
    )?;
    build("case-runner", "cases", &[], "PARAVANE_CASE_RUNNER")
}

/// Build the image of a package, which is a folder here and depends on others of the workspace.
fn build(
    package: &str,
    folder: &str,
    others: &[&str],
    variable: &str,
) -> Result<(), guest_build::BuildError> {
    let here = guest_build::package()?;
    let workspace = here.join("..");
    let mut inputs = vec![here.join(folder)];
    let common = ["pv-guest/runtime", "hypercall-abi", "Cargo.toml"];
    inputs.extend(common.iter().chain(others).map(|path| workspace.join(path)));
    let inputs: Vec<&Path> = inputs.iter().map(|path| path.as_path()).collect();
    guest_build::build(
        &guest_build::Image {
            package,
            bin: package,
            workspace: &workspace,
            script: &workspace.join("pv-guest/kernel.ld"),
            inputs: &inputs,
        },
        variable,
    )?;
    Ok(())
}
