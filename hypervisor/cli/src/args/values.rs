//! The values of options: from text, or a sentence that says what would do.

use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use hypercall_abi::Mode;

use super::CodeCacheAt;

/// The longest time limit, in seconds: about thirty years.
const MOST_SECONDS: f64 = 1e9;

/// A mode by its name.
pub fn mode() -> impl TypedValueParser<Value = Mode> {
    let values = Mode::ALL.map(|mode| PossibleValue::new(mode.name()).help(about(mode)));
    // The parser lets only names of modes through.
    PossibleValuesParser::new(values).map(|name| {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .unwrap_or(Mode::Pv)
    })
}

const fn about(mode: Mode) -> &'static str {
    match mode {
        Mode::Hvm => "the processor executes them (native image, CPL 0)",
        Mode::Trap => "each one traps and is emulated (native image, CPL 3)",
        Mode::Patch => "those that trap most are replaced at run time (native image, CPL 3)",
        Mode::Pv => "the guest makes hypercalls instead (pv image, CPL 3)",
    }
}

/// A size in bytes: a number, and K, M, G or T for a power of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let help = || "use bytes, or a whole number with K, M, G or T, such as 64M".to_owned();
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (text.get(..at), 10),
        Some((at, 'M' | 'm')) => (text.get(..at), 20),
        Some((at, 'G' | 'g')) => (text.get(..at), 30),
        Some((at, 'T' | 't')) => (text.get(..at), 40),
        _ => (Some(text), 0),
    };
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(help)?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more than 64 bits of bytes".to_owned())
}

/// Where what is learned of code is kept: any other word than the two is a directory.
pub fn code_cache(text: &str) -> Result<CodeCacheAt, String> {
    match text {
        "auto" => Ok(CodeCacheAt::Auto),
        "off" => Ok(CodeCacheAt::Off),
        "" => Err("use auto, off, or a directory".to_owned()),
        dir => Ok(CodeCacheAt::Dir(dir.into())),
    }
}

/// A number of processors.
pub fn cpus(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(1) => Ok(1),
        Ok(_) => Err("this version runs one processor: use --cpus 1, or leave it out".to_owned()),
        Err(_) => Err("use a number of processors; this version runs 1".to_owned()),
    }
}

/// A time in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= MOST_SECONDS => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err(format!(
            "use a number of seconds above 0, at most {MOST_SECONDS}, such as 2.5"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("8K"), Ok(8 << 10));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("1T"), Ok(1 << 40));
    }

    #[test]
    fn other_sizes_are_refused() {
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1.5G",
            "64MB",
            "64 M",
            "0x10",
            "ten",
            "é",
            "1é",
            "99999999999999999999",
        ] {
            assert!(size(text).unwrap_err().contains("such as 64M"), "{text}");
        }
        assert!(size("99999999999T").unwrap_err().contains("64 bits"));
    }

    #[test]
    fn seconds_may_be_fractions_and_nothing_odd() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("1e3"), Ok(Duration::from_secs(1000)));
        for text in ["0", "-1", "nan", "inf", "1e10", "", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_processor_is_all() {
        assert_eq!(cpus("1"), Ok(1));
        for text in ["0", "2", "-1", "two", "99999999999"] {
            assert!(cpus(text).is_err(), "{text}");
        }
    }
}
