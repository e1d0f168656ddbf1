//! `apt-huddle status --watch`: the status once a second, until nobody reads it or the daemon is gone.

use std::{
    io::{self, IsTerminal, Write},
    thread,
    time::Duration,
};

use crate::config::Config;

use super::{Failure, Outcome, client, status, understood};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Puts the cursor at the top of a terminal, and empties it from there (ECMA-48, CUP and ED).
const HOME: &str = "\x1b[H\x1b[J";

/// Shows the status again and again: in place on a terminal, one after the other elsewhere; as JSON, one line each.
pub fn watch(config: &Config, json: bool, out: &mut (impl Write + IsTerminal)) -> Result<Outcome, Failure> {
    let in_place = out.is_terminal() && !json;
    loop {
        let reply = client::get(&config.proxy.listen, status::TARGET)?;
        let report = understood(&reply)?;
        let text = match json {
            true => reply.as_is(),
            false if in_place => format!("{HOME}{}", status::render(&report)),
            false => status::render(&report) + "\n",
        };
        if let Err(_closed) = say(out, &text) {
            return Ok(Outcome { text: String::new(), good: true });
        }
        thread::sleep(PERIOD);
    }
}

fn say(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}
