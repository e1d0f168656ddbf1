//! `apt-huddle doctor`: what is wrong on this machine, and what to do about it.
//!
//! [`gather`](fn@gather::gather) finds the facts, [`judge`](fn@judge::judge) says what they mean.

mod facts;
mod gather;
mod judge;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use crate::config::{Config, ConfigError};

use super::{
    Outcome,
    text::{Paint, Text},
};

use judge::{Finding, Grade};

/// What `--json` prints.
#[derive(Serialize)]
struct Told<'a> {
    /// The worst of all grades.
    grade: Grade,
    findings: &'a [Finding],
}

/// Looks for what is wrong. A configuration that cannot be used is one of the things that may be.
pub fn run(config: Result<&Config, &ConfigError>, file: Option<&Path>, json: bool, paint: Paint) -> Outcome {
    let findings = judge::judge(&gather::gather(config, file));
    let grade = findings.iter().map(|finding| finding.grade).max().unwrap_or(Grade::Ok);
    let text = if json {
        serde_json::to_string_pretty(&Told { grade, findings: &findings }).expect("texts are JSON") + "\n"
    } else {
        render(&findings, paint)
    };
    Outcome { text, good: grade < Grade::Bad }
}

/// Columns before what is said of a check.
const INDENT: usize = 21;

fn render(findings: &[Finding], paint: Paint) -> String {
    let mut text = Text::default();
    for finding in findings {
        let (word, color) = match finding.grade {
            Grade::Ok => ("ok", "32"),
            Grade::Warn => ("warn", "33"),
            Grade::Bad => ("BAD", "1;31"),
        };
        let head = format!("{}  {:<width$}", paint.word(word, 4, color), finding.check, width = INDENT - 6);
        let advice = finding.advice.as_ref().map(|advice| format!("-> {advice}"));
        text.row(&head, INDENT, std::iter::once(finding.says.as_str()).chain(advice.as_deref()));
    }
    text.into_string()
}
