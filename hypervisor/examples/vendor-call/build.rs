//! Builds the example's guest image.

fn main() -> Result<(), guest_build::BuildError> {
    let here = guest_build::package()?;
    let workspace = here.join("../../..");
    guest_build::build(
        &guest_build::Image {
            package: "vendor-call-guest",
            bin: "vendor-call-guest",
            workspace: &workspace,
            script: &workspace.join("pv-guest/kernel.ld"),
            inputs: &[
                &here.join("guest"),
                &workspace.join("pv-guest/pv-runtime"),
                &workspace.join("pv-guest/runtime"),
                &workspace.join("hypercall-abi"),
            ],
        },
        "VENDOR_CALL_GUEST",
    )?;
    Ok(())
}
