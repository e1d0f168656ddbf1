//! `apt-huddle config`: what holds, as a configuration file that says where each value is from.

use std::path::PathBuf;

use crate::config::{Origin, Setting};

use super::text::clean;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// What is to be done with a configuration.
#[derive(Debug, clap::Subcommand)]
pub enum Task {
    /// Say whether a configuration can be used, or what is wrong with it.
    Check {
        /// The file; without one, the configuration of the daemon.
        file: Option<PathBuf>,
    },
}

/// Renders settings as TOML. What was said somewhere has a remark that says where.
pub fn render(settings: &[Setting]) -> String {
    let (mut text, mut section) = (String::new(), "");
    for setting in settings {
        if setting.section != section {
            section = setting.section;
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
        }
        let line = clean(&format!("{} = {}", setting.key, setting.value));
        let remark = match &setting.origin {
            Origin::Default => String::new(),
            origin => clean(&format!("# {origin}")),
        };
        let fits = line.chars().count() + 3 + remark.chars().count() <= WIDTH;
        text.push_str(&match (remark.is_empty(), fits) {
            (true, _) => folded(&line),
            (false, true) => format!("{line}   {remark}\n"),
            (false, false) => format!("{remark}\n{}", folded(&line)),
        });
    }
    text
}

/// A list that is too long for a line has one for each of its elements.
fn folded(line: &str) -> String {
    let list = line.split_once(" = [").and_then(|(key, list)| Some((key, list.strip_suffix(']')?)));
    match list.filter(|_| line.chars().count() > WIDTH) {
        Some((key, list)) => format!("{key} = [\n    {},\n]\n", list.replace("\", \"", "\",\n    \"")),
        None => format!("{line}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_printed_is_a_configuration_that_fits_a_terminal() {
        let variables = [("APT_HUDDLE_PEER_SHARE", "off"), ("APT_HUDDLE_PRIVACY_HOSTS", "a.example.org")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let text = render(&Setting::all(None, variables).unwrap());
        assert!(text.contains("share = \"off\"   # APT_HUDDLE_PEER_SHARE\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let read: Config = toml::from_str(&text).unwrap();
        assert_eq!(read.peer.share, crate::config::Share::Off);
        assert_eq!(read.dht.mainline.len(), 4);
    }
}
