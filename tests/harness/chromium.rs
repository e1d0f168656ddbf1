//! Debian's Chromium without a screen, driven by the DevTools protocol: <https://chromedevtools.github.io/devtools-protocol/>.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, client::client};

use super::{daemon::bare, have, scratch};

/// How long the browser may take for anything; generous, since many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// A page is there, with all that belongs to it.
pub const LOADED: &str = "Page.loadEventFired";

/// The browser, with one page. It ends when it is dropped.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    next: u64,
    /// What it told of by itself, the oldest first.
    events: Vec<Value>,
    _dir: TempDir,
}

impl Browser {
    /// Starts it with an empty page; `None`, and says so, where there is none.
    pub fn start() -> Option<Self> {
        if !have("chromium") {
            return None;
        }
        let dir = scratch("chromium-");
        let mut command = bare(Command::new("chromium"));
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--remote-debugging-port=0", "--hide-scrollbars", "--proxy-server=direct://"])
            // No test speaks to any network but its own.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", dir.path().display()))
            .arg("about:blank")
            .env("HOME", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it is on the path");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        let at = loop {
            let mut line = String::new();
            let read = log.read_line(&mut line).expect("a pipe");
            assert!(read > 0, "the browser ended:\n{said}");
            said += &line;
            if let Some(at) = line.trim().strip_prefix("DevTools listening on ") {
                break at.to_owned();
            }
        };
        thread::spawn(move || log.lines().for_each(drop));
        let authority = at.trim_start_matches("ws://").split('/').next().expect("an authority");
        let stream = TcpStream::connect(authority).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let (socket, _) = client(&at, stream).expect("a WebSocket");
        let mut browser = Self { child, socket, session: None, next: 0, events: Vec::new(), _dir: dir };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Asks for something, and waits for the answer.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut ask = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            ask["sessionId"] = session.clone().into();
        }
        self.socket.send(Message::text(ask.to_string())).expect("the browser lives");
        loop {
            let message = self.receive();
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().expect("the browser lives") {
                return serde_json::from_str(&text).expect("DevTools speak JSON");
            }
        }
    }

    /// Goes to a page, and waits until it is there.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let loads = self.count(LOADED);
        self.call("Page.navigate", json!({ "url": url }));
        self.until_loaded(loads + 1);
    }

    /// Waits until so many pages were loaded in all.
    pub fn until_loaded(&mut self, loads: usize) {
        while self.count(LOADED) < loads {
            let event = self.receive();
            self.events.push(event);
        }
    }

    /// What an expression comes to in the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The page's HTML as it is now, scripts or not.
    pub fn html(&mut self) -> String {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let html = self.call("DOM.getOuterHTML", json!({ "nodeId": root }));
        html["outerHTML"].as_str().expect("text").to_owned()
    }

    /// The page as a picture, in PNG.
    pub fn picture(&mut self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        from_base64(picture["data"].as_str().expect("base64"))
    }

    /// How often it told of this.
    pub fn count(&self, method: &str) -> usize {
        self.events.iter().filter(|event| event["method"] == method).count()
    }

    /// URLs that were asked for.
    pub fn requests(&self) -> Vec<&str> {
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["params"]["request"]["url"].as_str()).collect()
    }

    /// Complaints of scripts, of the console and of the browser itself.
    pub fn complaints(&self) -> Vec<&Value> {
        let is_one = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(is_one).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// RFC 4648, section 4.
fn from_base64(text: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|digit| *digit != b'=').map(value).collect();
    let bytes = digits.chunks(4).flat_map(|digits| {
        let bits = digits.iter().fold(0, |bits: u32, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - digits.len()));
        bits.to_be_bytes().into_iter().skip(1).take(digits.len() * 6 / 8)
    });
    bytes.collect()
}

#[test]
fn base64_is_that_of_the_rfc() {
    for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")] {
        assert_eq!(from_base64(text), bytes.as_bytes());
    }
    assert_eq!(from_base64("+/8="), [0xfb, 0xff]);
}
