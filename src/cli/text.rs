//! Text for a terminal: labelled lines of 80 columns at most, without anything that a terminal obeys.

use std::{
    env,
    io::{self, IsTerminal},
};

/// Columns of a terminal.
const WIDTH: usize = 80;
/// Column in which what a label names begins; a SHA-256 fits behind it.
const INDENT: usize = 15;

/// Whether colors are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// They would be in the way: of a file, of a program, or of a person who set `NO_COLOR` (no-color.org).
    Plain,
    /// They are.
    Color,
}

impl Paint {
    /// As a terminal, or what is there in its place, can show them.
    pub fn of_stdout() -> Self {
        let is_wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && env::var_os("TERM").is_some_and(|terminal| terminal != "dumb");
        if is_wanted && io::stdout().is_terminal() { Self::Color } else { Self::Plain }
    }

    /// A word of a color, an attribute of ECMA-48's SGR, with spaces behind it up to a width.
    pub fn word(self, word: &str, width: usize, color: &str) -> String {
        let gap = " ".repeat(width.saturating_sub(word.chars().count()));
        match self {
            Self::Plain => format!("{word}{gap}"),
            Self::Color => format!("\x1b[{color}m{word}\x1b[0m{gap}"),
        }
    }
}

/// A text as it grows.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// A line from the margin on, or several where it is long.
    pub fn line(&mut self, line: &str) {
        self.wrapped(0, line);
    }

    /// An empty line, unless it would be the first.
    pub fn gap(&mut self) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
    }

    /// What a label names, one line or more for each of the parts.
    pub fn item<'a>(&mut self, label: &str, parts: impl IntoIterator<Item = &'a str>) {
        self.row(&format!("  {label:<width$}", width = INDENT - 2), INDENT, parts);
    }

    /// The same behind a head that takes so many columns on the screen.
    pub fn row<'a>(&mut self, head: &str, columns: usize, parts: impl IntoIterator<Item = &'a str>) {
        self.0.push_str(head);
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        self.wrapped(columns, parts.next().unwrap_or("-"));
        for part in parts {
            self.0.push_str(&" ".repeat(columns));
            self.wrapped(columns, part);
        }
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }

    /// Goes on at a column, to the end of the line, and on further lines where one is not enough.
    fn wrapped(&mut self, column: usize, text: &str) {
        let room = WIDTH - column;
        let mut at = 0;
        for word in clean(text).split(' ').filter(|word| !word.is_empty()) {
            let mut rest: Vec<char> = word.chars().collect();
            if at > 0 && at + 1 + rest.len() <= room {
                self.0.push(' ');
                at += 1;
            } else if at > 0 {
                self.turn(column);
                at = 0;
            }
            // A path may be longer than any line.
            while rest.len() > room {
                let folder = rest[..room].iter().rposition(|&c| c == '/').filter(|&slash| slash > 0);
                self.0.extend(rest.drain(..folder.map_or(room, |slash| slash + 1)));
                self.turn(column);
            }
            at += rest.len();
            self.0.extend(rest);
        }
        self.0.push('\n');
    }

    fn turn(&mut self, column: usize) {
        self.0.push('\n');
        self.0.push_str(&" ".repeat(column));
    }
}

/// A text without control characters: they could rewrite what stands on the screen.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_kept_whole_where_they_can_be() {
        let mut text = Text::default();
        text.gap();
        text.line("a title");
        text.gap();
        text.item("label", ["first", "", &"word ".repeat(20)]);
        text.item("empty", []);
        let words = "word word word word word word word word word word word word word";
        let expected = format!(
            "a title\n\n  label        first\n{0}{words}\n{0}{1}\n  empty        -\n",
            " ".repeat(15),
            ["word"; 7].join(" ")
        );
        assert_eq!(text.into_string(), expected);
    }

    #[test]
    fn a_word_takes_its_width_whether_it_is_in_color_or_not() {
        assert_eq!(Paint::Plain.word("ok", 4, "32"), "ok  ");
        assert_eq!(Paint::Color.word("ok", 4, "32"), "\x1b[32mok\x1b[0m  ");
    }

    #[test]
    fn a_long_path_is_broken_behind_a_folder() {
        let mut text = Text::default();
        text.line(&format!("/{}/{}", "a".repeat(60), "b".repeat(60)));
        assert_eq!(text.into_string(), format!("/{}/\n{}\n", "a".repeat(60), "b".repeat(60)));
    }

    #[test]
    fn a_sha_256_stays_on_its_line() {
        let mut text = Text::default();
        text.item("file", [&"0".repeat(64)[..]]);
        assert_eq!(text.into_string().lines().count(), 1);
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_nothing_is_lost(words in r"([a-z/%]{0,200} ?){0,8}") {
            let mut text = Text::default();
            text.item("label", [words.as_str()]);
            text.line(&words);
            let text = text.into_string();
            prop_assert!(text.lines().all(|line| line.chars().count() <= 80));
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            let said = if words.trim().is_empty() { "-".to_owned() } else { squeezed(&words) };
            prop_assert_eq!(squeezed(&text), format!("label{}{}", said, squeezed(&words)));
        }

        #[test]
        fn a_terminal_is_told_nothing_but_text(dirty in r"[\x00-\x1f\x7f-\u{9f}a]{0,20}") {
            let mut text = Text::default();
            text.line(&dirty);
            prop_assert!(text.into_string().trim_end_matches('\n').chars().all(|c| !c.is_control()));
        }
    }
}
