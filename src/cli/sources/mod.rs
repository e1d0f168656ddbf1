//! `apt-huddle sources`: which way apt goes to each of its sources, and their addresses led through the daemon and back.

mod edit;
mod fate;
mod files;
mod spots;

use std::{collections::HashMap, fmt::Write as _, io, net::SocketAddr, path::Path};

use similar::TextDiff;

use crate::{
    archive::{Location, Privacy, Proxies, is_global, password_hosts},
    config::Config,
};

use super::{
    Outcome,
    apt::{self, By, Route, Settings},
    text::Text,
};

use edit::Use;
use fate::{Fate, Ground, Left};
use files::Listed;

/// What is to be done with apt's sources.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Lead every address that can be through the daemon, and keep each file as it was beside it.
    #[arg(long, conflicts_with = "restore")]
    rewrite: bool,
    /// Bring every file back that was rewritten.
    #[arg(long)]
    restore: bool,
    /// Change nothing; print what would be changed.
    #[arg(long)]
    dry_run: bool,
}

/// Lists, rewrites or restores apt's sources.
pub fn run(config: &Config, args: &Args) -> Outcome {
    let apt_dir = &config.archive.apt_dir;
    let listed = match files::listed(apt_dir) {
        Ok(listed) => listed,
        Err(error) => return bad(format!("{}: {error}\n", apt_dir.join("sources.list.d").display())),
    };
    // Without apt's programs there is nobody to go another way.
    let settings = Settings::load().unwrap_or_default();
    let ground = ground(config, &settings, &listed);
    let doer = Doer { config, settings, ground, is_dry: args.dry_run };
    match (args.rewrite, args.restore) {
        (true, _) => doer.rewrite(&listed),
        (_, true) => doer.restore(&listed),
        _ if args.dry_run => bad("--dry-run goes with --rewrite or --restore\n".to_owned()),
        _ => doer.tell(&listed),
    }
}

fn bad(text: String) -> Outcome {
    Outcome { text, good: false }
}

/// One source as apt and the daemon see it.
#[derive(Debug)]
pub struct Seen {
    /// The file that it stands in.
    pub file: String,
    /// Its line, counted from 1.
    pub line: usize,
    /// Where it leads in the end, or its address where that is nowhere.
    pub shown: String,
    /// Where apt sends its requests; `None` when it sends none.
    pub way: Option<(Route, By)>,
    /// Whether the daemon may share what comes from there, or why not; `None` when it sees nothing of it.
    pub sharing: Option<Result<(), &'static str>>,
    /// Why its address could not be rewritten.
    pub left: Option<String>,
}

/// Every source, and every file that is not understood with the reason. For the doctor.
pub fn seen(config: &Config, settings: &Settings) -> (Vec<Seen>, Vec<String>) {
    let listed = files::listed(&config.archive.apt_dir).unwrap_or_default();
    let ground = ground(config, settings, &listed);
    let doer = Doer { config, settings: settings.clone(), ground, is_dry: true };
    let mut asked = HashMap::new();
    let (mut seen, mut unclear) = (Vec::new(), Vec::new());
    for file in &listed {
        match doer.uses(file) {
            Ok(uses) => seen.extend(uses.into_iter().map(|found| doer.see(file, found, &mut asked))),
            Err(why) => unclear.push(format!("{}: {why}", file.path.display())),
        }
    }
    (seen, unclear)
}

/// What the programs that apt asks for a proxy said, by program and host: apt asks once for each.
type Asked = HashMap<(String, String), Result<Option<String>, String>>;

struct Doer<'a> {
    config: &'a Config,
    settings: Settings,
    ground: Ground,
    is_dry: bool,
}

