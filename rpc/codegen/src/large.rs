//! Which messages have fields of bytes that may leave uncopied, and the Rust text that takes such a message apart.
//!
//! To be taken apart a message is cloned, so it must be cheap to clone beside its bytes: no other messages in it, and
//! nothing repeated. Only plain fields count, which are left out when they are empty.

use std::collections::BTreeMap;

use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Words that Rust keeps to itself, as names of fields.
const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "union", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// Fields of bytes, each with its number and its name in Rust, by the full name of their message.
#[derive(Default)]
pub(crate) struct LargeFields(BTreeMap<String, Vec<(i32, String)>>);

impl LargeFields {
    /// Those of all files.
    pub(crate) fn of(files: &FileDescriptorSet) -> LargeFields {
        let mut found = LargeFields::default();
        for file in files.file.iter().filter(|file| file.syntax() == "proto3") {
            let package = file.package();
            let scope = if package.is_empty() { String::new() } else { format!(".{package}") };
            file.message_type.iter().for_each(|message| found.add(&scope, message));
        }
        found
    }

    fn add(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add(&name, nested));
        let is_cheap = |field: &FieldDescriptorProto| {
            field.label() != Label::Repeated && !matches!(field.r#type(), Type::Message | Type::Group)
        };
        let fields: Vec<_> = message.field.iter().filter_map(plain_bytes).collect();
        if !fields.is_empty() && message.field.iter().all(is_cheap) {
            self.0.insert(name, fields);
        }
    }

    /// What takes a message of that full name apart, as an expression of Rust; nothing if it has no such field.
    pub(crate) fn take_apart(&self, message: &str) -> Option<String> {
        let fields = self.0.get(message)?;
        let places: Vec<String> =
            fields.iter().map(|(number, name)| format!("({number}, &mut it.{name})")).collect();
        Some(format!("|message| ::rpc::take_largest(message, |it| [{}])", places.join(", ")))
    }
}

/// The number and the name in Rust of a field of bytes, where they are plain to see.
fn plain_bytes(field: &FieldDescriptorProto) -> Option<(i32, String)> {
    let is_plain = field.r#type() == Type::Bytes && field.oneof_index.is_none() && !field.proto3_optional();
    let name = field.name();
    let is_word = |text: &str| {
        !text.is_empty() && text.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
    };
    let is_snake = name.split('_').all(is_word);
    let is_one_capitalised = name.starts_with(|it: char| it.is_ascii_uppercase()) && is_word(&name[1..]);
    let name = name.to_ascii_lowercase();
    let is_usable = (is_snake || is_one_capitalised)
        && name.starts_with(|it: char| it.is_ascii_lowercase())
        && !KEYWORDS.contains(&name.as_str());
    (is_plain && is_usable).then(|| (field.number(), name))
}
