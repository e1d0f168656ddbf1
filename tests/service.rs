//! The daemon under a service manager, and the program by which apt finds it.
//!
//! The manager is played by the tests: they hand sockets over as sd_listen_fds(3) says and read the messages of
//! sd_notify(3).

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::harness::{
    client::fetch,
    daemon::{Daemon, Output, bare, product, run_to_end},
    eventually, own_network, scratch,
};

/// Opens a socket at the address, puts it where a service manager would, and becomes the program.
const HAND_OVER: &str = "
import os, socket, sys
host, port = sys.argv[1].rsplit(':', 1)
door = socket.socket()
door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
door.bind((host, int(port)))
door.listen(64)
os.dup2(door.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
";

/// How long anything may take that the tests wait for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A manager's socket for messages, and a configuration that can change.
struct Manager {
    dir: TempDir,
    messages: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let dir = scratch("manager-");
        let messages = UnixDatagram::bind(dir.path().join("notify")).expect("a short path");
        messages.set_read_timeout(Some(PATIENCE)).expect("a time");
        let manager = Self { dir, messages };
        manager.configure("all");
        manager
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("apt-huddle.toml")
    }

    fn configure(&self, share: &str) {
        let text = format!(
            "[proxy]\nlisten = [\"127.0.0.1:0\"]\n[peer]\nlisten = [\"{}:0\"]\nshare = \"{share}\"\n\
             [dht]\nlan = false\nrendezvous = false\n[archive]\nlists = \"/nonexistent\"\n[store]\npath = {:?}\nmin_free = \"1MB\"\n",
            own_network(),
            self.dir.path().join("store"),
        );
        fs::write(self.config(), text).expect("our own directory");
    }

    /// The daemon's command line, told of this manager.
    fn command(&self, program: Command) -> Command {
        let mut command = program;
        command.arg("run").arg("--config").arg(self.config());
        command.env("NOTIFY_SOCKET", self.dir.path().join("notify"));
        command
    }

    /// Reads messages up to one with this line.
    #[track_caller]
    fn until(&self, line: &str) {
        let mut buffer = [0; 4096];
        loop {
            let read = self.messages.recv(&mut buffer).unwrap_or_else(|error| panic!("no {line:?}: {error}"));
            if String::from_utf8_lossy(&buffer[..read]).lines().any(|said| said == line) {
                return;
            }
        }
    }
}

fn handed_over() -> Command {
    let product = product();
    let mut command = bare(Command::new("/usr/bin/python3"));
    command.args(["-c", HAND_OVER, "127.0.0.1:0"]).arg(product.get_program());
    for (key, value) in product.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    command
}

#[track_caller]
fn is_well(door: SocketAddr) {
    let answer = fetch(door, "/healthz", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
}

#[test]
fn a_manager_is_told_when_apt_is_served_and_that_the_daemon_is_alive() {
    let manager = Manager::new();
    let mut command = manager.command(product());
    command.env("WATCHDOG_USEC", "900000");
    let mut daemon = Daemon::start_as("watched", command, true).expect("it starts");
    manager.until("READY=1");
    manager.until("WATCHDOG=1");
    manager.until("WATCHDOG=1");
    daemon.signal("TERM");
    manager.until("STOPPING=1");
    assert!(daemon.stop("CONT").0.success(), "{}", daemon.log());
}

#[test]
fn a_reload_takes_the_new_configuration_and_no_connection_is_refused_meanwhile() {
    for (name, program) in [("handed over", handed_over()), ("its own", product())] {
        let manager = Manager::new();
        let daemon = Daemon::start_as(name, manager.command(program), true).expect("it starts");
        manager.until("READY=1");
        let door = daemon.proxy();
        is_well(door);
        assert!(daemon.status().0["peer_listen"].as_array().is_some_and(|listen| !listen.is_empty()), "{name}");

        let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    // What the old server had let in and nobody had read yet ends without an answer; apt asks once more then.
                    if fetch(door, "/healthz", &[]).status != 200 {
                        is_well(door);
                    }
                    asked.fetch_add(1, Relaxed);
                }
            });
            manager.configure("off");
            daemon.signal("HUP");
            manager.until("RELOADING=1");
            manager.until("READY=1");
            let so_far = asked.load(Relaxed);
            eventually("the door answers anew", PATIENCE, || (asked.load(Relaxed) > so_far + 1).then_some(()));
            stop.store(true, Relaxed);
        });
        let status = daemon.status();
        assert_eq!(status.0["peer_listen"].as_array().map(Vec::len), Some(0), "{name}: {}", daemon.log());
        assert_eq!(status.0["listen"].as_array().map(Vec::len), Some(1), "{name}: the same door, once");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing() {
    let manager = Manager::new();
    let mut daemon = Daemon::start_as("misled", manager.command(product()), true).expect("it starts");
    manager.until("READY=1");
    fs::write(manager.config(), "[proxy]\nlisten = 5\n").expect("our own file");
    daemon.signal("HUP");
    eventually("it says what is wrong", PATIENCE, || {
        let log = daemon.log();
        (log.contains("apt-huddle.toml:2") && log.contains("stays as it was")).then_some(())
    });
    is_well(daemon.proxy());
    assert!(daemon.stop("TERM").0.success());
}

