//! What a method's options make of its constant.

use std::path::PathBuf;
use std::process::Command;

/// Compiles a file in a process of its own, since the output folder is an environment variable.
#[test]
fn methods_that_may_run_twice_are_marked() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    if std::env::var_os("OPTIONS_CHILD").is_some() {
        return rpc_codegen::try_compile(&[folder.join("options.proto")]).unwrap();
    }
    let source = "syntax = \"proto3\"; package options; message M {}
        service S {
            rpc Plain(M) returns (M);
            rpc Set(M) returns (M) { option idempotency_level = IDEMPOTENT; }
            rpc Look(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
        }";
    std::fs::write(folder.join("options.proto"), source).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "methods_that_may_run_twice_are_marked"])
        .envs([("OPTIONS_CHILD", "1".as_ref()), ("OUT_DIR", folder.as_os_str())])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let text = std::fs::read_to_string(folder.join("options.rs")).unwrap();
    let text: String = text.split_whitespace().collect();
    for (constant, is_marked) in [("PLAIN", false), ("SET", true), ("LOOK", true)] {
        let start = text.find(&format!("pubconst{constant}:")).unwrap();
        let end = start + text[start..].find(';').unwrap();
        assert_eq!(text[start..end].ends_with(".idempotent()"), is_marked, "{}", &text[start..end]);
    }
}
