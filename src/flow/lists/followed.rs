//! Which of apt's lists are due: those that changed, and, ever more seldom, those that could not be judged.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{EVERY, Listed, Suite};

/// The longest pause before a suite that could not be judged is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// What became of the suites that are there.
#[derive(Default)]
pub(super) struct Followed {
    suites: HashMap<String, Progress>,
}

struct Progress {
    files: Vec<Listed>,
    /// When to try again, and how long that was put off; none once it was judged.
    again: Option<(Instant, Duration)>,
}

impl Followed {
    /// Of the suites that are there now, those to be learned. What is not there any more is forgotten.
    pub(super) fn due(&mut self, found: Vec<Suite>, now: Instant) -> Vec<Suite> {
        self.suites.retain(|file, known| found.iter().any(|suite| suite.file == *file && suite.files == known.files));
        let is_due = |suite: &Suite| match self.suites.get(&suite.file) {
            None => true,
            Some(known) => known.again.is_some_and(|(at, _)| at <= now),
        };
        found.into_iter().filter(is_due).collect()
    }

    /// A suite was judged, or could not be.
    pub(super) fn note(&mut self, suite: Suite, is_judged: bool, now: Instant) {
        let before = self.suites.get(&suite.file).and_then(|known| known.again);
        let pause = before.map_or(EVERY, |(_, pause)| (pause * 2).min(MAX_PAUSE));
        let again = (!is_judged).then(|| (now + pause, pause));
        self.suites.insert(suite.file, Progress { files: suite.files, again });
    }
}

#[cfg(test)]
mod tests {
    use crate::archive::Location;

    use super::*;

    fn suite(files: &[&str]) -> Suite {
        let release = Location::parse("http://m.example.org/dists/sid/InRelease").unwrap();
        let data = std::fs::metadata(".").unwrap();
        let listed = |name: &&str| Listed { name: (*name).to_owned(), stamp: super::super::Stamp::of(&data) };
        Suite { release, file: files[0].to_owned(), files: files.iter().map(listed).collect() }
    }

    fn due(followed: &mut Followed, suites: &[&[&str]], now: Instant) -> Vec<Suite> {
        followed.due(suites.iter().map(|files| suite(files)).collect(), now)
    }

    #[test]
    fn a_suite_is_due_once_and_again_when_its_files_are_others_or_come_back() {
        let (mut followed, now) = (Followed::default(), crate::flow::now());
        for (files, is_due) in [
            (&["a"][..], true),
            (&["a"], false),
            (&["a", "a2"], true),
            (&["a", "a2"], false),
            (&["b"], true),
            (&["a", "a2"], true),
        ] {
            let found = due(&mut followed, &[files], now);
            assert_eq!(found.len(), usize::from(is_due), "{files:?}");
            found.into_iter().for_each(|suite| followed.note(suite, true, now));
        }
    }

    #[test]
    fn one_that_cannot_be_judged_is_tried_ever_more_seldom_until_it_changes() {
        let (mut followed, start) = (Followed::default(), crate::flow::now());
        let mut tried = Vec::new();
        for second in (0..3600).step_by(5) {
            let now = start + Duration::from_secs(second);
            for suite in due(&mut followed, &[&["a"]], now) {
                tried.push(second);
                followed.note(suite, false, now);
            }
        }
        assert_eq!(tried, [0, 5, 15, 35, 75, 155, 315, 635, 1235, 1835, 2435, 3035]);
        let now = start + Duration::from_secs(3600);
        for suite in due(&mut followed, &[&["a", "new"]], now) {
            followed.note(suite, false, now);
        }
        assert_eq!(due(&mut followed, &[&["a", "new"]], now + EVERY).len(), 1);
    }
}
