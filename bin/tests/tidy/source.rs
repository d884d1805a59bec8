//! One source file as the rules see it: its code without comments and string contents, its functions, its test parts.
//!
//! The scanner masks every comment and every literal with blanks of the same number of lines, so that a brace or a word in
//! a string is not taken for code. It knows Rust's strings, raw strings, character literals, lifetimes and nested
//! comments, and nothing else of the language.

/// A function: where it begins, and how many lines it has from `fn` to its last brace.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

pub struct Source {
    pub name: String,
    raw: String,
    code: Vec<char>,
    /// Where in `code` each line ends.
    line_ends: Vec<usize>,
    /// The first and last line of each part that only tests compile.
    test_parts: Vec<(usize, usize)>,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Source {
        let code = mask(text);
        let line_ends = (0..code.len()).filter(|position| code[*position] == '\n').collect();
        let (name, raw, test_parts) = (name.to_owned(), text.to_owned(), Vec::new());
        let mut source = Source { name, raw, code, line_ends, test_parts };
        source.test_parts = source.find_test_parts();
        source
    }

    pub fn line_count(&self) -> usize {
        self.raw.lines().count()
    }

    pub fn opens_with_story(&self) -> bool {
        let first = self.raw.lines().find(|line| !line.starts_with("#!["));
        first.is_some_and(|line| line.starts_with("//! "))
    }

    pub fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.name)
    }

    /// The lines whose code contains `word`, not as a part of a longer word.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        let word: Vec<char> = word.chars().collect();
        let mut lines = Vec::new();
        for start in self.positions_of(&word) {
            let line = self.line_of(start);
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// `file:line: word` for every line whose code contains `word`.
    pub fn places(&self, word: &str) -> Vec<String> {
        self.lines_with(word).into_iter().map(|line| self.at(line, word)).collect()
    }

    /// The same for the whole text, comments included.
    pub fn raw_places(&self, word: &str) -> Vec<String> {
        let lines = self.raw.lines().enumerate().filter(|(_, line)| line.contains(word));
        lines.map(|(position, _)| self.at(position + 1, word)).collect()
    }

    /// Whether only tests compile this line.
    pub fn is_test(&self, line: usize) -> bool {
        let in_test_file = self.name.contains("/tests/") || self.name.ends_with("/tests.rs");
        in_test_file || self.test_parts.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for start in self.positions_of(&['f', 'n', ' ']) {
            let name: String = self.code[start + 3..].iter().take_while(|c| is_word(**c)).collect();
            let Some(open) = self.body_of(start) else { continue };
            // `fn(A) -> B` is a type, not a function.
            if name.is_empty() {
                continue;
            }
            let (line, last) = (self.line_of(start), self.line_of(self.closing_brace(open)));
            functions.push(Function { name, line, lines: last - line + 1 });
        }
        functions
    }

    fn positions_of(&self, word: &[char]) -> Vec<usize> {
        let is_whole = |start: usize| {
            let end = start + word.len();
            let before_is_free = !is_word(word[0]) || start == 0 || !is_word(self.code[start - 1]);
            let after_is_free =
                !is_word(word[word.len() - 1]) || end == self.code.len() || !is_word(self.code[end]);
            before_is_free && after_is_free
        };
        let starts = self.code.windows(word.len()).enumerate().filter(|(_, window)| *window == word);
        starts.map(|(start, _)| start).filter(|start| is_whole(*start)).collect()
    }

    fn line_of(&self, position: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < position)
    }

    /// The brace that opens the item at `start`; `None` if a semicolon ends it first.
    fn body_of(&self, start: usize) -> Option<usize> {
        let mut brackets = 0_i32;
        for (position, c) in self.code.iter().enumerate().skip(start) {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' if brackets == 0 => return Some(position),
                ';' if brackets == 0 => return None,
                _ => {}
            }
        }
        None
    }

    fn closing_brace(&self, open: usize) -> usize {
        let mut depth = 0_i32;
        for (position, c) in self.code.iter().enumerate().skip(open) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return position;
            }
        }
        self.code.len()
    }

    fn find_test_parts(&self) -> Vec<(usize, usize)> {
        let attribute: Vec<char> = "#[cfg(test)]".chars().collect();
        let starts = self.positions_of(&attribute).into_iter();
        starts
            .map(|start| {
                let end =
                    self.body_of(start + attribute.len()).map_or(start, |open| self.closing_brace(open));
                (self.line_of(start), self.line_of(end))
            })
            .collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments and the inside of literals blanked; line ends stay.
fn mask(text: &str) -> Vec<char> {
    let mut code: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < code.len() {
        let end = match (code[at], code.get(at + 1)) {
            ('/', Some('/')) => find(&code, at, |c| c == '\n'),
            ('/', Some('*')) => end_of_comment(&code, at),
            ('"', _) => end_of_string(&code, at),
            ('r', Some('"' | '#')) if at == 0 || !is_word(code[at - 1]) || code[at - 1] == 'b' => {
                end_of_raw_string(&code, at)
            }
            ('\'', _) => end_of_character(&code, at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        let end = end.min(code.len());
        code[at..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
        at = end;
    }
    code
}

fn find(code: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    code[from..].iter().position(|c| wanted(*c)).map_or(code.len(), |offset| from + offset)
}

fn end_of_comment(code: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < code.len() {
        match (code[at], code.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_string(code: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < code.len() && code[at] != '"' {
        at += if code[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// `r"…"`, `r#"…"#`; a raw identifier (`r#type`) is left alone.
fn end_of_raw_string(code: &[char], start: usize) -> usize {
    let hashes = code[start + 1..].iter().take_while(|c| **c == '#').count();
    if code.get(start + 1 + hashes) != Some(&'"') {
        return start;
    }
    let mut at = start + 2 + hashes;
    while at < code.len() {
        let closes =
            code[at] == '"' && code[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        if closes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

/// `'x'`, `'\n'`, `'\u{1}'`; a lifetime is left alone.
fn end_of_character(code: &[char], start: usize) -> usize {
    match (code.get(start + 1), code.get(start + 2)) {
        (Some('\\'), _) => find(code, start + 3, |c| c == '\'') + 1,
        (Some(_), Some('\'')) => start + 3,
        _ => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        mask(text).into_iter().collect()
    }

    #[test]
    fn comments_and_literals_are_blanked_and_line_ends_stay() {
        assert_eq!(masked("a // b {\nc"), "a       \nc");
        assert_eq!(masked("a /* { /* } */ */ b"), "a                 b");
        assert_eq!(masked("f(\"{\\\"}\", '{', '\\'')"), "f(      ,    ,     )");
        assert_eq!(masked("r#\"a\"}\"# b r#type 'a: &'static x"), "         b r#type 'a: &'static x");
        assert_eq!(masked("\"a\nb\" c"), "  \n   c");
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_last_brace() {
        let text = "trait T { fn declared(&self); }\nfn a<const N: usize>(x: [u8; 3]) -> u8\nwhere\n{\n  '}'\n}\nfn b() {}\n";
        let found = Source::new("a.rs", text).functions();
        let seen: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(seen, [("a", 2, 5), ("b", 7, 1)]);
    }

    #[test]
    fn a_module_of_tests_is_a_test_part_and_what_follows_is_not() {
        let source = Source::new("a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n  x\n}\nfn b() {}\n");
        let lines: Vec<bool> = (1..=6).map(|line| source.is_test(line)).collect();
        assert_eq!(lines, [false, true, true, true, true, false]);
    }
}
