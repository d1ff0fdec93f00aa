//! Command lines that neither subcommand gets to see: none, unknown, help, version.

use super::{text, ufx};

#[test]
fn help_goes_to_stdout_and_names_what_there_is() {
    for words in [&["--help"][..], &["-h"], &["send", "--help"], &["recv", "-h"]] {
        let output = ufx(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert_eq!(text(&output.stderr), "", "{words:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{words:?}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{words:?}: {help}");
    }
    let help = text(&ufx(&["--help"]).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(commands, ["send", "recv", "bench"]);
}

#[test]
fn the_version_is_the_package_s() {
    let output = ufx(&["--version"]);
    assert_eq!(text(&output.stdout), concat!("ufx ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(output.status.code(), Some(0));
}
