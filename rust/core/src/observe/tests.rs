use super::*;
use crate::shared::Layout;

fn shared(workers: usize) -> (tempdir::Dir, Arc<Shared>) {
    let dir = tempdir::Dir::new();
    let layout = Layout { words: [512, 8, 8, 8, (1 << 20) * workers, 8, 48], workers };
    let shared = Arc::new(Shared::create(&dir.0.join("shared"), layout).unwrap());
    (dir, shared)
}

mod tempdir {
    use std::sync::atomic::{AtomicU32, Ordering};
    pub struct Dir(pub std::path::PathBuf);
    impl Dir {
        pub fn new() -> Dir {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("pygate-observe-{}-{n}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Dir(path)
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn served<'a>(route: &'a RouteLabel, status: u16, duration_ns: u64) -> Served<'a> {
    Served {
        route,
        method: &Method::Get,
        scheme: Scheme::Http,
        version: Version::Http11,
        status,
        code: None,
        grpc_status: None,
        duration_ns,
        request_bytes: 0,
        response_bytes: 1024,
    }
}

const NOW: Instant = Instant(5 * LAG_WINDOW_NS);

#[test]
fn workers_add_up_and_rows_are_named() {
    let (_dir, shared) = shared(2);
    let orders = RouteLabel::new("orders");
    for worker in 0..2 {
        let meter = Meter::new(shared.clone(), worker);
        meter.request(&served(&orders, 200, 4_000_000));
        meter.request(&served(&orders, 200, 5_000_001));
        meter.request(&Served { code: Some(Code::NoRoute), ..served(&RouteLabel::new(""), 404, 11_000_000_000) });
        let endpoint = EndpointLabel::new("orders", "127.0.0.1:9000");
        meter.upstream(&Called {
            endpoint: &endpoint,
            method: &Method::Post,
            scheme: Scheme::Http,
            status: 0,
            code: Some(Code::ConnectFailed),
            duration_ns: 7,
        });
        meter.add(Counter::Retries, 3);
        meter.set(Gauge::ConnectionsOpen, 9);
        meter.begin(&Method::Get, Scheme::Https);
    }
    let snap = Snapshot::take(&shared, NOW);
    assert_eq!(snap.requests.len(), 2);
    let good = snap.requests.iter().find(|r| r.route == "orders").unwrap();
    assert_eq!((good.labels.method, good.labels.status, good.labels.code), ("GET", 200, ""));
    assert_eq!((good.duration.sum, good.duration.buckets[0], good.duration.buckets[1]), (18_000_002, 2, 2));
    assert_eq!((good.response_size.sum, good.response_size.buckets[1]), (4096, 4));
    let missing = snap.requests.iter().find(|r| r.route.is_empty()).unwrap();
    assert_eq!((missing.labels.code, missing.duration.buckets[14]), ("no-route", 2));
    let up = &snap.upstreams[0];
    assert_eq!((&*up.service, &*up.endpoint, up.labels.method), ("orders", "127.0.0.1:9000", "POST"));
    assert_eq!((up.labels.code, up.duration.sum), ("connect-failed", 14));
    assert_eq!(snap.counters[Counter::Retries as usize].value, 6);
    assert_eq!(snap.gauges[Gauge::ConnectionsOpen as usize].value, 18);
    assert_eq!((snap.active[0].method, snap.active[0].scheme, snap.active[0].value), ("GET", "https", 2));
}

#[test]
fn a_successor_goes_on_counting_and_starts_gauges_anew() {
    let (_dir, shared) = shared(1);
    let route = RouteLabel::new("r");
    for _ in 0..3 {
        let meter = Meter::new(shared.clone(), 0);
        meter.request(&served(&route, 200, 1));
        meter.add(Counter::ParseErrors, 1);
        meter.begin(&Method::Get, Scheme::Http);
        meter.set(Gauge::Paused, 4);
    }
    let snap = Snapshot::take(&shared, NOW);
    assert_eq!(snap.requests.len(), 1);
    assert_eq!(snap.requests[0].duration.buckets[0], 3);
    assert_eq!(snap.counters[Counter::ParseErrors as usize].value, 3);
    assert_eq!(snap.active[0].value, 1);
    retire(&shared, 0);
    let snap = Snapshot::take(&shared, NOW);
    assert!(snap.active.is_empty());
    assert_eq!(snap.gauges[Gauge::Paused as usize].value, 0);
    assert_eq!(snap.counters[Counter::ParseErrors as usize].value, 3);
}

#[test]
fn what_finds_no_room_is_counted_all_the_same() {
    let (_dir, shared) = shared(1);
    let meter = Meter::new(shared.clone(), 0);
    let total = REQUESTS.rows_len as u64 + 500;
    for n in 0..total {
        meter.request(&served(&RouteLabel::new(&format!("route-{n}")), 200, 1));
    }
    let snap = Snapshot::take(&shared, NOW);
    let overflow = snap.requests.iter().find(|r| r.labels.overflow).unwrap();
    assert_eq!(overflow.duration.buckets[0], 501);
    assert_eq!(snap.requests.iter().map(|r| r.duration.buckets.iter().sum::<u64>()).sum::<u64>(), total);
    assert!(snap.requests.iter().any(|r| r.route.starts_with('#')), "keys beyond the name table show as numbers");
}

/// A writer killed after any store of `make` leaves a table its successor can use.
#[test]
fn a_row_half_made_is_made_again() {
    let (_dir, shared) = shared(1);
    let meter = Meter::new(shared.clone(), 0);
    let route = RouteLabel::new("r");
    meter.request(&served(&route, 200, 1));
    let block = shared.worker_region(Region::Metrics, 0);
    let place =
        block[REQUESTS.index..REQUESTS.index + REQUESTS.index_len].iter().find(|w| w.load(Relaxed) != 0).unwrap();
    place.store(0, Relaxed);
    let meter = Meter::new(shared.clone(), 0);
    meter.request(&served(&route, 200, 1));
    block[REQUESTS_USED].store(2, Relaxed);
    meter.request(&served(&route, 200, 1));
    block[REQUESTS_USED].store(3, Relaxed);
    let snap = Snapshot::take(&shared, NOW);
    assert_eq!(snap.requests.len(), 1);
    assert_eq!(snap.requests[0].duration.buckets[0], 3);
}

#[test]
fn buckets_are_where_a_search_would_put_them() {
    for bytes in (0..70).flat_map(|e| (0..3).map(move |d| (1u64 << (e % 64)).wrapping_add(d).wrapping_sub(1))) {
        let expected = SIZE_BOUNDS.iter().position(|&b| bytes <= b).unwrap_or(SIZE_BOUNDS.len());
        assert_eq!(size_bucket(bytes), expected, "{bytes}");
    }
    assert_eq!(duration_bucket(5_000_000), 0);
    assert_eq!(duration_bucket(5_000_001), 1);
    assert_eq!(duration_bucket(u64::MAX), 14);
}

#[test]
fn labels_survive_packing() {
    for (number, code) in Code::ALL.iter().enumerate() {
        let method = Method::Other(smallvec::SmallVec::from_slice(b"PROPFIND"));
        let labels = labels::unpack(labels::pack(&method, 599, Some(*code), Scheme::Https, Version::Http2));
        assert_eq!((labels.code, number), (code.name(), *code as usize));
        assert_eq!((labels.method, labels.status, labels.scheme, labels.version), ("_OTHER", 599, "https", "2"));
    }
}

#[test]
fn loop_lag_is_the_largest_of_late() {
    let (_dir, shared) = shared(1);
    let meter = Meter::new(shared.clone(), 0);
    let at = |windows: u64| Instant(windows * LAG_WINDOW_NS);
    meter.loop_lag(at(7), 30);
    meter.loop_lag(at(7), 20);
    meter.loop_lag(at(8), 10);
    let lag = |now| Snapshot::take(&shared, now).workers[0].loop_lag_max_ns;
    assert_eq!([lag(at(8)), lag(at(9)), lag(at(10))], [30, 10, 0]);
}

#[test]
fn a_file_too_small_counts_nothing_and_harms_nothing() {
    let dir = tempdir::Dir::new();
    let layout = Layout { words: [512, 8, 8, 8, 64, 8, 48], workers: 1 };
    let shared = Arc::new(Shared::create(&dir.0.join("shared"), layout).unwrap());
    let meter = Meter::new(shared.clone(), 0);
    meter.request(&served(&RouteLabel::new("r"), 200, 1));
    meter.add(Counter::Retries, 1);
    meter.begin(&Method::Get, Scheme::Http);
    meter.loop_lag(NOW, 1);
    assert!(Snapshot::take(&shared, NOW).workers.is_empty());
}

/// `pygate.telemetry.spans.attempt_span_id` must agree (tests/telemetry/test_spans.py has the same values).
#[test]
fn attempt_spans_are_those_of_the_control_process() {
    assert_eq!(hex::encode(attempt_span([0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7])), "af9b8b0bcb885608");
    assert_eq!(attempt_span([0; 8]), [0, 0, 0, 0, 0, 0, 0, 1]);
}
