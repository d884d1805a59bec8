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
