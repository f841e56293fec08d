//! What an idle TLS session keeps, counted by the allocator.

use pygate_core::config::Config;
use pygate_core::tls::{CertificateMaterial, Client, Material, Server, TlsStore};
use rcgen::{CertificateParams, KeyPair};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

const NOW: u64 = 1_800_000_000;
/// Most a session may keep while nothing happens, of the 32 KiB that a connection has. 4 KiB are the library's buffer.
const BUDGET: isize = 9 << 10;

thread_local! {
    /// Bytes this thread holds.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn note(bytes: isize) {
    // A thread that is ending counts no more.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        System.dealloc(pointer, layout);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size as isize - layout.size() as isize);
        System.realloc(pointer, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn store(version: &str) -> TlsStore {
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = format!(
        "[entrypoints.web]\naddress = '127.0.0.1:0'\n[entrypoints.web.tls.options]\nmin_version = '{version}'\n\
         max_version = '{version}'\n[certificates.a]\ncert = 'a.pem'\nkey = 'a.key'\n\
         [services.up]\nendpoints = ['https://a.example']\n[services.up.tls]\ninsecure_skip_verify = true"
    );
    let config: Config = toml::from_str(&config).unwrap();
    let mut material = Material::default();
    material.certificates.push(CertificateMaterial {
        name: "a".into(),
        source: "a.pem".into(),
        cert: cert.pem(),
        key: key.serialize_pem(),
        ocsp: String::new(),
    });
    let store = TlsStore::compile(&config, &material, None).unwrap();
    store.set_now(NOW);
    store
}

/// Passes bytes both ways until both are silent.
fn settle(server: &mut Server, client: &mut Client) {
    loop {
        let (mut up, mut down, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        client.output(&mut up);
        server.feed(&up, &mut plain).unwrap();
        server.output(&mut down);
        client.feed(&down, &mut plain).unwrap();
        if up.is_empty() && down.is_empty() {
            return;
        }
    }
}

/// Bytes given back when `session` goes.
fn kept<T>(session: T) -> isize {
    let before = HELD.get();
    drop(session);
    before - HELD.get()
}

#[test]
fn an_idle_session_keeps_little() {
    for version in ["1.2", "1.3"] {
        let store = store(version);
        for mebibytes in [0, 1] {
            let mut server = Server::new(store.server("web").unwrap().clone(), NOW);
            let mut client = Client::new(store.client("up").unwrap(), "a.example", &[b"http/1.1"]).unwrap();
            settle(&mut server, &mut client);
            let long = vec![7; mebibytes << 20];
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            client.send(&long, &mut wire);
            server.feed(&wire, &mut plain).unwrap();
            wire.clear();
            server.send(&long, &mut wire);
            client.feed(&wire, &mut plain).unwrap();
            assert_eq!(plain.len(), 2 * long.len());
            let sessions = [kept(server), kept(client)];
            println!(
                "TLS {version}, {mebibytes} MiB each way: server keeps {}, client {} bytes",
                sessions[0], sessions[1]
            );
            assert!(sessions.iter().all(|&bytes| bytes > 1000 && bytes < BUDGET), "{sessions:?}");
        }
    }
}
