//! Rust text as the rules read it: code without comments and literals, the literals by themselves, and what is for tests only.

use std::collections::BTreeSet;

/// A string literal and the line it begins on, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) line: usize,
    pub(super) text: String,
}

/// A function: its name and its first and last line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// One file of Rust.
#[derive(Debug)]
pub(super) struct Source {
    /// The code line by line, blanks in place of comments and of the inside of literals.
    pub(super) code: Vec<String>,
    /// Its string literals.
    pub(super) literals: Vec<Literal>,
    /// For each line, whether it is compiled for tests only.
    pub(super) test: Vec<bool>,
}

impl Source {
    pub(super) fn read(text: &str) -> Self {
        let mut masking = Masking {
            bytes: text.as_bytes(),
            at: 0,
            line: 1,
            code: Vec::with_capacity(text.len()),
            literals: Vec::new(),
        };
        masking.run();
        let masked = String::from_utf8_lossy(&masking.code).into_owned();
        let test = test_lines(&masked);
        Self { code: masked.split('\n').map(str::to_owned).collect(), literals: masking.literals, test }
    }

    /// Lines of code that are not for tests only, from 1.
    pub(super) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().filter(|(at, _)| !self.for_tests(at + 1)).map(|(at, line)| (at + 1, line.as_str()))
    }

    /// Literals that are not for tests only.
    pub(super) fn shipped_literals(&self) -> impl Iterator<Item = &Literal> {
        self.literals.iter().filter(|l| !self.for_tests(l.line))
    }

    fn for_tests(&self, line: usize) -> bool {
        self.test.get(line - 1).copied().unwrap_or(false)
    }

    /// Every function with a body.
    pub(super) fn functions(&self) -> Vec<Function> {
        let whole = self.code.join("\n");
        let mut found = Vec::new();
        for (at, _) in whole.match_indices("fn ") {
            let before = whole[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
                continue;
            }
            let rest = &whole[at + 3..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.is_empty() {
                continue;
            }
            if let Some(end) = item_end(&whole, at + 3).filter(|end| whole.as_bytes().get(*end) == Some(&b'}')) {
                found.push(Function { name, first: line_of(&whole, at), last: line_of(&whole, end) });
            }
        }
        found
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the item that starts here ends: at its closing brace, or at its semicolon if that comes first.
fn item_end(code: &str, from: usize) -> Option<usize> {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' => braces += 1,
            b'}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 && others == 0 {
                    return Some(at);
                }
            }
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.checked_sub(1)?,
            b';' if braces == 0 && others == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

const FOR_TESTS: &str = "#[cfg(test)]";

fn test_lines(code: &str) -> Vec<bool> {
    let mut test = vec![false; code.split('\n').count()];
    for (at, _) in code.match_indices(FOR_TESTS) {
        let end = item_end(code, at + FOR_TESTS.len()).unwrap_or(code.len() - 1);
        let (first, last) = (line_of(code, at), line_of(code, end));
        test[first - 1..last].iter_mut().for_each(|t| *t = true);
    }
    test
}

/// The files that other files declare as modules for tests only, and everything below those.
pub(super) fn test_files<'a>(files: impl Iterator<Item = (&'a str, &'a Source)> + Clone) -> BTreeSet<String> {
    let mut roots = Vec::new();
    for (path, source) in files.clone() {
        let declares = |(line, test): (&String, &bool)| {
            let name = line.trim().rsplit("mod ").next().filter(|_| line.contains("mod "))?.strip_suffix(';')?;
            test.then(|| name.trim().to_owned())
        };
        let names = source.code.iter().zip(&source.test).filter_map(declares);
        roots.extend(names.map(|name| format!("{}/{name}", module_folder(path))));
    }
    let below =
        |path: &str| roots.iter().any(|root| path == format!("{root}.rs") || path.starts_with(&format!("{root}/")));
    files.map(|(path, _)| path).filter(|path| below(path)).map(str::to_owned).collect()
}

/// The folder in which a file's submodules lie.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    }
}

/// Reads a text once, keeping code and setting comments and literals aside.
struct Masking<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    code: Vec<u8>,
    literals: Vec<Literal>,
}

