//! The page in a real browser.

use std::{
    env, fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{
    apt::have_apt,
    archive::{Archive, Package},
    chromium::{Browser, LOADED},
    client::fetch,
    huddle::{Host, Huddle},
    machine::Config,
    mirror::{Fault, Mirror},
    say,
};

/// How long a page may take to show something.
const SHOWING: Duration = Duration::from_secs(60);

/// Units of the bars of pieces that are filled.
const FILLED: &str = "[...document.querySelectorAll('#live svg.pieces rect')]
    .reduce((sum, piece) => sum + Number(piece.getAttribute('width')), 0)";

fn text(selector: &str) -> String {
    format!("(document.querySelector({selector:?})?.innerText ?? '')")
}

/// Asks the page until it says so.
#[track_caller]
fn until(browser: &mut Browser, what: &str, expression: &str) {
    let start = Instant::now();
    while browser.evaluate(expression) != true {
        assert!(start.elapsed() < SHOWING, "{what}: {}", browser.html());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Fetches a package through a daemon.
fn bring(host: &Host, mirror: &Mirror, package: &Package) {
    let url = format!("http://{}{}", mirror.authority(), package.url_path());
    let answer = fetch(host.daemon.proxy(), &url, &[]);
    assert!(answer.status == 200 && answer.whole, "{}", answer.head);
}

#[test]
fn a_browser_sees_a_transfer_as_it_goes_and_all_of_it_without_scripts_too() {
    if !have_apt() {
        return;
    }
    let Some(mut browser) = Browser::start() else { return };
    let archive = Archive::shared();
    let mirror = Mirror::start(archive.root());
    let mut host = Host::start("browser", &mirror, &Config::default());
    host.apt().update().expect_success();
    bring(&host, &mirror, archive.package("huddle-5"));
    let package = archive.package("huddle-71");
    mirror.fault(&package.url_path(), Fault::Slow(4_000_000));
    let origin = format!("http://{}", host.daemon.proxy());
    browser.open(&format!("{origin}/"));
    until(&mut browser, "it lives", &format!("{} === 'Live.'", text("#connection")));
    numbers_move_and_the_bar_fills(&mut browser, &host, &mirror, package);
    the_focus_stays(&mut browser);
    nothing_is_wider_than_a_phone(&mut browser);
    let file = package.path.rsplit('/').next().expect("a name");
    browser.evaluate(&format!(
        "[...document.querySelectorAll('#recent a')].find((a) => a.innerText.includes({file:?})).click()"
    ));
    until(
        &mut browser,
        "why",
        "location.pathname === '/why' && document.querySelectorAll('svg.pieces rect').length > 0",
    );
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.open(&format!("{origin}/"));
    let html = browser.html();
    for word in [file, "Working for", "What did it save?", "Nothing is on its way", "0 %", "Valid", "DHT", "store"] {
        assert!(html.contains(word), "{word}: {html}");
    }
    let loads = browser.count(LOADED);
    browser.until_loaded(loads + 1);
    assert_eq!(browser.evaluate("location.pathname"), "/", "it is loaded again by itself");
    let elsewhere: Vec<_> = browser.requests().into_iter().filter(|url| !url.starts_with(&origin)).collect();
    assert!(elsewhere.iter().all(|url| url.starts_with("about:")), "{elsewhere:?}");

    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": false }));
    browser.open(&format!("{origin}/"));
    until(&mut browser, "it lives again", &format!("{} === 'Live.'", text("#connection")));
    let (status, took) = host.daemon.stop("TERM");
    assert!(status.success() && took < Duration::from_secs(8), "who looks on holds up nobody: {status}, {took:?}");
    until(&mut browser, "it is gone", &format!("{}.includes('lost')", text("#connection")));
}

fn numbers_move_and_the_bar_fills(browser: &mut Browser, host: &Host, mirror: &Mirror, package: &Package) {
    thread::scope(|scope| {
        let bringing = scope.spawn(|| bring(host, mirror, package));
        let (mut filled, mut said) = (vec![0], vec![String::new()]);
        let start = Instant::now();
        while filled.len() < 5 {
            assert!(start.elapsed() < SHOWING && !bringing.is_finished(), "{filled:?} {said:?}");
            let now = browser.evaluate(FILLED).as_u64().expect("a sum");
            assert!(now == 0 || now >= filled[filled.len() - 1], "{now} after {filled:?}");
            if now > filled[filled.len() - 1] {
                filled.push(now);
                let text = browser.evaluate(&text("#live .transfer p:last-child"));
                said.push(text.as_str().expect("text").to_owned());
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(said.windows(2).all(|two| two[0] != two[1]), "{said:?}");
        assert!(said[4].contains("of 71 pieces") && said[4].contains("MB/s"), "{said:?}");
        bringing.join().expect("it is brought");
    });
    until(browser, "it is over", &format!("{}.includes('Nothing is on its way')", text("#live")));
    until(browser, "it is told of", &format!("{}.includes('huddle-71')", text("#recent")));
}

/// While sections are replaced around it.
fn the_focus_stays(browser: &mut Browser) {
    let press = |browser: &mut Browser, kind: &str| {
        let key = json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
        browser.call("Input.dispatchKeyEvent", key);
    };
    press(browser, "keyDown");
    press(browser, "keyUp");
    assert_eq!(browser.evaluate("document.activeElement.className"), "skip", "the first stop leads to the content");
    browser.evaluate("window.link = document.querySelector('#recent tbody a'); window.link.focus()");
    until(browser, "the section is replaced", "!window.link.isConnected");
    let same = "document.activeElement.getAttribute('href') === window.link.getAttribute('href')";
    assert_eq!(browser.evaluate(same), true);
}

fn nothing_is_wider_than_a_phone(browser: &mut Browser) {
    screen(browser, 360, 740, true);
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth"), 360);
    screen(browser, 1100, 900, false);
}

fn screen(browser: &mut Browser, width: u32, height: u32, mobile: bool) {
    let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
    browser.call("Emulation.setDeviceMetricsOverride", metrics);
}

/// Pictures for people to look at: see `tests/screenshots`.
#[test]
#[ignore = "makes pictures, for the script tests/screenshots"]
fn pictures() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = PathBuf::from(env::var_os("APT_HUDDLE_SCREENSHOTS").expect("tests/screenshots says where"));
    fs::create_dir_all(&dir).expect("a directory of pictures");
    let packages: Vec<_> =
        ["hello", "huddle-5", "huddle-69", "huddle-4"].map(|name| Archive::shared().package(name)).into();
    let mut huddle = Huddle::of(&[Config::default(), Config { mirror: "last", ..Config::default() }]);
    huddle.give(0, &packages);
    huddle.give(1, &packages);
    huddle.join(Config::default());
    huddle[2].apt().update().expect_success();
    for name in ["hello", "huddle-5", "huddle-69", "huddle-2"] {
        bring(&huddle[2], &huddle.mirror, Archive::shared().package(name));
    }
    let slow = Archive::shared().package("huddle-200");
    huddle.mirror.fault(&slow.url_path(), Fault::Slow(5_000_000));
    let origin = format!("http://{}", huddle[2].daemon.proxy());
    thread::scope(|scope| {
        scope.spawn(|| bring(&huddle[2], &huddle.mirror, slow));
        browser.open(&format!("{origin}/"));
        until(&mut browser, "a part is there", &format!("{FILLED} > 60"));
        let why = format!("{origin}/why/{}", Archive::shared().package("huddle-69").sha256);
        for (url, page) in [(format!("{origin}/"), "status"), (why, "why")] {
            for (name, scheme, width, mobile) in
                [("light", "light", 1100, false), ("dark", "dark", 1100, false), ("phone", "light", 360, true)]
            {
                screen(&mut browser, width, 900, mobile);
                let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                browser.call("Emulation.setEmulatedMedia", feature);
                browser.open(&url);
                let height = browser.evaluate("document.documentElement.scrollHeight").as_u64().expect("a height");
                screen(&mut browser, width, height as u32, mobile);
                let file = dir.join(format!("{page}-{name}.png"));
                fs::write(&file, browser.picture()).expect("room for a picture");
                say(&file.display().to_string());
            }
        }
    });
}