impl Doer<'_> {
    fn uses(&self, file: &Listed) -> Result<Vec<Use>, String> {
        let text = file.text.as_ref().map_err(String::clone)?;
        edit::uses(&name_of(&file.path), file.style, text, &self.ground)
    }

    fn tell(&self, listed: &[Listed]) -> Outcome {
        let (mut text, mut good) = (Text::default(), true);
        let mut asked = HashMap::new();
        for file in listed {
            let uses = self.uses(file);
            if uses.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            text.gap();
            text.line(&file.path.display().to_string());
            match uses {
                Ok(uses) => uses.into_iter().for_each(|found| {
                    let seen = self.see(file, found, &mut asked);
                    let (way, sharing) = (seen.way_in_words(), seen.sharing_in_words());
                    let parts = [seen.shown.as_str(), &way, &sharing];
                    text.item(&format!("line {}", seen.line), parts);
                }),
                Err(why) => {
                    good = false;
                    text.item("unclear", [why.as_str()]);
                }
            }
        }
        let text = text.into_string();
        Outcome { text: if text.is_empty() { "apt has no sources.\n".to_owned() } else { text }, good }
    }

    fn see(&self, file: &Listed, found: Use, asked: &mut Asked) -> Seen {
        let seen = Seen {
            file: file.path.display().to_string(),
            line: found.line,
            shown: apt::without_password(&found.uri),
            way: None,
            sharing: None,
            left: None,
        };
        match found.fate {
            Fate::Here(origin) => Seen {
                shown: origin.to_string(),
                way: Some((Route::Daemon, By::Address)),
                sharing: Some(sharing(&self.config.privacy.clone().into(), &origin)),
                ..seen
            },
            Fate::Free(origin) => self.see_asked(seen, &origin, None, asked),
            Fate::Left(left) => match Location::parse(&found.uri) {
                Ok(origin) if left != Left::Other => self.see_asked(seen, &origin, Some(left.to_string()), asked),
                _ => Seen { left: Some(left.to_string()), ..seen },
            },
        }
    }

    /// A source whose address does not say itself which way it is asked.
    fn see_asked(&self, seen: Seen, origin: &Location, left: Option<String>, asked: &mut Asked) -> Seen {
        let (route, by) = self.route(origin, asked);
        // Of a tunnel nothing is seen.
        let is_seen = route == Route::Daemon && !origin.is_https();
        let sharing = is_seen.then(|| sharing(&self.config.privacy.clone().into(), origin));
        Seen { shown: origin.to_string(), way: Some((route, by)), sharing, left, ..seen }
    }

    fn route(&self, at: &Location, asked: &mut Asked) -> (Route, By) {
        let mut detect = |program: &str, at: &Location| {
            let question = (program.to_owned(), at.host().to_owned());
            let answer = asked.entry(question).or_insert_with(|| apt::detect(program, at).map_err(|e| e.to_string()));
            answer.clone().map_err(io::Error::other)
        };
        self.settings.route(at, &self.ground.proxies, &mut detect)
    }

    fn rewrite(&self, listed: &[Listed]) -> Outcome {
        let daemon = match self.daemon() {
            Ok(daemon) => daemon,
            Err(why) => return bad(why),
        };
        let mut told = Told::default();
        for file in listed {
            let name = file.path.display();
            let Ok(text) = &file.text else {
                told.bad(format!("{name}: left as it is: {}", file.text.as_ref().err().map_or("", String::as_str)));
                continue;
            };
            let after = edit::rewritten(&name_of(&file.path), file.style, text, &self.ground, daemon);
            let after = match after {
                Ok(after) => after,
                Err(why) => {
                    told.bad(format!("{name}: left as it is, for it is not understood: {why}"));
                    continue;
                }
            };
            for Use { line, fate, .. } in self.uses(file).unwrap_or_default() {
                if let Fate::Left(why) = fate {
                    told.line(format!("{name}:{line}: left as it is: {why}"));
                }
            }
            if after == *text {
                continue;
            }
            if self.is_dry {
                told.change(&file.path, text, &after);
                continue;
            }
            let before = edit::led_back(file.style, text, &self.ground.proxies);
            match files::replace(&file.path, &after, &before) {
                Ok(()) => told.changed(format!("{name}: rewritten; as it was: {}", files::saved(&file.path).display())),
                Err(why) => told.bad(format!("{name}: left as it is: {why}")),
            }
        }
        if told.changed > 0 && !self.is_dry {
            told.line("Next: apt-get update. The other way: apt-huddle sources --restore".to_owned());
            if !super::is_healthy(&[daemon]) {
                told.line(format!("Nobody answers at {daemon} now: apt needs the daemon to run."));
            }
        }
        told.outcome("Nothing to rewrite.")
    }

    /// The address that is written into sources. The error says what keeps apt from asking there.
    fn daemon(&self) -> Result<SocketAddr, String> {
        let listen = &self.config.proxy.listen;
        let reachable: Vec<_> = listen.iter().map(|at| super::client::reachable(*at)).collect();
        let found = reachable.iter().find(|at| at.ip().is_loopback()).or(reachable.first());
        let daemon = *found.filter(|at| at.port() != 0).ok_or("[proxy] listen names no port that would stay\n")?;
        let at = Location::parse(&format!("http://{daemon}/")).map_err(|error| format!("{error}\n"))?;
        match self.route(&at, &mut HashMap::new()).0 {
            Route::Proxy(proxy) => Err(format!(
                "apt would ask the proxy {proxy} for {daemon}, which does not know it. Put this line into a file in \
                 /etc/apt/apt.conf.d first:\nAcquire::http::Proxy::{} \"DIRECT\";\n",
                at.host()
            )),
            Route::Fails { program, why } => {
                Err(format!("apt asks {program} for a proxy, and that fails: {why}\nSee apt-huddle doctor.\n"))
            }
            Route::Daemon | Route::Direct => Ok(daemon),
        }
    }

    fn restore(&self, listed: &[Listed]) -> Outcome {
        let mut told = Told::default();
        for file in listed {
            let (path, name) = (&file.path, file.path.display());
            let text = match &file.text {
                Ok(text) => text,
                Err(why) => {
                    told.bad(format!("{name}: left as it is: {why}"));
                    continue;
                }
            };
            let proxies = &self.ground.proxies;
            let by_origins = |text: &str| edit::by_origins(file.style, text, proxies);
            let kept = files::before(path);
            let is_same = kept.as_deref().is_some_and(|kept| by_origins(kept) == by_origins(text));
            let after = match &kept {
                Some(kept) if is_same => kept.clone(),
                _ => edit::led_back(file.style, text, proxies),
            };
            if self.is_dry {
                if after != *text {
                    told.change(path, text, &after);
                }
                continue;
            }
            let saved = files::saved(path);
            let done = match (is_same, after == *text) {
                (true, _) => files::bring_back(path).map(|()| format!("{name}: as it was")),
                (false, false) => files::correct(path, &after).map(|()| match kept {
                    Some(_) => format!(
                        "{name}: changed since it was rewritten; its addresses are led back, the rest stays. As it was \
                         before: {}",
                        saved.display()
                    ),
                    None => format!("{name}: its addresses are led back"),
                }),
                (false, true) if kept.is_some() => {
                    told.line(format!("{name}: nothing in it leads through apt-huddle; {} is left", saved.display()));
                    continue;
                }
                (false, true) => continue,
            };
            match done {
                Ok(line) => told.changed(line),
                Err(why) => told.bad(format!("{name}: left as it is: {why}")),
            }
        }
        for orphan in files::orphans(&self.config.archive.apt_dir) {
            told.line(format!("{}: left, for the file that it was kept of is gone", orphan.display()));
        }
        if told.changed > 0 && !self.is_dry {
            told.line("Next: apt-get update".to_owned());
        }
        told.outcome("Nothing to restore.")
    }
}

