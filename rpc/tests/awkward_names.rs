//! What is generated of a service whose names are others' in Rust compiles.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "that it compiles is what is tested")]

include!("../codegen/tests/awkward/awkward.txt");

#[test]
fn methods_keep_their_names_on_the_wire() {
    let methods = [SStub::NEW, SStub::CHANNEL, SStub::ACCEPTS_LEGACY, SStub::END_OF_TURN, SStub::SELF];
    assert_eq!(methods.map(|method| method.name), ["New", "Channel", "AcceptsLegacy", "EndOfTurn", "Self"]);
}
