//! Numbers with units, as people type them: rates, sizes, durations, plain integers. Each parser
//! says why it refuses and which forms and range it takes. Leaves option names to `options` and
//! the way back, from numbers to text, to `output`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::output;

/// Digits behind the decimal point that count: `1.000000001G` is the finest rate.
const FRACTION_DIGITS_MAX: usize = 9;

/// A unit and what one of it is worth.
type Unit = (&'static str, u64);

/// What may follow a rate's prefix, in bits. Upper-case B is a byte, lower-case a bit.
const RATE_UNITS: [Unit; 5] = [("bit/s", 1), ("bps", 1), ("b/s", 1), ("B/s", 8), ("", 1)];

/// Prefixes of a rate: decimal, as network rates are.
const RATE_PREFIXES: [Unit; 6] = [
    ("k", 1_000),
    ("K", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("", 1),
];

const SIZE_UNITS: [Unit; 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// In nanoseconds.
const DURATION_UNITS: [Unit; 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses a rate into bits per second: `100M`, `1.5Gbps`, `950Mbit/s` in bits, `100MB/s` in bytes.
pub fn parse_rate(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let forms = "a rate looks like 100M, 950Mbit/s, 1.5Gbps or, in bytes, 100MB/s";
    let (number, unit) = split_unit(text).ok_or(forms)?;
    let scale = rate_scale(unit).ok_or(forms)?;
    let rate = number.times(scale).filter(|rate| range.contains(rate));
    rate.ok_or_else(|| {
        let (lowest, highest) = (output::rate(*range.start()), output::rate(*range.end()));
        format!("a rate is from {lowest} to {highest}")
    })
}

/// Parses a size into bytes: `65536`, `10MB`, `64KiB`. `K` or `M` alone could mean either kind.
pub fn parse_size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let forms = "a size looks like 65536, 10MB (decimal) or 64KiB (binary)";
    let (number, unit) = split_unit(text).ok_or(forms)?;
    let scale = scale_of(&SIZE_UNITS, unit).ok_or(forms)?;
    let size = number.times(scale).filter(|size| range.contains(size));
    size.ok_or_else(|| {
        let (lowest, highest) = (output::bytes(*range.start()), output::bytes(*range.end()));
        format!("a size here is from {lowest} to {highest}")
    })
}

/// Parses a size in whose context nothing is binary: as [`parse_size`], and `200M` is `200MB`.
pub fn parse_decimal_size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    match text.ends_with(['k', 'K', 'M', 'G']) {
        true => parse_size(&format!("{text}B"), range),
        false => parse_size(text, range),
    }
}

/// Parses a duration: `500ms`, `10s`, `2m`. The unit must be there.
pub fn parse_duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let forms = "a time looks like 500ms, 10s or 2m";
    let (number, unit) = split_unit(text).ok_or(forms)?;
    let scale = scale_of(&DURATION_UNITS, unit).ok_or(forms)?;
    let duration = number.times(scale).map(Duration::from_nanos);
    duration.filter(|duration| range.contains(duration)).ok_or_else(|| {
        let (lowest, highest) = (output::duration(*range.start()), output::duration(*range.end()));
        format!("a time here is from {lowest} to {highest}")
    })
}

/// Parses a plain number.
pub fn parse_integer(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    // `parse` alone would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && range.contains(number));
    number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
}

/// A decimal number as typed, exact: `1.5` is 1 and 500,000,000 thousand-millionths.
struct Decimal {
    whole: u64,
    /// In units of 10^-FRACTION_DIGITS_MAX.
    fraction: u64,
}

impl Decimal {
    /// This many times `scale`, rounded down; none when it is too large.
    fn times(&self, scale: u64) -> Option<u64> {
        let scale = u128::from(scale);
        let whole = u128::from(self.whole) * scale;
        let fraction = u128::from(self.fraction) * scale / 10_u128.pow(FRACTION_DIGITS_MAX as u32);
        u64::try_from(whole + fraction).ok()
    }
}

/// Splits `1.5Gbps` into the number and its unit; a space may stand between them.
fn split_unit(text: &str) -> Option<(Decimal, &str)> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    if fraction.len() > FRACTION_DIGITS_MAX || fraction.contains('.') {
        return None;
    }
    let whole = whole.parse().ok()?;
    let fraction = format!("{fraction:0<FRACTION_DIGITS_MAX$}").parse().ok()?;
    Some((Decimal { whole, fraction }, unit.trim_start()))
}

