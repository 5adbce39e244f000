//! placeholder
use crate::error::RigError;
use clap::Args;
/// Options.
#[derive(Args, Debug)]
pub struct ProveOptions {}
/// Run.
///
/// # Errors
/// None.
pub fn run(_: &ProveOptions) -> Result<u8, RigError> {
    Ok(0)
}
