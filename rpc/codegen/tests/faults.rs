//! What a user reads who has made a mistake in a `.proto` file.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

use std::path::PathBuf;

/// Writes a file that only the named test uses, and compiles it.
fn fault_of(name: &str, text: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("{name}.proto"));
    std::fs::write(&file, text).unwrap();
    rpc_codegen::try_compile(&[file]).unwrap_err().to_string()
}

#[test]
fn a_missing_file_is_named() {
    let text = rpc_codegen::try_compile(&["no/such/file.proto"]).unwrap_err().to_string();
    assert!(text.contains("file.proto"), "{text}");
}

#[test]
fn a_syntax_error_is_said_with_its_file() {
    let text = fault_of("syntax", "syntax = \"proto3\";\nmessage Broken {\n  uint32 = 1;\n}\n");
    assert!(text.contains("syntax.proto"), "{text}");
}
