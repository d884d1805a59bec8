//! What a user reads who has made a mistake in a `.proto` file.

#![expect(clippy::unwrap_used, reason = "a test's helper fails as the test does")]

use std::path::PathBuf;
use std::process::Command;

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

#[test]
fn two_methods_of_one_name_in_rust_are_said_with_their_file_service_and_names() {
    if std::env::var_os("OUT_DIR").is_none() {
        // In a process of its own, which has a folder for what is generated.
        let test = "two_methods_of_one_name_in_rust_are_said_with_their_file_service_and_names";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", test]).env("OUT_DIR", env!("CARGO_TARGET_TMPDIR"));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let clashes = [("GetIt", "get_it", "get_it"), ("Get", "GetAsync", "get_async"), ("New", "NEW_", "new_")];
    for (number, (first, second, function)) in clashes.into_iter().enumerate() {
        let methods = [first, second].map(|name| format!("rpc {name}(M) returns (M);")).concat();
        let source =
            format!("syntax = \"proto3\"; package clash; message M {{}} service Twins {{ {methods} }}");
        let text = fault_of(&format!("clash{number}"), &source);
        let expected = format!("service Twins: methods {first} and {second} would both be `{function}`");
        assert!(text.contains(&format!("clash{number}.proto")) && text.contains(&expected), "{text}");
    }
}
