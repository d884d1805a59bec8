//! One line of the file: nothing, or a key and its value.
//!
//! The grammar of a line is rust-ini's, without quotes and escapes so that a value is what it looks like. Lines are
//! given to it one by one: handed a whole file it lets a key without `=` run on into the next line, and
//! it does not tell the line of a key, which every message here needs.

use ini::{Ini, ParseOption};

/// A `key=value` line. The key and the value are trimmed; a comment behind the value is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Reads one line, without its line end. `None`: blank or a comment. The error says what to write instead.
pub(crate) fn parse_line(line: &str) -> Result<Option<Assignment>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(None);
    }
    if line.starts_with('[') {
        return Err(format!("sections such as {line:?} are not used; remove the line"));
    }
    let option = ParseOption { enabled_escape: false, enabled_quote: false, ..ParseOption::default() };
    let no_assignment = || format!("{line:?} is no setting; write key=value, or # before a comment");
    let ini = Ini::load_from_str_opt(line, option).map_err(|_| no_assignment())?;
    let (key, value) = ini.general_section().iter().next().ok_or_else(no_assignment)?;
    Ok(Some(Assignment { key: key.trim().to_owned(), value: without_comment(value).to_owned() }))
}

/// Cuts a comment that stands behind the value: a `#` after a blank. A `#` inside a word belongs to the value.
fn without_comment(value: &str) -> &str {
    if value.starts_with('#') {
        return "";
    }
    let comment = value.match_indices('#').find(|(at, _)| value[..*at].ends_with([' ', '\t']));
    comment.map_or(value, |(at, _)| &value[..at]).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(key: &str, value: &str) -> Option<Assignment> {
        Some(Assignment { key: key.to_owned(), value: value.to_owned() })
    }

    #[test]
    fn a_line_is_blank_a_comment_or_an_assignment() {
        for line in ["", "   ", "# a comment", "   # indented", "; another kind"] {
            assert_eq!(parse_line(line), Ok(None), "{line:?}");
        }
        assert_eq!(parse_line("node0ip=127.0.0.1"), Ok(assignment("node0ip", "127.0.0.1")));
        assert_eq!(parse_line("  node0ip =  ::1  "), Ok(assignment("node0ip", "::1")));
        assert_eq!(parse_line("node0ip=[::1]\r"), Ok(assignment("node0ip", "[::1]")));
        assert_eq!(parse_line("data_dir="), Ok(assignment("data_dir", "")));
    }

    #[test]
    fn quotes_and_backslashes_are_ordinary_characters() {
        assert_eq!(parse_line(r#"data_dir="a\b""#), Ok(assignment("data_dir", r#""a\b""#)));
    }

    #[test]
    fn a_comment_behind_a_value_needs_a_blank_before_it() {
        assert_eq!(parse_line("heartbeat_ms=25 # fast"), Ok(assignment("heartbeat_ms", "25")));
        assert_eq!(parse_line("data_dir=a#b"), Ok(assignment("data_dir", "a#b")));
        assert_eq!(parse_line("data_dir=# nothing"), Ok(assignment("data_dir", "")));
    }

    #[test]
    fn a_line_without_a_value_and_a_section_are_refused() {
        assert!(parse_line("heartbeat_ms").is_err_and(|what| what.contains("key=value")));
        assert!(parse_line("[raft]").is_err_and(|what| what.contains("sections")));
        assert!(parse_line("=5").is_err());
    }
}