/// What was done so far, line by line.
#[derive(Default)]
struct Told {
    text: String,
    changed: usize,
    is_bad: bool,
}

impl Told {
    fn line(&mut self, line: String) {
        self.text.push_str(&super::text::clean(&line));
        self.text.push('\n');
    }

    fn changed(&mut self, line: String) {
        self.changed += 1;
        self.line(line);
    }

    fn bad(&mut self, line: String) {
        self.is_bad = true;
        self.line(line);
    }

    /// A change that is not made, as a unified diff.
    fn change(&mut self, path: &Path, before: &str, after: &str) {
        let name = path.display().to_string();
        let diff = TextDiff::from_lines(before, after);
        let _infallible = write!(self.text, "{}", diff.unified_diff().context_radius(3).header(&name, &name));
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.changed += 1;
    }

    fn outcome(mut self, nothing: &str) -> Outcome {
        if self.changed == 0 && !self.is_bad {
            self.line(nothing.to_owned());
        }
        Outcome { text: self.text, good: !self.is_bad }
    }
}

impl Seen {
    fn way_in_words(&self) -> String {
        match &self.way {
            None => format!("not through apt-huddle: {}", self.left.as_deref().unwrap_or_default()),
            Some((Route::Daemon, By::Address)) => "through apt-huddle, by its address".to_owned(),
            Some((Route::Daemon, _)) if self.shown.starts_with("https:") => {
                "in a tunnel through apt-huddle: nothing is seen, kept or shared".to_owned()
            }
            Some((Route::Daemon, by)) => format!("through apt-huddle, by {}", by.in_words()),
            Some((Route::Fails { program, why }, _)) => format!("nowhere: apt asks {program}, and that fails: {why}"),
            Some((Route::Proxy(proxy), by)) => {
                format!("past apt-huddle, to {proxy}, by {}{}", by.in_words(), self.hint())
            }
            Some((Route::Direct, By::Nothing)) => format!("past apt-huddle, directly{}", self.hint()),
            Some((Route::Direct, by)) => format!("past apt-huddle, directly, by {}{}", by.in_words(), self.hint()),
        }
    }

