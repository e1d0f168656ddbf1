use proptest::prelude::*;

use super::*;

const SILENCE: Duration = Duration::from_secs(15);

/// A connection, its dispatcher and its client, in memory.
struct Scene {
    talk: Conversation,
    now: Instant,
    /// What the client got.
    got: Vec<u8>,
    foreseen: Vec<String>,
    is_cut: bool,
}

impl Scene {
    #[expect(clippy::disallowed_methods, reason = "a first moment; the rest is counted from there")]
    fn new() -> Self {
        let talk = Conversation::new(Pace { silence: SILENCE });
        Self { talk, now: Instant::now(), got: Vec::new(), foreseen: Vec::new(), is_cut: false }
    }

    /// The head that the dispatcher reads now, in parts of so many bytes.
    fn head(&mut self, most: usize) -> Option<String> {
        let mut head = Vec::new();
        while let Given::Bytes(bytes) = self.talk.request(most, self.now) {
            assert!(bytes.len() <= most);
            head.extend_from_slice(&bytes);
        }
        self.settle();
        (!head.is_empty()).then(|| String::from_utf8(head).unwrap())
    }

    /// The dispatcher writes bytes, and the client takes at most so many at a time.
    fn write(&mut self, mut bytes: &[u8], appetite: usize) {
        while !bytes.is_empty() {
            self.settle();
            let taken = match self.talk.passage(bytes, self.now) {
                Passage::Drop(some) => {
                    self.talk.handle_dropped(&bytes[..some]);
                    some
                }
                Passage::Hold(some) => {
                    self.talk.handle_held(&bytes[..some]);
                    some
                }
                Passage::Pass { bytes: some, hold } => {
                    let all = [self.talk.held(), &bytes[..some]].concat();
                    let sent = all.len().min(appetite);
                    self.got.extend_from_slice(&all[..sent]);
                    let taken = self.talk.handle_sent(sent, &bytes[..some], self.now);
                    if sent == all.len() {
                        self.talk.handle_held(&bytes[some..some + hold]);
                        taken + hold
                    } else {
                        taken
                    }
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// Time goes by.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.talk.next_wake().filter(|at| *at <= until) {
            self.now = at;
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        while let Some(output) = self.talk.poll(self.now) {
            match output {
                Output::Foresee(head) => self.foreseen.push(head.target),
                Output::Begun(_) => {}
                Output::Cut => self.is_cut = true,
            }
        }
        self.got.extend_from_slice(self.talk.own());
        self.talk.handle_own_sent(self.talk.own().len());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.got).into_owned()
    }
}

fn ask(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// An answer to the request of that number, which is a HEAD or not.
fn answer(number: usize, is_head: bool) -> String {
    let body = format!("<{number}>").repeat(number * 7);
    let length = body.len();
    match (number % 3, is_head) {
        (_, true) => format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"),
        (0, _) => "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\n\r\n".to_owned(),
        (1, _) => format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"),
        _ => format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n2;a=b\r\nxy\r\n0\r\n\r\n"
        ),
    }
}

/// What the client understands: the status line as it would be without drips, and the bodies.
fn understood(mut raw: &[u8], heads: &[bool]) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    for is_head in heads {
        let end = memchr::memmem::find(raw, b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(raw[..end].to_vec()).unwrap();
        raw = &raw[end..];
        let (version, rest) = head.split_once(' ').unwrap();
        let head = format!("{version} {}", rest.trim_start());
        let mut body = Vec::new();
        if !is_head && head.contains("chunked") {
            loop {
                let line = memchr::memmem::find(raw, b"\r\n").unwrap();
                let digits = String::from_utf8(raw[..line].to_vec()).unwrap();
                let size = usize::from_str_radix(digits.split(';').next().unwrap(), 16).unwrap();
                body.extend_from_slice(&raw[line + 2..line + 2 + size]);
                raw = &raw[line + 4 + size..];
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: "))
            && !is_head
            && !head.contains(" 304 ")
        {
            let length = length.parse().unwrap();
            body.extend_from_slice(&raw[..length]);
            raw = &raw[length..];
        }
        answers.push((head, String::from_utf8(body).unwrap()));
    }
    assert!(raw.is_empty(), "{}", String::from_utf8_lossy(raw));
    answers
}

proptest! {
    #[test]
    fn however_bytes_are_split_and_time_goes_by_each_request_gets_its_answer_in_its_turn(
        heads in prop::collection::vec(any::<bool>(), 1..24),
        cuts in prop::collection::vec((1_usize..90, 1_usize..60, 0_u64..40), 1..60),
    ) {
        let mut scene = Scene::new();
        let method = |is_head: bool| if is_head { "HEAD" } else { "GET" };
        let asked: Vec<_> = heads.iter().zip(0..).map(|(is_head, n)| ask(method(*is_head), &format!("/{n}"))).collect();
        let sent = asked.concat().into_bytes();
        let (mut sent, mut answered, mut cuts) = (&sent[..], 0, cuts.iter().cycle());
        let mut writing: Vec<u8> = Vec::new();
        while answered < heads.len() || !writing.is_empty() {
            prop_assert!(!scene.is_cut);
            let (part, appetite, seconds) = cuts.next().unwrap();
            scene.wait(Duration::from_secs(*seconds));
            if scene.talk.wants_input() {
                let (now, later) = sent.split_at((*part).min(sent.len()));
                scene.talk.handle_input(now);
                sent = later;
            }
            if let Some(head) = scene.head(*part) {
                prop_assert!(writing.is_empty(), "one at a time");
                prop_assert_eq!(&head, &asked[answered]);
                writing = answer(answered, heads[answered]).into_bytes();
                answered += 1;
            }
            let some = writing.len().min(*part);
            scene.write(&writing[..some], *appetite);
            writing.drain(..some);
        }
        let plain: Vec<u8> = (0..heads.len()).flat_map(|n| answer(n, heads[n]).into_bytes()).collect();
        prop_assert_eq!(understood(&scene.got, &heads), understood(&plain, &heads));
    }

    #[test]
    fn whatever_a_client_sends_nothing_panics_and_little_is_kept(parts in prop::collection::vec(
        prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'G'), any::<u8>()], 0..200), 0..40,
    )) {
        let mut scene = Scene::new();
        for part in parts {
            if scene.talk.wants_input() {
                scene.talk.handle_input(&part);
            }
            scene.head(1000);
            prop_assert!(scene.talk.input.len() <= MAX_WAITING + 200);
        }
    }
}

#[test]
fn while_a_status_is_open_the_client_gets_its_beginning_and_spaces() {
    let mut scene = Scene::new();
    scene.talk.handle_input(ask("GET", "/").as_bytes());
    scene.head(1000);
    scene.wait(SILENCE - Duration::from_millis(1));
    assert_eq!(scene.text(), "");
    scene.wait(SILENCE * 3);
    assert_eq!(scene.text(), "HTTP/1.1   ");
    // A head by itself keeps the status open; it may be split anywhere.
    scene.write(b"HTTP", 1000);
    scene.write(b"/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\n", 1000);
    scene.wait(SILENCE);
    scene.write(b"abc", 1000);
    let answered = "HTTP/1.1    404 Not Found\r\ncontent-length: 3\r\n\r\nabc";
    assert_eq!(scene.text(), answered);
    scene.wait(SILENCE * 9);
    assert_eq!(scene.text(), answered, "nobody waits for anything");
}

#[test]
fn a_head_that_waits_for_its_body_is_begun_by_its_first_drip() {
    let mut scene = Scene::new();
    scene.talk.handle_input(ask("GET", "/").as_bytes());
    scene.head(1000);
    scene.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", 1000);
    assert_eq!(scene.text(), "", "head and body leave together");
    scene.wait(SILENCE * 2);
    assert_eq!(scene.text(), "HTTP/1.1  ");
    scene.write(b"a", 1000);
    scene.write(b"bc", 1000);
    assert_eq!(scene.text(), "HTTP/1.1  200 OK\r\ncontent-length: 3\r\n\r\nabc");
}

#[test]
fn a_body_with_a_length_is_kept_alive_by_its_last_bytes_and_cut_after_ten_minutes() {
    let mut scene = Scene::new();
    scene.talk.handle_input(ask("GET", "/").as_bytes());
    scene.head(1000);
    let (head, body) = ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", "0123456789".repeat(30));
    scene.write(format!("{head}{body}").as_bytes(), 1000);
    assert_eq!(scene.got.len(), head.len() + 300 - RESERVE);
    scene.wait(SILENCE * 3);
    assert_eq!(scene.text(), format!("{head}{}", &body[..263]));
    scene.write(&[b'x'; 10], 1000);
    scene.wait(Duration::from_secs(595));
    assert!(!scene.is_cut);
    scene.wait(Duration::from_secs(30));
    assert!(scene.is_cut);
    assert_eq!(scene.text(), format!("{head}{body}xxxxxxxxxx"));
    assert_eq!(scene.talk.request(10, scene.now), Given::End);
}

#[test]
fn who_does_not_read_is_given_nothing_more() {
    let mut scene = Scene::new();
    scene.talk.handle_input(ask("GET", "/").as_bytes());
    scene.head(1000);
    scene.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", 1000);
    scene.talk.handle_blocked();
    assert_eq!(scene.talk.next_wake(), None);
    scene.write(b"1\r\na\r\n", 1000);
    scene.wait(SILENCE * 2);
    scene.write(b"0\r\n\r\n", 1000);
    assert!(scene.text().ends_with("\r\n1\r\na\r\n000\r\n\r\n"), "{}", scene.text());
}

#[test]
fn an_old_client_gets_no_beginning_before_the_answer() {
    let mut scene = Scene::new();
    scene.talk.handle_input(b"GET / HTTP/1.0\r\n\r\n");
    scene.head(1000);
    scene.wait(SILENCE * 5);
    assert_eq!(scene.text(), "");
}

#[test]
fn a_head_that_is_refused_is_answered_in_its_turn_and_nothing_behind_it() {
    let mut scene = Scene::new();
    let smuggled = format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n{}", ask("GET", "/c"));
    scene.talk.handle_input(format!("{}{smuggled}{}", ask("GET", "/a"), ask("GET", "/d")).as_bytes());
    assert!(scene.head(1000).unwrap().starts_with("GET /a"));
    assert!(!scene.talk.wants_input() && scene.foreseen.is_empty());
    let first = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
    scene.write(first.as_bytes(), 1000);
    assert_eq!(scene.head(1000), None);
    let refusal = scene.text().split_off(first.len());
    assert!(refusal.starts_with("HTTP/1.1 413 ") && refusal.contains("Connection: close"), "{refusal}");
    assert_eq!(scene.talk.request(10, scene.now), Given::End);
    // The dispatcher may have a word of its own for that.
    scene.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n", 1000);
    assert_eq!(scene.text().len(), first.len() + refusal.len());
}

#[test]
fn requests_behind_one_that_closes_are_not_read() {
    let mut scene = Scene::new();
    let closing = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    scene.talk.handle_input(format!("{closing}{}", ask("GET", "/b")).as_bytes());
    assert_eq!(scene.head(1000).as_deref(), Some(closing));
    scene.write(b"HTTP/1.1 204 No Content\r\n\r\n", 1000);
    assert_eq!(scene.talk.request(10, scene.now), Given::End);
    assert!(scene.foreseen.is_empty());
}

#[test]
fn only_so_much_is_read_ahead_and_only_the_next_ten_are_foreseen() {
    let mut scene = Scene::new();
    let all: String = (0..100).map(|n| ask("GET", &format!("/{n}"))).collect();
    scene.talk.handle_input(all.as_bytes());
    assert!(!scene.talk.wants_input());
    let expected = |until: usize| (1..until).map(|n| format!("/{n}")).collect::<Vec<_>>();
    for n in 0..100 {
        assert_eq!(scene.head(1000), Some(ask("GET", &format!("/{n}"))));
        assert!(scene.talk.waiting.len() <= MAX_HEADS);
        assert_eq!(scene.foreseen, expected((n + 1 + AHEAD).min(100)));
        scene.write(b"HTTP/1.1 204 No Content\r\n\r\n", 1000);
    }
    assert!(scene.talk.wants_input());
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(15_000));
    let mut taken = 0;
    while scene.talk.wants_input() {
        scene.talk.handle_input(long.as_bytes());
        taken += long.len();
    }
    assert!(taken < MAX_WAITING + long.len(), "{taken}");
}

#[test]
fn a_client_that_says_no_more_still_gets_its_answers() {
    let mut scene = Scene::new();
    scene.talk.handle_input(format!("{}{}GET /c", ask("GET", "/a"), ask("GET", "/b")).as_bytes());
    scene.talk.handle_input_end();
    for _ in 0..2 {
        assert!(scene.head(1000).is_some());
        assert_eq!(scene.talk.request(10, scene.now), Given::Nothing);
        scene.write(b"HTTP/1.1 204 No Content\r\n\r\n", 1000);
    }
    assert_eq!(scene.talk.request(10, scene.now), Given::End);
}
