//! Any bytes on their way to a terminal: shown without harm, and without one name posing as
//! another.

use ufx::cli::output::escape_name;
use ufx::io::name::Escaped;

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let shown = escape_name(bytes);
    assert_harmless(&shown);
    assert_eq!(unescaped(&shown).as_deref(), Some(bytes), "{shown:?} says another name");
    // What was shown once may be shown again, as part of a line: it stays as it is.
    let again = escape_name(shown.replace('\\', "/").as_bytes());
    assert_eq!(again, shown.replace('\\', "/"), "the last guard would change it");
    assert_harmless(&Escaped(bytes).to_string());
    let count = |wanted: &str| shown.matches(wanted).count().min(15) as u64;
    count("\\\\") | count("\\x") << 4 | count("\\u") << 8 | u64::from(shown.is_ascii()) << 12
}

/// Nothing that moves a cursor, changes a colour, turns text around or breaks a line.
pub fn assert_harmless(shown: &str) {
    let harmful = shown.chars().find(|letter| {
        letter.is_control()
            || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
            || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    assert_eq!(harmful, None, "in {shown:?}");
}

/// The bytes that an escaped name stands for; none if it is no escaped name.
fn unescaped(shown: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = shown;
    while let Some(letter) = rest.chars().next() {
        let (taken, value) = if let Some(code) = rest.strip_prefix("\\x") {
            (4, vec![u8::from_str_radix(code.get(..2)?, 16).ok()?])
        } else if let Some(code) = rest.strip_prefix("\\u{") {
            let digits = code.split_once('}')?.0;
            let letter = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            (digits.len() + 4, letter.to_string().into_bytes())
        } else if rest.starts_with("\\\\") {
            (2, vec![b'\\'])
        } else {
            (letter.len_utf8(), letter.to_string().into_bytes())
        };
        bytes.extend(value);
        rest = rest.get(taken..)?;
    }
    Some(bytes)
}
