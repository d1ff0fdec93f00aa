//! What is left out of a transfer by the user's patterns (`--exclude`).
//!
//! A pattern is a shell's: `*` and `?` stop at a slash, `**` does not, `[a-z]` and `{a,b}` choose.
//! One with a slash is compared with the whole path, from the PATH's last component on; one without
//! is compared with every name. A slash at the end stands for directories only. A directory that
//! matches is left out with everything in it.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns, made ready. Nothing is left out by default.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    /// Compared with the last component: of anything, of directories.
    names: [GlobSet; 2],
    /// Compared with the whole path: the same two.
    paths: [GlobSet; 2],
}

impl Excludes {
    /// Makes `patterns` ready.
    ///
    /// # Errors
    /// The first pattern that is none, and why.
    pub fn new<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Excludes, (&'a str, String)> {
        let mut sets = [const { Vec::new() }; 4];
        for pattern in patterns {
            let (body, is_directory) = match pattern.strip_suffix('/') {
                Some(body) => (body, true),
                None => (pattern, false),
            };
            let anchored = body.contains('/');
            let body = body.strip_prefix('/').unwrap_or(body);
            if body.is_empty() {
                return Err((pattern, "matches nothing".to_owned()));
            }
            let glob = GlobBuilder::new(body)
                .literal_separator(true)
                .empty_alternates(true)
                .build()
                .map_err(|error| (pattern, error.kind().to_string()))?;
            sets[usize::from(anchored) * 2 + usize::from(is_directory)].push((pattern, glob));
        }
        let [any_name, directory_name, any_path, directory_path] = sets.map(build);
        Ok(Excludes { names: [any_name?, directory_name?], paths: [any_path?, directory_path?] })
    }

    /// Whether the thing at `path` is left out.
    pub fn match_path(&self, path: &[u8], is_directory: bool) -> bool {
        let sets = [&self.names, &self.paths];
        if sets.iter().all(|pair| pair.iter().all(GlobSet::is_empty)) {
            return false;
        }
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        sets.into_iter().zip([name, path]).any(|([any, directory], bytes)| {
            let candidate = Candidate::from_bytes(bytes);
            any.is_match_candidate(&candidate)
                || (is_directory && directory.is_match_candidate(&candidate))
        })
    }
}

fn build(globs: Vec<(&str, globset::Glob)>) -> Result<GlobSet, (&str, String)> {
    let first = globs.first().map_or("", |(pattern, _)| *pattern);
    let mut builder = GlobSetBuilder::new();
    for (_, glob) in globs {
        builder.add(glob);
    }
    // Each is a pattern by itself; together they may be too much.
    builder.build().map_err(|error| (first, error.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_paths_and_directories() {
        // Pattern, path, whether it is a directory, whether it is left out.
        let table: [(&str, &str, bool, bool); 22] = [
            ("*.tmp", "a.tmp", false, true),
            ("*.tmp", "tree/deep/a.tmp", false, true),
            ("*.tmp", "tree/a.tmp.txt", false, false),
            ("cache", "tree/cache", true, true),
            ("cache", "tree/cache", false, true),
            ("cache/", "tree/cache", true, true),
            ("cache/", "tree/cache", false, false),
            ("tree/cache", "tree/cache", true, true),
            ("tree/cache", "other/tree/cache", true, false),
            ("/tree/cache", "tree/cache", true, true),
            ("/tree", "tree", true, true),
            ("/tree", "tree/tree", true, false),
            ("tree/*", "tree/a", false, true),
            ("tree/*", "tree/deep/a", false, false),
            ("tree/**/a", "tree/deep/deeper/a", false, true),
            ("**/a", "tree/deep/a", false, true),
            ("[a-c]?.{jpg,png}", "tree/b1.png", false, true),
            ("[a-c]?.{jpg,png}", "tree/d1.png", false, false),
            ("*", "anything", false, true),
            (".*", "tree/.hidden", false, true),
            (".*", "tree/shown", false, false),
            ("\\*", "tree/*", false, true),
        ];
        for (pattern, path, is_directory, excluded) in table {
            let excludes = Excludes::new([pattern]).unwrap();
            let found = excludes.match_path(path.as_bytes(), is_directory);
            assert_eq!(found, excluded, "{pattern} {path}");
        }
        assert!(!Excludes::default().match_path(b"a", false));
        let binary = Excludes::new(["a*"]).unwrap();
        assert!(binary.match_path(b"a\xff\n", false));
    }

    #[test]
    fn what_is_no_pattern_is_an_error() {
        for pattern in ["", "/", "[a", "{a", "a\\"] {
            let (named, why) = Excludes::new(["fine", pattern]).unwrap_err();
            assert_eq!(named, pattern);
            assert!(!why.is_empty());
        }
    }
}
