//! Generating as a build script does.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Says that this process is the one that generates.
const CHILD: &str = "GENERATES";

/// Has the test of that name generate a file in a process of its own, since the output folder is an environment variable.
/// Returns what is written for `package`; nothing in that other process, where the test is to end.
pub(crate) fn generate(test: &str, file: &Path, package: &str) -> Option<(PathBuf, String)> {
    if std::env::var_os(CHILD).is_some() {
        rpc_codegen::try_compile(&[file]).unwrap();
        return None;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .envs([(CHILD, "1".as_ref()), ("OUT_DIR", folder.as_os_str())])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let written = folder.join(format!("{package}.rs"));
    let text = std::fs::read_to_string(&written).unwrap();
    Some((written, text))
}

/// The same of a file with that text, which only this test uses.
#[allow(dead_code, reason = "not all tests have a text of their own")]
pub(crate) fn generate_text(test: &str, package: &str, source: &str) -> Option<String> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{package}.proto"));
    if std::env::var_os(CHILD).is_none() {
        std::fs::write(&file, source).unwrap();
    }
    generate(test, &file, package).map(|(_, text)| text)
}
