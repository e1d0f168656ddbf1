//! The advert in the LAN: a network of its own for the daemon and a neighbour who listens.

use std::{fs, process::Command};

use crate::harness::{
    daemon::{bare, binary, run_to_end},
    have, say, scratch,
};

/// Makes a LAN of one host, starts the daemon there, asks for proxies by multicast DNS until it is answered or so
/// many seconds are over, and prints how much it heard. It ends with 77 where no LAN can be made.
const NEIGHBOUR: &str = r#"
import select, signal, socket, subprocess, sys, time
run = lambda *words: subprocess.run(words, check=True)
run("ip", "link", "set", "lo", "up")
if subprocess.run(["ip", "link", "add", "lan", "type", "veth", "peer", "name", "end"]).returncode:
    sys.exit(77)
run("ip", "link", "set", "end", "up")
run("ip", "addr", "add", "192.168.77.1/24", "dev", "lan")
run("ip", "link", "set", "lan", "up", "multicast", "on")
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
sock.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton("192.168.77.1")
sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.168.77.1"))
name = b"".join(bytes([len(label)]) + label for label in (b"_apt_proxy", b"_tcp", b"local")) + b"\0"
query = b"\0\0\0\0\0\1\0\0\0\0\0\0" + name + b"\0\x0c\0\1"
daemon = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
deadline, answers = time.monotonic() + float(sys.argv[1]), b""
wanted = [b"apt-huddle on ", b"\x26\xf9", socket.inet_aton("192.168.77.1")]
while time.monotonic() < deadline and not all(part in answers for part in wanted):
    sock.sendto(query, ("224.0.0.251", 5353))
    while select.select([sock], [], [], 1)[0]:
        told = sock.recv(9000)
        if told[2] & 0x80:
            answers += told
daemon.send_signal(signal.SIGTERM)
daemon.wait(20)
print("all" if all(part in answers for part in wanted) else "some" if answers else "nothing")
"#;

#[test]
fn a_door_that_is_open_to_the_lan_is_found_there_and_a_closed_one_is_not() {
    let can = have("unshare")
        && have("ip")
        && Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|s| s.success());
    if !can {
        say("skipped: no network of its own can be made here");
        return;
    }
    let dir = scratch("lan-");
    let config = dir.path().join("apt-huddle.toml");
    let heard = |seconds: &str, proxy: &str| {
        let text = format!(
            "[proxy]\n{proxy}\n[dht]\nnetwork = \"off\"\n[store]\npath = {:?}\nmin_free = \"1MB\"\n\
             [archive]\nlists = \"/nonexistent\"\n",
            dir.path().join("store")
        );
        fs::write(&config, text).expect("our directory");
        let mut command = bare(Command::new("unshare"));
        command.args(["--net", "/usr/bin/python3", "-c", NEIGHBOUR, seconds]).arg(binary());
        command.arg("run").arg("--config").arg(&config);
        let output = run_to_end(command);
        if output.status.code() == Some(77) {
            return None;
        }
        assert!(output.status.success(), "{output:?}");
        Some(output.stdout.trim().to_owned())
    };
    let open = "listen = [\"127.0.0.1:9977\", \"192.168.77.1:9977\"]\nallow = [\"192.168.77.0/24\"]";
    let Some(told) = heard("20", open) else {
        say("skipped: this kernel makes no pair of interfaces");
        return;
    };
    assert_eq!(told, "all");
    let strangers = open.replace("192.168.77.0/24", "10.0.0.0/8");
    let silent = [
        format!("{open}\nadvertise = false"),
        // Its neighbours would be sent away.
        strangers,
        "listen = [\"127.0.0.1:9977\"]".to_owned(),
    ];
    for proxy in silent {
        assert_eq!(heard("4", &proxy).as_deref(), Some("nothing"), "{proxy}");
    }
}
