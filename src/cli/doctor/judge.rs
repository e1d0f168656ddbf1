//! What the facts mean, and what to do about them, in the order of what a helper on a forum would ask.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    cli::apt::{By, Route},
    status::{
        report::{Report, reachability},
        words::{duration, files, moment, size},
    },
};

use super::facts::{Facts, Fault, Sharing};

/// How far a clock may be behind that of an archive, in seconds.
const CLOCK_BEHIND: u64 = 600;
/// How old the newest Release may be before one wonders whether the clock is ahead, in seconds.
const CLOCK_AHEAD: u64 = 400 * DAY;
/// How long apt's lists may stay as they are, in seconds.
const LISTS_OLD: u64 = 21 * DAY;
/// How long a daemon may know nobody, in seconds.
const LONELY: u64 = 300;
const DAY: u64 = 86_400;
/// Names that are told of many alike.
const MAX_NAMED: usize = 3;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, and could do better.
    Warn,
    /// It does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word.
    pub check: &'static str,
    /// How it is.
    pub grade: Grade,
    /// How it is, in words.
    pub says: String,
    /// What to do, unless it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

fn ok(check: &'static str, says: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Ok, says: says.into(), advice: None }
}

fn warn(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Warn, says: says.into(), advice: Some(advice.into()) }
}

fn bad(check: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { check, grade: Grade::Bad, says: says.into(), advice: Some(advice.into()) }
}

/// Judges all facts.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings =
        vec![configuration(facts), daemon(facts), apt(facts), sources(facts), clock(facts), keyrings(facts)];
    findings.extend(signatures(facts));
    findings.extend([disk(facts), lists(facts)]);
    findings.extend(network(facts));
    findings
}

fn configuration(facts: &Facts) -> Finding {
    match (&facts.bad_configuration, &facts.file) {
        (Some(error), _) => bad("configuration", error, "Correct it; apt-huddle config check says when it is good."),
        (None, Some(file)) => ok("configuration", format!("{} is good", file.display())),
        (None, None) => ok("configuration", "no file: the defaults hold"),
    }
}

fn daemon(facts: &Facts) -> Finding {
    const CHECK: &str = "daemon";
    const START: &str = "systemctl restart apt-huddle.socket apt-huddle.service, or apt-huddle run, with the same --config; \
                         journalctl -u apt-huddle says why it ended.";
    match &facts.daemon {
        Err(why) => {
            let needed = if apt_needs_it(facts) { ", and apt fails without it" } else { "" };
            bad(CHECK, format!("{why}{needed}"), START)
        }
        Ok(report) if report.version != env!("CARGO_PKG_VERSION") => warn(
            CHECK,
            format!("runs version {}, and this is {}", report.version, env!("CARGO_PKG_VERSION")),
            "Restart it: systemctl restart apt-huddle.service.",
        ),
        Ok(report) => {
            let at = report.listen.first().map_or_else(String::new, |at| format!(" at {at}"));
            ok(CHECK, format!("version {} is up{at} since {}", report.version, duration(report.uptime)))
        }
    }
}

/// Whether apt fails without the daemon.
fn apt_needs_it(facts: &Facts) -> bool {
    let leads_here =
        |by: By| facts.apt.sources.iter().any(|seen| matches!(&seen.way, Some((Route::Daemon, way)) if *way == by));
    leads_here(By::Address) || leads_here(By::General) || leads_here(By::Host)
}

