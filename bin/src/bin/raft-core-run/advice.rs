//! The command that runs one node beside its launcher, as the user can type it where the launcher was started.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// How to run a single node of the launcher's cluster.
pub(crate) struct RunByHand {
    program: String,
    places: String,
}

impl RunByHand {
    /// For the cluster that was named by this file and data directory; the program is named as it was when it was called.
    pub(crate) fn new(file: &Path, data_dir: Option<&Path>) -> RunByHand {
        let program = std::env::args_os().next().unwrap_or_else(|| OsString::from("raft-core-run"));
        RunByHand::of(&program, file, data_dir)
    }

    fn of(program: &OsStr, file: &Path, data_dir: Option<&Path>) -> RunByHand {
        let mut places = format!("-f {}", quoted(file.as_os_str()));
        if let Some(data_dir) = data_dir {
            places.push_str(&format!(" --data-dir {}", quoted(data_dir.as_os_str())));
        }
        RunByHand { program: quoted(program), places }
    }

    /// The command for this node; `I` stands for any.
    pub(crate) fn command(&self, node: &str) -> String {
        format!("{} --node {node} {}", self.program, self.places)
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_what_was_named_and_a_shell_can_read_it() {
        let plain = RunByHand::of(OsStr::new("raft-core-run"), Path::new("t.conf"), None);
        assert_eq!(plain.command("2"), "raft-core-run --node 2 -f t.conf");
        let strange = RunByHand::of(OsStr::new("a b/run"), Path::new("it's.conf"), Some(Path::new("d")));
        assert_eq!(strange.command("I"), r"'a b/run' --node I -f 'it'\''s.conf' --data-dir d");
    }
}
