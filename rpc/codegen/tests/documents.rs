//! What the documentation of `rpc` shows as generated is what is generated.

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_documents_show_what_is_generated() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/greeter");
    if std::env::var_os("DOCUMENTS_CHILD").is_some() {
        return rpc_codegen::try_compile(&[docs.join("greeter.proto")]).unwrap();
    }
    // In a process of its own, since the output folder is an environment variable.
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_documents_show_what_is_generated"])
        .envs([("DOCUMENTS_CHILD", "1".as_ref()), ("OUT_DIR", folder.as_os_str())])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let written = folder.join("greeting.rs");
    let [shown, generated] = [docs.join("greeting.txt"), written.clone()]
        .map(|file| std::fs::read_to_string(&file).unwrap_or_else(|error| format!("{file:?}: {error}")));
    assert!(shown == generated, "docs/greeter/greeting.txt must be what stands in {}", written.display());
}