/// `apt-detect URL` beside an `apt-config` that says these lines.
fn detect(url: &str, said_by_apt: &str, environment: &[(&str, &str)]) -> Output {
    let dir = scratch("apt-config-");
    fake_apt_config(dir.path(), said_by_apt);
    let mut command = bare(Command::new(env!("CARGO_BIN_EXE_apt-detect")));
    command.arg(url).env("PATH", dir.path()).envs(environment.iter().copied());
    run_to_end(command)
}

fn fake_apt_config(dir: &Path, lines: &str) {
    let path = dir.join("apt-config");
    fs::write(&path, format!("#!/bin/sh\n/bin/cat <<'END'\n{lines}\nEND\n")).expect("our own directory");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

#[track_caller]
fn assert_detected(output: &Output, proxy: &str) {
    assert_eq!(output.stdout, format!("{proxy}\n"), "{output:?}");
    assert!(output.status.success(), "apt takes any other exit code for a failure: {output:?}");
}

#[test]
fn apt_is_led_to_a_daemon_that_is_well_and_past_one_that_is_not() {
    let manager = Manager::new();
    let mut daemon = Daemon::start_as("detected", manager.command(product()), true).expect("it starts");
    let door = format!("http://{}", daemon.proxy());
    let told = format!("DOOR='{door}/'\nPROXY='http://proxy.example.org:3128'");
    let url = "http://mirror.example.org/debian/";
    assert_detected(&detect(url, &told, &[]), &door);
    for near in ["http://127.0.0.1:9977/mirror.example.org/debian", "http://192.168.0.2/debian", "http://nas.local/"] {
        assert_detected(&detect(near, &told, &[]), "http://proxy.example.org:3128");
    }
    assert!(daemon.stop("TERM").0.success());
    assert_detected(&detect(url, &told, &[]), "http://proxy.example.org:3128");
    assert_detected(&detect(url, &format!("DOOR='{door}'"), &[]), "DIRECT");
    let environment = [("http_proxy", "http://env.example.org:8080/")];
    assert_detected(&detect(url, &format!("DOOR='{door}'"), &environment), "http://env.example.org:8080");
    assert_detected(&detect(url, &format!("DOOR='{door}'\nPROXY='{door}'"), &[]), "DIRECT");
    assert_detected(&detect("", "", &[("http_proxy", "")]), "DIRECT");
}

#[test]
fn apt_is_led_past_what_hangs_or_is_something_else() {
    let url = "http://mirror.example.org/debian/";
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let told = |listener: &TcpListener| format!("DOOR='http://{}'", listener.local_addr().expect("bound"));
    assert_detected(&detect(url, &told(&silent), &[]), "DIRECT");
    for answer in [
        "HTTP/1.1 200 OK\r\nServer: something else\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\nServer: apt-huddle/9\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ] {
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let told = told(&other);
        let answering = thread::spawn(move || answer_once(&other, answer));
        assert_detected(&detect(url, &told, &[]), "DIRECT");
        answering.join().expect("somebody asked");
    }
}

fn answer_once(listener: &TcpListener, answer: &str) {
    let (mut stream, _): (TcpStream, _) = listener.accept().expect("somebody asks");
    let mut request = [0; 1024];
    assert!(stream.read(&mut request).expect("a request") > 0);
    stream.write_all(answer.as_bytes()).expect("it listens");
}