impl Masking<'_> {
    fn run(&mut self) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'/')) => self.skip_while(|b| b != b'\n'),
                (b'/', Some(b'*')) => self.block_comment(),
                (b'"', _) => self.string(),
                (b'r', Some(b'"' | b'#')) if !self.inside_word() && self.raw_hashes().is_some() => self.raw_string(),
                (b'\'', _) => self.quote(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn inside_word(&self) -> bool {
        // A byte string's b may stand before the r.
        let before = |back: usize| self.at.checked_sub(back).map(|at| self.bytes[at]);
        let word = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        if before(1) == Some(b'b') { word(before(2)) } else { word(before(1)) }
    }

    fn keep(&mut self) {
        self.line += usize::from(self.bytes[self.at] == b'\n');
        self.code.push(self.bytes[self.at]);
        self.at += 1;
    }

    fn blank(&mut self) {
        let newline = self.bytes[self.at] == b'\n';
        self.line += usize::from(newline);
        self.code.push(if newline { b'\n' } else { b' ' });
        self.at += 1;
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.blank();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => depth += 1,
                (Some(b'*'), Some(b'/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.blank();
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let (line, start) = (self.line, self.at + 1);
        self.keep();
        while let Some(byte) = self.peek(0).filter(|b| *b != b'"') {
            self.blank();
            if byte == b'\\' && self.peek(0).is_some() {
                self.blank();
            }
        }
        self.end_literal(line, start, 1);
        // A line break inside is as good as a blank; without this it would be the first letter of the next word.
        if let Some(literal) = self.literals.last_mut() {
            literal.text = literal.text.replace("\\n", "  ");
        }
    }

    /// How many hashes open the raw string that starts here; none if none does.
    fn raw_hashes(&self) -> Option<usize> {
        let hashes = self.bytes[self.at + 1..].iter().take_while(|b| **b == b'#').count();
        (self.peek(1 + hashes) == Some(b'"')).then_some(hashes)
    }

    fn raw_string(&mut self) {
        let hashes = self.raw_hashes().unwrap_or(0);
        let line = self.line;
        (0..hashes + 2).for_each(|_| self.keep());
        let start = self.at;
        let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
        while self.at < self.bytes.len() && !self.bytes[self.at..].starts_with(&close) {
            self.blank();
        }
        self.end_literal(line, start, close.len());
    }

    fn end_literal(&mut self, line: usize, start: usize, close: usize) {
        let text = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        self.literals.push(Literal { line, text });
        for _ in 0..close.min(self.bytes.len() - self.at) {
            self.keep();
        }
    }

    /// A character literal, or the mark of a lifetime.
    fn quote(&mut self) {
        let character = match (self.peek(1), self.peek(2)) {
            (Some(b'\\'), _) => true,
            (Some(first), Some(b'\'')) => first != b'\'',
            (Some(first), _) => !first.is_ascii(),
            _ => false,
        };
        self.keep();
        if !character {
            return;
        }
        if self.peek(0) == Some(b'\\') {
            self.blank();
            self.blank();
        }
        self.skip_while(|b| b != b'\'' && b != b'\n');
        if self.peek(0) == Some(b'\'') {
            self.keep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let source =
            Source::read("let a = \"x // y\"; // c\nlet b = r#\"q\"q\"#; /* f64 /* */ */ let c = '\"'; fn d<'a>() {}");
        assert_eq!(source.code[0].trim_end(), "let a = \"      \";");
        assert!(source.code[1].contains("let c") && !source.code[1].contains("f64"), "{}", source.code[1]);
        let texts: Vec<&str> = source.literals.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(texts, ["x // y", "q\"q"]);
        assert_eq!(source.functions().len(), 1);
    }

    #[test]
    fn what_is_for_tests_only_is_known_by_line_and_by_file() {
        let source = Source::read("fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { x.unwrap() }\n}\nfn c() {}\n");
        let lines: Vec<usize> = source.shipped().filter(|(_, l)| l.contains("fn ")).map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 6]);
        let root = Source::read("#[cfg(test)]\nmod scenes;\nmod api;\n");
        let (scenes, below, api) = (Source::read(""), Source::read(""), Source::read(""));
        let files = [
            ("s/src/lib.rs", &root),
            ("s/src/scenes.rs", &scenes),
            ("s/src/scenes/city.rs", &below),
            ("s/src/api.rs", &api),
        ];
        let tests = test_files(files.into_iter());
        assert_eq!(tests.into_iter().collect::<Vec<_>>(), ["s/src/scenes.rs", "s/src/scenes/city.rs"]);
    }
}
