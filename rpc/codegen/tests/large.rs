//! Which messages are sent with their largest bytes last, and so uncopied.

mod common;

/// Messages, and the fields of which the largest comes last.
const MESSAGES: [(&str, &str, &[&str]); 9] = [
    ("Blob", "bytes payload = 1;", &["(1,&mutit.payload)"]),
    (
        "Pair",
        "bytes key = 1; bytes Value = 20; string name = 3; uint64 size = 4;",
        &["(1,&mutit.key)", "(20,&mutit.value)"],
    ),
    ("Named", "bytes clientId = 1; bytes _odd = 2; bytes type = 3;", &[]),
    ("Optional", "optional bytes payload = 1;", &[]),
    ("Choice", "oneof choice { bytes payload = 1; string text = 2; }", &[]),
    ("Repeated", "bytes payload = 1; repeated bytes more = 2;", &[]),
    ("Nested", "bytes payload = 1; Blob blob = 2;", &[]),
    ("Mapped", "bytes payload = 1; map<string, string> labels = 2;", &[]),
    ("Text", "string payload = 1;", &[]),
];

#[test]
fn messages_of_plain_fields_are_taken_apart_and_no_others() {
    let mut source = "syntax = \"proto3\"; package large; ".to_owned();
    for (name, fields, _) in MESSAGES {
        source += &format!(
            "message {name} {{ {fields} }} service S{name} {{ rpc Call({name}) returns ({name}); }} "
        );
    }
    let generated =
        common::generate_text("messages_of_plain_fields_are_taken_apart_and_no_others", "large", &source);
    let Some(text) = generated else { return };
    let text: String = text.split_whitespace().collect();
    for (name, _, expected) in MESSAGES {
        let start = text.find(&format!("pubtraitS{name}:")).unwrap();
        let end = text[start..].find(&format!("implS{name}Stub")).unwrap() + start;
        let dispatcher = &text[start..end];
        let places = dispatcher.split_once("take_largest(message,|it|[").map_or("", |(_, rest)| rest);
        let places = places.split(']').next().unwrap().trim_end_matches(',');
        assert_eq!(places, expected.join(","), "{name}");
        let stub = text[end..].split("pubtrait").next().unwrap();
        assert_eq!(
            stub.matches("LargestLast::new(").count(),
            if expected.is_empty() { 0 } else { 2 },
            "{name}"
        );
    }
}