fn scale_of(units: &[Unit], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

/// The worth of a prefix with a unit of rate, in bits per second.
fn rate_scale(unit: &str) -> Option<u64> {
    RATE_UNITS.iter().find_map(|(name, bits)| {
        let prefix = unit.strip_suffix(name)?;
        Some(scale_of(&RATE_PREFIXES, prefix)? * bits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::defaults::{BUFFER_RANGE, RATE_RANGE};

    const ANY: RangeInclusive<u64> = 0..=u64::MAX;

    #[test]
    fn rates_are_bits_unless_they_say_bytes() {
        let table = [
            ("500000", 500_000),
            ("100M", 100_000_000),
            ("1G", 1_000_000_000),
            ("950Mbit/s", 950_000_000),
            ("1.5Gbps", 1_500_000_000),
            ("100 Mb/s", 100_000_000),
            ("100MB/s", 800_000_000),
            ("2.5kB/s", 20_000),
            ("1K", 1_000),
            ("0.000000001G", 1),
        ];
        for (text, bits_per_second) in table {
            assert_eq!(parse_rate(text, &ANY), Ok(bits_per_second), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_told_the_forms_of_one() {
        let table = [
            "",
            "fast",
            "M",
            "-1M",
            "+1M",
            "1e9",
            "1.",
            ".5M",
            "1.2.3M",
            "100MB",
            "100m",
            "1MiB/s",
            "100Mbyte",
            "0x10",
            "1,5G",
            "1.0000000001G",
            "99999999999999999999",
            "\u{665}M",
        ];
        for text in table {
            let error = parse_rate(text, &RATE_RANGE).unwrap_err();
            assert!(error.starts_with("a rate looks like 100M"), "{text}: {error}");
        }
    }

    #[test]
    fn a_rate_out_of_range_is_told_the_range() {
        for text in ["0", "99k", "1.1T", "18446744073709551615T"] {
            let error = parse_rate(text, &RATE_RANGE).unwrap_err();
            assert_eq!(error, "a rate is from 100 kbit/s to 1 Tbit/s", "{text}");
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary_by_their_unit() {
        let table = [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("1.5 MiB", 1_572_864),
            ("8kB", 8_000),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text, &ANY), Ok(bytes), "{text}");
        }
        for text in ["", "64K", "64k", "10Mbit", "ten"] {
            let error = parse_size(text, &ANY).unwrap_err();
            assert!(error.starts_with("a size looks like 65536"), "{text}: {error}");
        }
        for (text, bytes) in [("200M", 200_000_000), ("1.5G", 1_500_000_000), ("1KiB", 1_024)] {
            assert_eq!(parse_decimal_size(text, &ANY), Ok(bytes), "{text}");
        }
        let error = parse_size("1kB", &BUFFER_RANGE).unwrap_err();
        assert_eq!(error, "a size here is from 4.1 kB to 1.07 GB");
    }

    #[test]
    fn durations_need_a_unit() {
        let range = Duration::from_millis(1)..=Duration::from_secs(7_200);
        let table = [
            ("500ms", 500),
            ("10s", 10_000),
            ("0.5s", 500),
            ("2m", 120_000),
            ("2 min", 120_000),
            ("2h", 7_200_000),
        ];
        for (text, milliseconds) in table {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(parse_duration(text, &range), Ok(expected), "{text}");
        }
        for text in ["10", "", "s", "10 days", "-1s", "1m30s"] {
            let error = parse_duration(text, &range).unwrap_err();
            assert_eq!(error, "a time looks like 500ms, 10s or 2m", "{text}");
        }
        for text in ["0s", "3h"] {
            let error = parse_duration(text, &range).unwrap_err();
            assert_eq!(error, "a time here is from 1 ms to 2 h 00 min", "{text}");
        }
    }

    #[test]
    fn an_integer_is_digits_within_its_range() {
        assert_eq!(parse_integer("8390", &(1..=65_535)), Ok(8_390));
        assert_eq!(parse_integer("007", &(1..=65_535)), Ok(7));
        for text in ["", "0", "65536", "+5", "-5", "5 ", "99999999999999999999", "http"] {
            let error = parse_integer(text, &(1..=65_535)).unwrap_err();
            assert_eq!(error, "must be a number from 1 to 65535", "{text}");
        }
    }
}
