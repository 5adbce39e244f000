//! How often something happens in an operation, as an exact fraction: 1/64 is not 0.016.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How often something happens in an operation. Equal fractions are equal, however they were counted. As
/// text, and so in files: `2` or `1/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PerOp {
    count: u64,
    operations: u64,
}

impl PerOp {
    /// So many in so many operations; `None` without an operation.
    pub const fn new(count: u64, operations: u64) -> Option<Self> {
        // Euclid's greatest common divisor; of 0 and n it is n.
        let (mut common, mut rest) = (count, operations);
        while rest > 0 {
            (common, rest) = (rest, common % rest);
        }
        match operations {
            0 => None,
            _ => Some(Self {
                count: count / common,
                operations: operations / common,
            }),
        }
    }

    /// Whether it never happens.
    pub const fn is_zero(&self) -> bool {
        self.count == 0
    }
}

/// Never.
impl Default for PerOp {
    fn default() -> Self {
        Self {
            count: 0,
            operations: 1,
        }
    }
}

impl fmt::Display for PerOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operations {
            1 => write!(f, "{}", self.count),
            operations => write!(f, "{}/{operations}", self.count),
        }
    }
}

impl From<PerOp> for String {
    fn from(value: PerOp) -> Self {
        value.to_string()
    }
}

impl FromStr for PerOp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| is_plain)
        };
        let (count, operations) = text.split_once('/').unwrap_or((text, "1"));
        number(count)
            .zip(number(operations))
            .and_then(|(count, operations)| Self::new(count, operations))
            .ok_or_else(|| format!("{text:?} is no count: use text such as \"2\" or \"1/64\""))
    }
}

impl TryFrom<String> for PerOp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_fractions_are_equal_and_shown_in_their_lowest_terms() {
        let shown = |count, operations| PerOp::new(count, operations).unwrap().to_string();
        assert_eq!(PerOp::new(4, 256), PerOp::new(1, 64));
        assert_eq!(shown(4, 256), "1/64");
        assert_eq!(shown(128, 64), "2");
        assert_eq!(shown(3, 2), "3/2");
        assert_eq!(PerOp::new(0, 640), Some(PerOp::default()));
        assert_eq!(shown(0, 5), "0");
        assert_eq!(PerOp::new(1, 0), None);
        assert_eq!(PerOp::new(0, 0), None);
        assert_eq!(shown(u64::MAX, u64::MAX), "1");
    }

    #[test]
    fn text_is_read_back() {
        for (count, operations) in [(0, 1), (7, 1), (1, 64), (3, 2), (u64::MAX, 2)] {
            let value = PerOp::new(count, operations).unwrap();
            assert_eq!(value.to_string().parse(), Ok(value));
        }
        assert_eq!("2/128".parse(), Ok(PerOp::new(1, 64).unwrap()));
    }

    #[test]
    fn other_text_is_no_count() {
        for text in [
            "",
            "/",
            "1/",
            "/2",
            "1/0",
            "-1",
            "+1",
            "1.5",
            "1/2/3",
            " 1",
            "one",
            "1/+2",
            "99999999999999999999",
        ] {
            let error = text.parse::<PerOp>().unwrap_err();
            assert!(error.contains("\"1/64\""), "{text}: {error}");
        }
    }
}
