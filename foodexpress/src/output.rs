//! Everything a command prints: lines for people on a terminal, one JSON object a line with `--json`.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

/// Where a command's results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Output {
    /// A line for people; nothing with `--json`.
    pub(crate) fn say(self, text: impl AsRef<str>) {
        if !self.json {
            line(text.as_ref());
        }
    }

    /// A result: the text for people, the value for programs.
    pub(crate) fn row(self, text: impl AsRef<str>, value: &impl Serialize) {
        if self.json {
            line(&serde_json::to_string(value).expect("plain data becomes JSON"));
        } else {
            line(text.as_ref());
        }
    }

    /// The last line of a command: always JSON, so that a program finds it in either mode.
    #[expect(clippy::unused_self, reason = "every line a command prints goes through its output")]
    pub(crate) fn result(self, value: &Value) {
        line(&value.to_string());
    }

    /// Marks a word as good or bad, in colour only on a terminal.
    pub(crate) fn mark(self, good: bool, word: &str) -> String {
        if self.json || !std::io::stdout().is_terminal() {
            return word.to_owned();
        }
        let colour = if good { "32" } else { "31" };
        format!("\x1b[{colour}m{word}\x1b[0m")
    }
}

/// A closed pipe ends the output, not the program: `head` is a fine reader.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// The table that people read.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    rows.iter().for_each(|row| {
        table.add_row(row);
    });
    table.to_string()
}