fn apt(facts: &Facts) -> Finding {
    const CHECK: &str = "apt";
    let apt = &facts.apt;
    if let Some(why) = &apt.unknown {
        return warn(CHECK, format!("its configuration is not known: {why}"), "Look at it by hand: apt-config dump.");
    }
    if let (Some(program), Some(failure)) = (&apt.auto_detect, &apt.auto_detect_failure) {
        let files: Vec<_> = apt.auto_detect_files.iter().map(|file| file.display().to_string()).collect();
        let files = if files.is_empty() { "the file of apt's that names it".to_owned() } else { files.join(", ") };
        return bad(
            CHECK,
            format!("asks {program} for a proxy, and that fails: {failure}; apt then ends with an error"),
            format!("Install the package that brings it again, or delete {files}."),
        );
    }
    if let Some(file) = &apt.set_aside {
        let name = file.display().to_string();
        let right = name.trim_end_matches(".disabled");
        return warn(CHECK, format!("is not told of apt-huddle: {name} is set aside"), format!("mv {name} {right}"));
    }
    let through = |by: By| apt.sources.iter().any(|seen| matches!(&seen.way, Some((Route::Daemon, way)) if *way == by));
    if let Some(by) = [By::AutoDetect, By::General, By::Host].into_iter().find(|by| through(*by)) {
        return ok(CHECK, format!("comes here, by {}{}", by.in_words(), last_seen(facts)));
    }
    if through(By::Address) {
        return ok(CHECK, format!("comes here, by the addresses of its sources{}", last_seen(facts)));
    }
    // The program answers DIRECT while the daemon is down.
    if let (Some(program), Err(_)) = (&apt.auto_detect, &facts.daemon) {
        return ok(CHECK, format!("goes to the mirrors while there is no daemon, as {program} says"));
    }
    let at = facts.listen.first().map_or_else(String::new, ToString::to_string);
    let advice = format!(
        "Put Acquire::http::Proxy \"http://{at}\"; into a file in /etc/apt/apt.conf.d, or run apt-huddle sources --rewrite, \
         or install the package, which does the first."
    );
    warn(CHECK, "does not come here: nothing that it fetches passes apt-huddle", advice)
}

/// When it did, in words.
fn last_seen(facts: &Facts) -> String {
    let last = facts.daemon.as_ref().ok().and_then(|report| report.apt.last);
    last.map_or_else(String::new, |last| format!("; last {} ago", duration(facts.now.saturating_sub(last))))
}

fn sources(facts: &Facts) -> Finding {
    const CHECK: &str = "sources";
    let apt = &facts.apt;
    if let Some(unclear) = apt.unclear.first() {
        let more = apt.unclear.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return bad(CHECK, format!("not understood: {unclear}{more}"), "Correct the file; apt may refuse it too.");
    }
    if apt.sources.is_empty() {
        return warn(CHECK, "apt has none", "Put some into /etc/apt/sources.list or sources.list.d.");
    }
    let count = |is: &dyn Fn(&crate::cli::sources::Seen) -> bool| apt.sources.iter().filter(|seen| is(seen)).count();
    let here = count(&|seen| seen.sharing.is_some());
    let private = count(&|seen| matches!(seen.sharing, Some(Err(_))));
    let past = count(&|seen| seen.sharing.is_none() && seen.way.is_some());
    let other = count(&|seen| seen.way.is_none());
    let mut says = format!("{here} of {} through apt-huddle", apt.sources.len());
    for (number, what) in [(private, "of these private"), (past, "past it or in a tunnel"), (other, "of other kinds")] {
        if number > 0 {
            let _infallible = write!(says, ", {number} {what}");
        }
    }
    if past + private + other > 0 {
        says.push_str("; apt-huddle sources says more");
    }
    ok(CHECK, says)
}

