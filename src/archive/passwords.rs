//! Passwords: which hosts apt asks with one that its sources do not show (apt_auth.conf(5)).
//!
//! ```text
//!  machine https://mirror.example.org/debian login apt password debian
//! ```
//!
//! Only the hosts are looked at, whatever scheme, port or path the rest of an entry is about.

/// The hosts that a file of passwords names, without a dot at their end.
pub fn password_hosts(text: &str) -> impl Iterator<Item = String> + use<> {
    let words: Vec<_> = text.split_whitespace().collect();
    let machines: Vec<_> = words.windows(2).filter(|pair| pair[0] == "machine").map(|pair| host(pair[1])).collect();
    machines.into_iter()
}

fn host(machine: &str) -> String {
    let rest = machine.split_once("://").map_or(machine, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let host = authority.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(authority, |(host, _)| host);
    host.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_in_every_form() {
        let text = "machine a.example.org. login x password machine\nmachine https://b.example.org:8443/debian/\n login b\n\
                    machine [2001:db8::1]:80 login d machine";
        let hosts: Vec<_> = password_hosts(text).collect();
        assert_eq!(hosts, ["a.example.org", "machine", "b.example.org", "[2001:db8::1]"]);
    }
}
