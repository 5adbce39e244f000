//! Builds the kernel's two images.

use std::path::Path;

fn main() -> Result<(), guest_build::BuildError> {
    let here = guest_build::package()?;
    let kernel = here.join("..");
    let workspace = here.join("../..");
    let inputs = [
        kernel.join("src"),
        kernel.join("driver-api"),
        kernel.join("drivers"),
        kernel.join("runtime"),
        kernel.join("pv-runtime"),
        kernel.join("image-native"),
        kernel.join("image-pv"),
        kernel.join("Cargo.toml"),
        workspace.join("hypercall-abi"),
        workspace.join("Cargo.toml"),
        workspace.join("Cargo.lock"),
    ];
    let inputs: Vec<&Path> = inputs.iter().map(|path| path.as_path()).collect();
    for (package, variable) in [
        ("image-native", "PARAVANE_NATIVE_IMAGE"),
        ("image-pv", "PARAVANE_PV_IMAGE"),
    ] {
        let image = guest_build::Image {
            package,
            bin: package,
            workspace: &workspace,
            script: &kernel.join("kernel.ld"),
            inputs: &inputs,
        };
        guest_build::build(&image, variable)?;
    }
    Ok(())
}
