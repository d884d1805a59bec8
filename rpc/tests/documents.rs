//! What the crate's documentation promises of itself.

#[test]
fn the_documentation_opens_with_a_client_and_a_server_in_forty_lines() {
    let text = include_str!("../src/lib.rs");
    let (_, behind) = text.split_once("//! ```\n").unwrap();
    let (example, _) = behind.split_once("//! ```\n").unwrap();
    assert!(example.contains("RpcProvider::new") && example.contains("RpcChannel::new"));
    assert!(!example.contains("//! # "), "nothing of it is hidden");
    let lines = example.lines().count();
    assert!(lines <= 40, "{lines} lines");
}
