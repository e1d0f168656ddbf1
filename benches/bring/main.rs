//! Bringing files from peers and mirrors over lines with a rate and a round trip, and a table of what came of it.
//!
//! ```text
//!   cargo bench --bench bring                          every row
//!   cargo bench --bench bring -- four-peers poison     some of them
//!   cargo bench --bench bring -- --check               fails when a bar is missed
//!   cargo bench --bench bring -- --runs 5              medians of so many runs, 3 if nothing is said
//! ```
//!
//! Everything is the product's own: stores, pools, fetchers and public ports in this process ([`host`]), or daemons as
//! processes ([`rows::daemons`]). What is between them is a
//! [`link::Link`], which counts what it carries: a bound of bytes or pieces is held to that ([`meter`]). A time is never judged by itself: each run
//! is followed by one of its yardstick over the same links, and the ratio is what counts.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench is the world around the product: it owns clocks, files, sockets and a terminal"
)]

#[path = "../../tests/harness/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod harness;
mod host;
mod link;
mod meter;
mod rows;

use std::{
    env,
    io::Write,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Instant,
};

use tokio::runtime::Runtime;

use rows::{ROWS, Row};

fn main() -> ExitCode {
    let runtime = Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    if env::var_os(rows::cpu::HOLDER).is_some() {
        rows::cpu::hold();
        return ExitCode::SUCCESS;
    }
    let wanted = match Wanted::parse(env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(complaint) => {
            eprintln!("{complaint}");
            return ExitCode::FAILURE;
        }
    };
    // What a row panics with stands in the table.
    panic::set_hook(Box::new(|_| ()));
    let world = World { runtime: &runtime, runs: wanted.runs };
    if cfg!(debug_assertions) {
        println!("Built without optimisation: what is bound by the processor says little.");
    }
    println!("{:<60}{:<28}{:<28}{:<4}{:>6}", "case", "must be", "seen", "ok", "s");
    let mut missed = 0;
    for row in ROWS.iter().filter(|row| wanted.has(row.name)) {
        let begun = Instant::now();
        for Seen { case, must, seen, ok } in whatever_happens(&world, row) {
            missed += usize::from(!ok);
            let (ok, took) = (if ok { "yes" } else { "NO" }, begun.elapsed().as_secs());
            println!("{:<60}{must:<28}{seen:<28}{ok:<4}{took:>6}", format!("{}: {case}", row.name));
            std::io::stdout().flush().ok();
        }
    }
    if missed > 0 {
        println!("{missed} missed");
    }
    if wanted.check && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Measures a row; one that cannot be measured is missed, and the others are measured all the same.
fn whatever_happens(world: &World<'_>, row: &Row) -> Vec<Seen> {
    let measured = panic::catch_unwind(AssertUnwindSafe(|| (row.run)(world)));
    measured.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let seen = text.unwrap_or_else(|| "a panic".into());
        vec![Seen { case: "not measured".into(), must: "an end".into(), seen, ok: false }]
    })
}

/// What the command line asks for.
struct Wanted {
    rows: Vec<String>,
    runs: usize,
    check: bool,
}

impl Wanted {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wanted = Self { rows: Vec::new(), runs: 3, check: false };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--check" => wanted.check = true,
                "--runs" => {
                    let runs = args.next().and_then(|runs| runs.parse().ok()).filter(|runs| *runs > 0);
                    wanted.runs = runs.ok_or("--runs: a number is expected")?;
                }
                // Cargo says this to every bench.
                "--bench" => {}
                name if ROWS.iter().any(|row| row.name.contains(name)) => wanted.rows.push(arg),
                other => {
                    let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
                    return Err(format!("{other}: expected --check, --runs N, or some of: {}", names.join(" ")));
                }
            }
        }
        Ok(wanted)
    }

    fn has(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| name.contains(row.as_str()))
    }
}

/// What every row needs.
struct World<'a> {
    runtime: &'a Runtime,
    runs: usize,
}

impl World<'_> {
    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The median of what each run gives.
    fn median(&self, mut run: impl FnMut() -> f64) -> f64 {
        median((0..self.runs).map(|_| run()))
    }
}

/// The middle one of some values; of an even number, the higher of the two.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One line of the table.
#[derive(Clone)]
struct Seen {
    case: String,
    must: String,
    seen: String,
    ok: bool,
}

impl Seen {
    fn at_least(case: &str, bar: f64, of: &str, seen: f64) -> Self {
        Self { case: case.into(), must: format!("at least {bar} {of}"), seen: format!("{seen:.3}"), ok: seen >= bar }
    }

    fn at_most(case: &str, bar: f64, of: &str, seen: f64) -> Self {
        Self { case: case.into(), must: format!("at most {bar} {of}"), seen: format!("{seen:.3}"), ok: seen <= bar }
    }

    /// Adds what helps to understand the figure.
    fn with(mut self, what: &str) -> Self {
        self.seen = format!("{}  {what}", self.seen);
        self
    }
}