fn clock(facts: &Facts) -> Finding {
    const CHECK: &str = "clock";
    const ADVICE: &str =
        "Set the clock: timedatectl set-ntp true, or date --set. Signatures and certificates depend on it.";
    let dates = facts.releases.iter().filter_map(|release| release.date);
    let suites = facts.daemon.iter().flat_map(|report| report.suites.iter().map(|suite| suite.date));
    let newest = dates.chain(suites).max();
    let now = moment(facts.now);
    match (newest, facts.latest_write) {
        (Some(newest), _) if newest > facts.now + CLOCK_BEHIND => {
            let by = duration(newest - facts.now);
            bad(CHECK, format!("{now} is {by} before the newest Release was made"), ADVICE)
        }
        (_, Some(write)) if write > facts.now + CLOCK_BEHIND => {
            let by = duration(write - facts.now);
            warn(CHECK, format!("{now} is {by} before files were written: it was ahead, or is behind"), ADVICE)
        }
        (Some(newest), _) if newest + CLOCK_AHEAD < facts.now => {
            let by = duration(facts.now - newest);
            warn(CHECK, format!("{now} is {by} after the newest Release was made"), ADVICE)
        }
        _ => ok(CHECK, format!("{now} agrees with files and Releases")),
    }
}

fn keyrings(facts: &Facts) -> Finding {
    const CHECK: &str = "keyrings";
    let faulty = |is: &dyn Fn(&Fault) -> bool| {
        let found =
            facts.keyrings.iter().filter_map(|keyring| Some((keyring, keyring.fault.as_ref().filter(|f| is(f))?)));
        let told = found.map(|(keyring, fault)| match fault {
            Fault::Missing => format!("{} is missing", keyring.path.display()),
            Fault::Unreadable(why) => format!("{} cannot be read: {why}", keyring.path.display()),
            Fault::NoKeyring(why) => format!("{} is no keyring: {why}", keyring.path.display()),
            Fault::ForFew => format!("{} may not be read by all users", keyring.path.display()),
        });
        some_of(told.collect())
    };
    if let Some(missing) = faulty(&|fault| *fault == Fault::Missing) {
        let advice = "Install the package that brings it, or correct Signed-By; apt refuses these sources too.";
        return bad(CHECK, missing, advice);
    }
    if let Some(broken) = faulty(&|fault| matches!(fault, Fault::NoKeyring(_))) {
        return warn(CHECK, broken, "Nobody is believed by it. Replace it, or delete it.");
    }
    if let Some(unreadable) = faulty(&|fault| matches!(fault, Fault::Unreadable(_))) {
        return warn(CHECK, unreadable, "Run doctor as root to know more.");
    }
    match faulty(&|fault| *fault == Fault::ForFew) {
        Some(few) => warn(CHECK, few, "chmod a+r: apt and apt-huddle read keyrings as users of their own."),
        None if facts.keyrings.is_empty() => {
            warn(CHECK, "none: no Release can be verified", "Install debian-archive-keyring, or that of your archive.")
        }
        None => ok(CHECK, format!("all {} can be read", facts.keyrings.len())),
    }
}

/// The first of some, and how many there are besides.
fn some_of(mut all: Vec<String>) -> Option<String> {
    let more = all.len().saturating_sub(MAX_NAMED);
    all.truncate(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!all.is_empty()).then(|| all.join(", ") + &more)
}

fn signatures(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "signatures";
    let report = facts.daemon.as_ref().ok()?;
    let refused = report.refusals.iter().find(|refusal| refusal.is_bad);
    let unknown = report.refusals.iter().find(|refusal| !refusal.is_bad);
    Some(match (refused, unknown) {
        (Some(refusal), _) => bad(
            CHECK,
            format!("{} was refused: {}", refusal.location, refusal.reason),
            "Do not install from there before you know why; apt-get update says what apt thinks of it.",
        ),
        (None, Some(refusal)) => warn(
            CHECK,
            format!("{}: {}", refusal.location, refusal.reason),
            "It goes through to apt and is not shared. Its keyring, named by Signed-By, would change that.",
        ),
        (None, None) => ok(CHECK, format!("{} suites known, nothing refused", report.suites.len())),
    })
}

