//! Any bytes as a name: what `wire` and `io` take agrees, nothing a terminal would obey is shown,
//! and no link leaves its tree.

use ufx::cli::output::escape_name;
use ufx::io::name::{NameError, RelativePath, link_stays_inside};
use ufx::io::report::PathText;
use ufx::wire::check_path;

use crate::escaper::assert_harmless;
use crate::input::Input;

/// Runs one input.
pub fn run(bytes: &[u8]) -> u64 {
    let mut input = Input::new(bytes);
    let name_bytes = input.below(5_000) as usize;
    let name = input.bytes(name_bytes);
    let target = input.rest();

    assert_harmless(&escape_name(name));
    let json = serde_json::to_string(&PathText::from(name)).expect("every name has a JSON form");
    let back: String = serde_json::from_str(&json).expect("what was written can be read");
    assert!(back.len() >= name.len());

    let on_the_wire = check_path(name);
    match RelativePath::parse(name) {
        Ok(path) => {
            assert_eq!(on_the_wire, Ok(()), "taken here, refused on the wire");
            assert_eq!(path.as_bytes(), name);
            assert_harmless(&path.to_string());
            assert_harmless(&format!("{path:?}"));
            let (parent, last) = path.split();
            assert!(!last.is_empty() && !last.contains(&b'/'));
            assert_eq!(path.components().next_back(), Some(last));
            assert_eq!(RelativePath::parse(parent).map_or(0, |parent| parent.depth()) + 1, {
                path.depth()
            });
            let inside = link_stays_inside(&path, target);
            if inside {
                assert_inside(&path, target);
            }
            2 | u64::from(inside) | (path.depth() as u64).min(7) << 8
        }
        // A rule of this end, not of the wire; the name may have other faults behind it.
        Err(NameError::Reserved) => 1,
        Err(error) => {
            assert!(on_the_wire.is_err(), "refused here ({error}), taken on the wire");
            u64::from(crc32fast::hash(error.to_string().as_bytes())) << 8
        }
    }
}

/// Follows the target as a kernel would, from the link's directory: it must stay below the first
/// component of the path.
fn assert_inside(path: &RelativePath, target: &[u8]) {
    assert!(!target.starts_with(b"/"), "an absolute target");
    let mut depth = path.depth() as i64 - 1;
    // A link at the top has no tree but itself: it may name what lies beside it.
    let floor = i64::from(depth > 0);
    for component in target.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        assert!(depth >= floor, "{path} leads out by {target:?}");
    }
}
