//! How figures look: three digits that count. Called by the other parts of `render`.

/// A time with three digits that count.
pub fn duration(ns: f64) -> String {
    match ns {
        ns if ns < 999.5 => format!("{} ns", three(ns)),
        ns if ns < 999.5e3 => format!("{} us", three(ns / 1e3)),
        ns if ns < 999.5e6 => format!("{} ms", three(ns / 1e6)),
        ns => format!("{} s", three(ns / 1e9)),
    }
}

pub fn three(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A ratio; one far below 1 as a fraction.
pub fn quotient(ratio: f64) -> String {
    match ratio {
        ratio if ratio > 0.0 && ratio < 0.0995 => format!("1/{}", scaled(1.0 / ratio)),
        ratio => scaled(ratio),
    }
}

/// The same with an x behind it, where nothing else says that it is a ratio.
pub fn times(ratio: f64) -> String {
    let text = quotient(ratio);
    match text.starts_with("1/") {
        true => text,
        false => text + "x",
    }
}

/// A number with three digits that count, in thousands or millions where it is large.
pub fn scaled(value: f64) -> String {
    match value {
        value if value < 999.5 => three(value),
        value if value < 999.5e3 => format!("{}k", three(value / 1e3)),
        value if value < 999.5e6 => format!("{}M", three(value / 1e6)),
        value => format!("{}G", three(value / 1e9)),
    }
}

/// How often an operation leaves for the VMM.
pub fn exits(exits: f64) -> String {
    match exits {
        0.0 => "0 exits".into(),
        1.0 => "1 exit".into(),
        exits if exits < 0.1 => format!("1/{:.0} exit", 1.0 / exits),
        exits if exits.fract() == 0.0 => format!("{exits:.0} exits"),
        exits => format!("{exits:.2} exits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_three_digits_that_count() {
        for (ns, text) in [
            (0.0, "0.00 ns"),
            (0.271, "0.27 ns"),
            (9.996, "10.0 ns"),
            (99.96, "100 ns"),
            (999.6, "1.00 us"),
            (12_345.0, "12.3 us"),
            (999_600.0, "1.00 ms"),
            (3.2e10, "32.0 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
        let shown = [0.7, 999.0, 999.6, 1_234_567.4, 3.2e10].map(scaled);
        assert_eq!(shown, ["0.70", "999", "1.00k", "1.23M", "32.0G"]);
    }

    #[test]
    fn a_ratio_far_below_one_is_a_fraction() {
        let shown = [0.0123, 1.5, 154.6, 5110.0, 1.0 / 5110.0].map(times);
        assert_eq!(shown, ["1/81.3", "1.50x", "155x", "5.11kx", "1/5.11k"]);
        assert_eq!(quotient(1.5), "1.50");
    }

    #[test]
    fn exits_are_counts_or_shares() {
        let shown = [0.0, 1.0, 64.0, 1.0 / 64.0, 0.5, 1.02].map(exits);
        let expected = [
            "0 exits",
            "1 exit",
            "64 exits",
            "1/64 exit",
            "0.50 exits",
            "1.02 exits",
        ];
        assert_eq!(shown, expected);
    }
}