fn disk(facts: &Facts) -> Finding {
    const CHECK: &str = "disk";
    let disk = &facts.disk;
    let free = facts.daemon.as_ref().ok().and_then(|report| report.store.free).or(disk.free);
    let held = facts.daemon.as_ref().ok().map(|report| {
        let store = &report.store;
        format!("{}, {} of {}; ", files(store.objects as u64), size(store.bytes), size(store.quota))
    });
    let held = held.unwrap_or_default();
    match (free, &disk.fault) {
        (_, Some(fault)) => bad(
            CHECK,
            format!("{}: {fault}", disk.path.display()),
            "Let the daemon's user write there, or name another directory as path in section [store].",
        ),
        (Some(free), _) if free < disk.min_free => warn(
            CHECK,
            format!("{held}{} free, less than min_free, {}: nothing new is kept", size(free), size(disk.min_free)),
            "Make room, or lower min_free in section [store]. Until then files only pass through.",
        ),
        (Some(free), _) => ok(CHECK, format!("{held}{} free", size(free))),
        (None, _) => ok(CHECK, format!("{held}not known how much is free")),
    }
}

fn lists(facts: &Facts) -> Finding {
    const CHECK: &str = "lists";
    let expired = facts.releases.iter().filter(|release| release.valid_until.is_some_and(|until| until < facts.now));
    let expired = expired.map(|release| {
        let until = moment(release.valid_until.unwrap_or_default());
        format!("{} was valid until {}", release.name, &until[..10])
    });
    match (some_of(expired.collect()), facts.lists_changed) {
        (Some(expired), _) => {
            warn(CHECK, expired, "apt-get update. If that does not help, the mirror is behind, or the clock is wrong.")
        }
        (None, Some(changed)) if changed + LISTS_OLD < facts.now => {
            warn(CHECK, format!("apt's lists did not change for {}", duration(facts.now - changed)), "apt-get update")
        }
        (None, _) if facts.releases.is_empty() => warn(CHECK, "apt has no lists yet", "apt-get update"),
        (None, Some(changed)) => ok(
            CHECK,
            format!("{} Releases, changed {} ago", facts.releases.len(), duration(facts.now.saturating_sub(changed))),
        ),
        (None, None) => ok(CHECK, format!("{} Releases", facts.releases.len())),
    }
}

/// The peers' side, which is nobody's trouble where nothing is shared.
fn network(facts: &Facts) -> Vec<Finding> {
    let Ok(report) = &facts.daemon else { return Vec::new() };
    match facts.sharing {
        Sharing::Off => vec![ok("peers", "nothing is shared, as configured")],
        Sharing::Take => vec![peers(report), ok("port", "closed: this host gives nothing, as configured")],
        Sharing::All => std::iter::once(peers(report)).chain(port(report)).collect(),
    }
}

fn peers(report: &Report) -> Finding {
    const CHECK: &str = "peers";
    let nodes = report.dht.as_ref().map_or(0, |dht| dht.nodes);
    let banned = report.peers.iter().filter(|peer| peer.banned).count();
    let banned = if banned > 0 { format!(", {banned} banned") } else { String::new() };
    match nodes {
        0 if report.uptime < LONELY => ok(CHECK, "no node is known yet; it is up for a short time"),
        0 => warn(
            CHECK,
            "no node is known: nobody can be asked for files",
            "Let UDP out, and name a host that runs apt-huddle as bootstrap in section [dht], if you know one.",
        ),
        nodes => ok(CHECK, format!("{nodes} nodes known, {} peers met{banned}", report.peers.len())),
    }
}

fn port(report: &Report) -> Vec<Finding> {
    const CHECK: &str = "port";
    let states: Vec<_> = reachability(report).collect();
    if states.is_empty() {
        return vec![ok(CHECK, "not tried by anybody yet")];
    }
    let port = report.peer_listen.first().map_or_else(String::new, |at| at.port().to_string());
    let finding = |(family, state): &(&str, crate::dht::Reachability)| {
        let says = format!("{port} over {family}: {state}");
        match state.is_fine() {
            true => ok(CHECK, says),
            false => {
                warn(CHECK, says, "It can stay so: files are still brought from peers, but given to none over it.")
            }
        }
    };
    states.iter().map(finding).collect()
}