    fn hint(&self) -> String {
        match &self.left {
            Some(left) => format!("; not to be rewritten: {left}"),
            None => "; --rewrite would lead it here".to_owned(),
        }
    }

    fn sharing_in_words(&self) -> String {
        match self.sharing {
            None => String::new(),
            Some(Ok(())) => "kept, and shared when it is signed".to_owned(),
            Some(Err(why)) => format!("kept when it is signed, never shared: {why}"),
        }
    }
}

impl By {
    /// As it is called in apt's configuration.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Address => "the address",
            Self::Host => "apt's proxy for that host",
            Self::AutoDetect => "apt's Proxy-Auto-Detect",
            Self::General => "apt's proxy",
            Self::Nothing => "nothing",
        }
    }
}

/// Whether what an origin's archive signs may be shared, as far as its address tells: a name is not looked up here.
fn sharing(privacy: &Privacy, origin: &Location) -> Result<(), &'static str> {
    match origin.ip().is_none_or(is_global) {
        _ if origin.credentials().is_some() => Err("there is a password in its address"),
        _ if origin.is_named_in(&privacy.hosts) => Err("[privacy] hosts names it"),
        global if privacy.shareable(origin, global) => Ok(()),
        _ => Err("its address is private, and [privacy] public does not name it"),
    }
}

fn ground(config: &Config, settings: &Settings, listed: &[Listed]) -> Ground {
    let apt_dir = &config.archive.apt_dir;
    let (passwords, is_all) = files::texts(&apt_dir.join("auth.conf"));
    let (preferences, _) = files::texts(&apt_dir.join("preferences"));
    let proxies = Proxies { listen: config.proxy.listen.clone(), ..Proxies::default() };
    let mut ground = Ground {
        proxies,
        passwords: is_all.then(|| passwords.iter().flat_map(|text| password_hosts(text)).collect()),
        pinned: preferences.iter().flat_map(|text| fate::pinned(text)).collect(),
        own_settings: Vec::new(),
    };
    let text_of = |file: &Listed| Some((file.style, file.text.as_ref().ok()?.clone()));
    for (style, text) in listed.iter().filter_map(text_of) {
        for spot in style.spots(&text) {
            let host = Location::parse(&text[spot.range]).map(|at| at.host().to_owned());
            ground.own_settings.extend(host.ok().filter(|host| settings.has_own_for(host)));
        }
    }
    ground
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
