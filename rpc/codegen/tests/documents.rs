//! What the documentation of `rpc` shows as generated is what is generated.

mod common;

use std::path::Path;

#[test]
fn the_documents_show_what_is_generated() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/greeter");
    let generated =
        common::generate("the_documents_show_what_is_generated", &docs.join("greeter.proto"), "greeting");
    let Some((written, text)) = generated else { return };
    let shown = std::fs::read_to_string(docs.join("greeting.txt")).unwrap();
    assert!(shown == text, "docs/greeter/greeting.txt must be what stands in {}", written.display());
}

#[test]
fn what_is_compiled_of_awkward_names_is_what_is_generated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/awkward");
    let test = "what_is_compiled_of_awkward_names_is_what_is_generated";
    let Some((written, text)) = common::generate(test, &folder.join("awkward.proto"), "awkward") else {
        return;
    };
    let shown = std::fs::read_to_string(folder.join("awkward.txt")).unwrap_or_default();
    assert!(shown == text, "tests/awkward/awkward.txt must be what stands in {}", written.display());
}
