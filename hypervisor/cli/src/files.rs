//! Reads the files that the command line names, whatever they are: an endless one is refused.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::status::Failure;

/// The largest file that is read, in bytes.
pub const LIMIT: u64 = 1 << 30;

/// The bytes of a file; `what` names its role and `mend` what helps when there is none.
pub fn read(path: &Path, what: &str, limit: u64, mend: &str) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let fail = |error| Failure::host(format!("cannot read the {what} {name}: {error}; {mend}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    // One byte more than the limit tells a file of just the limit from a larger one.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(Failure::host(format!(
            "the {what} {name} has more than {limit} bytes; {mend}"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_file_is_refused() {
        let error = read(Path::new("/dev/zero"), "image", 4096, "name another").unwrap_err();
        assert_eq!(
            error.message,
            "the image /dev/zero has more than 4096 bytes; name another"
        );
        assert_eq!(error.status, 125);
    }

    #[test]
    fn a_file_of_just_the_limit_is_read() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let len = std::fs::metadata(path).unwrap().len();
        assert_eq!(read(path, "file", len, "").unwrap().len() as u64, len);
        assert!(read(path, "file", len - 1, "").is_err());
    }
}
