//! Figures for Prometheus, in the text form of OpenMetrics 1.0.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: base units, `_total` behind what only grows. Every label is
//! a word of this file, so that no stranger's word becomes one, and there is no end of series.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use crate::dht::Reachability;

use super::report::{Network, Report, reachability};

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A label's name and value.
type Label = [(&'static str, &'static str); 1];

/// Writes all figures down.
pub fn text(report: &Report) -> String {
    let mut registry = Registry::with_prefix("apt_huddle");
    let version = Info::new([("version", report.version.clone())]);
    registry.register("build", "Version of the running program", version);
    daemon(&mut registry, report);
    bytes(&mut registry, report);
    peers(&mut registry, report);
    report.dht.iter().for_each(|dht| network(&mut registry, dht));
    for_each_reachable(&mut registry, report);
    kept(&mut registry, report);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes everything");
    text
}

fn daemon(registry: &mut Registry, report: &Report) {
    let start = report.at.saturating_sub(report.uptime);
    gauge(registry, "start_time", "When the daemon started, since 1970", Some(Unit::Seconds), start as f64);
    counter(registry, "requests", "Requests of apt", None, report.apt.requests);
    if let Some(last) = report.apt.last {
        let help = "When the last request of apt came, since 1970";
        gauge(registry, "last_request_timestamp", help, Some(Unit::Seconds), last as f64);
    }
    let downloads = [("brought", report.downloads.brought), ("failed", report.downloads.failed)];
    counters(registry, "downloads", "Downloads that ended, by how", None, "result", &downloads);
    gauge(registry, "downloads_in_progress", "Downloads under way", None, report.under_way as f64);
    let failing = report.failing_mirrors.len();
    gauge(registry, "mirrors_failing", "Mirrors that failed when they were last asked", None, failing as f64);
}

fn bytes(registry: &mut Registry, report: &Report) {
    let bytes = &report.bytes;
    let received = [
        ("peers", bytes.from_peers.saturating_sub(bytes.from_lan)),
        ("lan", bytes.from_lan),
        ("store", bytes.from_store),
        ("mirror", bytes.from_mirror),
    ];
    let help = "Bytes for apt, by where they came from";
    counters(registry, "received", help, Some(Unit::Bytes), "source", &received);
    counter(registry, "sent", "Bytes given to peers", Some(Unit::Bytes), bytes.up);
    counter(registry, "wasted", "Bytes that came and were of no use", Some(Unit::Bytes), bytes.wasted);
}

fn peers(registry: &mut Registry, report: &Report) {
    let banned = report.peers.iter().filter(|peer| peer.banned).count();
    let states = [("good", (report.peers.len() - banned) as f64), ("banned", banned as f64)];
    gauges(registry, "peers", "Peers known, by their standing", None, "state", &states);
    gauge(registry, "peer_connections", "Connections to peers that are open", None, report.connections as f64);
    let help = "Peers' pieces that were proven false";
    counter(registry, "peer_convictions", help, None, report.downloads.convictions);
    let uploads = &report.uploads;
    counter(registry, "upload_requests", "Requests of peers", None, uploads.requests);
    counter(registry, "upload_refusals", "Requests and connections of peers turned away", None, uploads.refused);
    gauge(registry, "uploads_in_progress", "Files being given to peers", None, uploads.active as f64);
}

fn network(registry: &mut Registry, dht: &Network) {
    let nodes = [("ipv4", dht.nodes_v4 as f64), ("ipv6", dht.nodes_v6 as f64)];
    gauges(registry, "dht_nodes", "Nodes of the DHT known that answer", None, "family", &nodes);
    let queries = [("in", dht.queries_in), ("out", dht.queries_out)];
    counters(registry, "dht_queries", "Questions answered and asked", None, "direction", &queries);
    counter(registry, "dht_dropped_datagrams", "Datagrams of no use or beyond a budget", None, dht.dropped);
    let times = [("0.5", dht.lookup_p50_ms), ("0.95", dht.lookup_p95_ms)];
    let times = times.map(|(quantile, time)| time.map(|time| (quantile, time / 1000.0)));
    let times: Vec<_> = times.into_iter().flatten().collect();
    let help = "Time that the last lookups took, by quantile";
    gauges(registry, "dht_lookup", help, Some(Unit::Seconds), "quantile", &times);
}

fn for_each_reachable(registry: &mut Registry, report: &Report) {
    let families = reachability(report).filter_map(|(family, state)| {
        let family = if family == "IPv4" { "ipv4" } else { "ipv6" };
        let state = match state {
            Reachability::Untested => return None,
            state => f64::from(u8::from(state.is_fine())),
        };
        Some((family, state))
    });
    let families: Vec<_> = families.collect();
    let help = "Whether others can connect to the port of peers; nothing before somebody tried";
    gauges(registry, "reachable", help, None, "family", &families);
}

fn kept(registry: &mut Registry, report: &Report) {
    let store = &report.store;
    gauge(registry, "store", "Bytes of the files that are kept", Some(Unit::Bytes), store.bytes as f64);
    gauge(registry, "store_quota", "Bytes that the store may take", Some(Unit::Bytes), store.quota as f64);
    if let Some(free) = store.free {
        gauge(registry, "store_free", "Bytes free on the store's disk", Some(Unit::Bytes), free as f64);
    }
    gauge(registry, "store_files", "Files that are kept", None, store.objects as f64);
    let expired = report.suites.iter().filter(|suite| suite.is_expired).count();
    let suites = [("valid", (report.suites.len() - expired) as f64), ("expired", expired as f64)];
    gauges(registry, "suites", "Suites known, by whether their Release is still valid", None, "state", &suites);
    let releases = &report.releases;
    let verdicts = [("verified", releases.verified), ("unverifiable", releases.unverifiable), ("bad", releases.bad)];
    counters(registry, "releases", "Releases and indexes judged, by verdict", None, "verdict", &verdicts);
}

fn counter(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, counter),
        None => registry.register(name, help, counter),
    }
}

fn counters(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    label: &'static str,
    values: &[(&'static str, u64)],
) {
    let family = Family::<Label, Counter>::default();
    for (of, value) in values {
        family.get_or_create(&[(label, of)]).inc_by(*value);
    }
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family),
        None => registry.register(name, help, family),
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, gauge),
        None => registry.register(name, help, gauge),
    }
}

fn gauges(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    label: &'static str,
    values: &[(&'static str, f64)],
) {
    let family = Family::<Label, Gauge<f64, AtomicU64>>::default();
    for (of, value) in values {
        family.get_or_create(&[(label, of)]).set(*value);
    }
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family),
        None => registry.register(name, help, family),
    }
}
