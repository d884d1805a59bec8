//! What a method's options make of its constant.

mod common;

#[test]
fn methods_that_may_run_twice_are_marked() {
    let source = "syntax = \"proto3\"; package options; message M {}
        service S {
            rpc Plain(M) returns (M);
            rpc Set(M) returns (M) { option idempotency_level = IDEMPOTENT; }
            rpc Look(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
        }";
    let generated = common::generate_text("methods_that_may_run_twice_are_marked", "options", source);
    let Some(text) = generated else { return };
    let text: String = text.split_whitespace().collect();
    for (constant, is_marked) in [("PLAIN", false), ("SET", true), ("LOOK", true)] {
        let start = text.find(&format!("pubconst{constant}:")).unwrap();
        let end = start + text[start..].find(';').unwrap();
        assert_eq!(text[start..end].ends_with(".idempotent()"), is_marked, "{}", &text[start..end]);
    }
}
