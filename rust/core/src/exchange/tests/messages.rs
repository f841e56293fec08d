//! Requests as the upstream sees them, answers as the client does (RFC 9110 §7, RFC 9112).

use super::world::World;
use super::{GET, OK};
use crate::observe::Counter;

/// Sends `request`, answers with `answer`; returns what either side got.
fn through(world: &mut World, request: &str, answer: &str) -> (String, String) {
    let client = world.client();
    world.send(client, request);
    let up = world.connected();
    let sent = world.take(up);
    world.send(up, answer);
    (sent, world.take(client))
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[test]
fn a_plain_exchange_keeps_both_connections() {
    let mut world = World::base();
    let client = world.client();
    for round in 0..3 {
        world.send(client, GET);
        let up = if round == 0 { world.connected() } else { world.newest() };
        let sent = world.take(up);
        assert!(sent.starts_with("GET /a HTTP/1.1\r\nhost: h\r\n"), "{sent}");
        world.send(up, OK);
        let got = world.take(client);
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nhello"), "{got}");
        assert!(!got.contains("connection:"), "{got}");
    }
    assert_eq!(world.asked.len(), 1);
    assert_eq!(world.count(Counter::PoolReuse), 2);
    assert_eq!(world.records.len(), 6);
    world.assert_at_rest();
}

#[test]
fn hop_by_hop_fields_and_those_connection_names_stay_here() {
    let mut world = World::base();
    let request = "GET / HTTP/1.1\r\nhost: h\r\nconnection: x-Hop, keep-alive\r\nX-hop: 1\r\nkeep-alive: timeout=5\r\n\
                   te: trailers\r\nproxy-connection: x\r\nproxy-authorization: Basic eDp5\r\nupgrade: h2c\r\n\
                   http2-settings: AAMAAABk\r\nx-kept: 2\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nconnection: x-back\r\nx-back: 1\r\nkeep-alive: 5\r\nx-request-id: theirs\r\n\
                  x-pygate-error: fake\r\nx-kept: 3\r\ncontent-length: 0\r\n\r\n";
    let (sent, got) = through(&mut world, request, answer);
    for gone in ["x-hop", "keep-alive", "te:", "proxy-", "upgrade", "http2", "connection"] {
        assert!(!lower(&sent).contains(gone), "{gone} in {sent}");
    }
    assert!(sent.contains("x-kept: 2\r\n"));
    for gone in ["x-back", "keep-alive", "connection", "theirs", "fake"] {
        assert!(!lower(&got).contains(gone), "{gone} in {got}");
    }
    assert!(got.contains("x-kept: 3\r\n") && got.contains("x-request-id: ") && got.contains("date: "));
}

#[test]
fn a_target_does_not_make_a_request_https() {
    let mut world = World::base();
    let (sent, _) = through(&mut world, "GET https://h/a HTTP/1.1\r\nhost: h\r\n\r\n", OK);
    assert!(sent.starts_with("GET /a HTTP/1.1\r\n") && sent.contains("x-forwarded-proto: http\r\n"), "{sent}");
}

#[test]
fn strangers_may_not_say_who_they_are_and_trusted_peers_may() {
    let spoof = "x-forwarded-for: 1.2.3.4\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded-proto: https\r\n\
                 x-forwarded-host: evil\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\n\
                 x-request-id: 01890a5d-ac96-774b-bcce-b302099a8057\r\n\
                 traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    for (peer, trusted) in [("192.0.2.7", false), ("10.1.2.3", true)] {
        let mut world = World::base();
        let client = world.client_from(peer).unwrap();
        world.send(client, format!("GET / HTTP/1.1\r\nhost: h\r\n{spoof}\r\n"));
        let up = world.connected();
        let sent = lower(&world.take(up));
        assert!(sent.contains(&format!("x-forwarded-for: {peer}\r\n")), "{sent}");
        assert!(!sent.contains("6.6.6.6"));
        assert_eq!(sent.contains("1.2.3.4"), trusted, "{sent}");
        assert_eq!(sent.contains("x-forwarded-host: evil"), trusted);
        assert_eq!(sent.contains("x-forwarded-proto: https"), trusted);
        assert_eq!(sent.contains("01890a5d-ac96-774b-bcce-b302099a8057"), trusted);
        assert_eq!(sent.contains("0af7651916cd43dd8448eb211c80319c"), trusted);
        assert_eq!(sent.matches("traceparent").count(), 1);
        world.send(up, OK);
        assert_eq!(world.take(client).contains("01890a5d-ac96-774b-bcce-b302099a8057"), trusted);
    }
}

#[test]
fn an_absolute_target_wins_over_host() {
    let mut world = World::base();
    let request = "GET http://Real.example:81/x?y HTTP/1.1\r\nhost: other\r\n\r\n";
    let (sent, _) = through(&mut world, request, OK);
    assert!(sent.starts_with("GET /x?y HTTP/1.1\r\nhost: real.example:81\r\n"), "{sent}");
    assert!(!sent.contains("other"));
}

#[test]
fn lengths_pass_through_both_ways_and_are_made_where_missing() {
    let mut world = World::base();
    let (sent, got) = through(&mut world, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc", OK);
    assert!(sent.ends_with("content-length: 3\r\n\r\nabc") && got.contains("content-length: 5\r\n"), "{sent}{got}");

    let mut world = World::base();
    let chunks = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nx-t: 1\r\n\r\n";
    let back =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-b: 2\r\ncontent-length: 9\r\n\r\n";
    let (sent, got) = through(&mut world, chunks, back);
    assert!(sent.ends_with("transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n"), "{sent}");
    assert!(got.ends_with("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-b: 2\r\n\r\n"), "{got}");

    // An answer that ends with its connection becomes chunked.
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\n\r\nuntil");
    world.eof(up);
    let got = world.take(client);
    assert!(got.ends_with("5\r\nuntil\r\n0\r\n\r\n") && world.side(client).open(), "{got}");
    world.assert_at_rest();
}

#[test]
fn answers_without_a_body_have_none() {
    for (method, answer, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n", Some("1234")),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n", Some("77")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
    ] {
        let mut world = World::base();
        let client = world.client();
        world.send(client, format!("{method} / HTTP/1.1\r\nhost: h\r\n\r\n"));
        let up = world.connected();
        world.send(up, answer);
        let got = world.take(client);
        assert!(got.ends_with("\r\n\r\n") && got.matches("\r\n\r\n").count() == 1, "{got}");
        let said = got.lines().find_map(|l| l.strip_prefix("content-length: "));
        assert_eq!(said, length, "{answer}");
        assert!(!got.contains("transfer-encoding"));
        // The client's connection goes on, and the endpoint's unless it might answer HEAD with a body after all.
        world.send(client, GET);
        let next = if method == "HEAD" { world.connected() } else { world.newest() };
        world.send(next, OK);
        assert!(world.take(client).ends_with("hello"));
        world.assert_at_rest();
    }
}

#[test]
fn a_body_behind_an_answer_to_head_answers_nobody() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "HEAD / HTTP/1.1\r\nhost: h\r\n\r\n");
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\ncontent-length: 38\r\n\r\n");
    world.take(client);
    world.send(client, GET);
    // A new connection, though the old one seemed to have ended its answer.
    let next = world.connected();
    world.send(next, OK);
    assert!(world.take(client).ends_with("hello"));
}

#[test]
fn local_answers_to_head_have_no_body_either() {
    let mut world = World::with("path = \"/**\"", "path = \"/only\"", "");
    let client = world.client();
    world.send(client, "HEAD /no HTTP/1.1\r\nhost: h\r\n\r\n");
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 404") && got.ends_with("\r\n\r\n"), "{got}");
    assert!(world.side(client).open());
}

#[test]
fn interim_answers_reach_only_those_who_know_them() {
    for (version, passed) in [("1.1", true), ("1.0", false)] {
        let mut world = World::base();
        let client = world.client();
        world.send(client, format!("GET / HTTP/{version}\r\nhost: h\r\n\r\n"));
        let up = world.connected();
        world.send(up, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        let early = world.take(client);
        assert_eq!(early.contains("103 Early Hints\r\nlink: </a>\r\n\r\n"), passed, "{early}");
        assert!(!early.contains("100 Continue"));
        world.send(up, OK);
        assert!(world.take(client).ends_with("hello"));
    }
}

#[test]
fn continue_is_said_here_once_somebody_wants_the_body() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(world.take(client), "");
    let up = world.connected();
    assert_eq!(world.take(client), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(!world.take(up).contains("expect"));
    world.send(client, "abc");
    assert_eq!(world.take(up), "abc");
    world.send(up, OK);
    assert!(world.take(client).starts_with("HTTP/1.1 200"));
    // A refusal comes instead of it, and then the body does not: the connection cannot go on.
    let mut world = World::with("path = \"/**\"", "path = \"/only\"", "");
    let client = world.client();
    world.send(client, "POST /no HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 404") && got.contains("connection: close\r\n"), "{got}");
    assert!(world.side(client).eof);
    // Any other expectation is refused.
    let client = world.client();
    world.send(client, "GET /only HTTP/1.1\r\nhost: h\r\nexpect: the-unexpected\r\n\r\n");
    assert!(world.take(client).starts_with("HTTP/1.1 417"));
    world.assert_at_rest();
}

#[test]
fn old_clients_are_answered_in_their_way() {
    // Closed unless asked otherwise; never chunked.
    let mut world = World::base();
    let client = world.client();
    world.send(client, "GET / HTTP/1.0\r\n\r\n");
    let up = world.connected();
    assert!(world.take(up).contains("host: 127.0.0.1:9001\r\n"));
    world.send(up, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let got = world.take(client);
    assert!(got.ends_with("connection: close\r\n\r\nhi") && !got.contains("chunked"), "{got}");
    assert!(!world.side(client).open());
    let client = world.client();
    world.send(client, "GET / HTTP/1.0\r\nhost: h\r\nconnection: keep-alive\r\n\r\n");
    world.send(up, OK);
    assert!(world.take(client).contains("connection: keep-alive\r\n"));
    assert!(world.side(client).open());
    world.assert_at_rest();
}

#[test]
fn close_is_announced_and_kept() {
    let mut world = World::base();
    let (sent, got) = through(&mut world, "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n", OK);
    assert!(!sent.contains("connection"), "the upstream's connection is another: {sent}");
    assert!(got.contains("connection: close\r\n"));
    assert!(world.sides.values().filter(|s| s.open()).count() == 1);
    // An upstream that closes is not asked again; the client's connection goes on.
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(!world.side(up).open() && world.side(client).open());
    assert!(!world.take(client).contains("connection"));
    world.assert_at_rest();
}

#[test]
fn max_requests_closes_in_time() {
    let mut world = World::with("tunnel_timeout", "max_requests = 2\ntunnel_timeout", "");
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, OK);
    assert!(!world.take(client).contains("connection: close"));
    world.send(client, GET);
    world.send(up, OK);
    assert!(world.take(client).contains("connection: close"));
    assert!(!world.side(client).open());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut world = World::base();
    let client = world.client();
    world.send(
        client,
        "POST /1 HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nhost: h\r\n\r\nGET /3 HTTP/1.1\r\n",
    );
    let up = world.connected();
    assert!(world.take(up).starts_with("POST /1 "));
    world.send(client, "host: h\r\n\r\n\r\nGET /4 HTTP/1.1\r\nhost: h\r\n\r\n");
    for path in ["/2", "/3", "/4"] {
        assert_eq!(world.take(up), "", "one at a time");
        world.send(up, OK);
        assert!(world.take(client).ends_with("hello"));
        let _ = path;
        assert!(world.side(up).out.starts_with(format!("GET {path} ").as_bytes()));
        world.take(up);
    }
    world.send(up, OK);
    world.assert_at_rest();
}

#[test]
fn proxy_headers_name_the_client() {
    let proxied = World::with("tunnel_timeout", "proxy_protocol = [\"192.0.2.0/24\"]\ntunnel_timeout", "");
    let mut world = proxied;
    assert!(world.client_from("198.51.100.1").is_none(), "not a load balancer");
    let client = world.client();
    for piece in ["PROXY TCP4 203.0.113.9 ", "10.0.0.1 5000 80\r", "\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"] {
        world.send(client, piece);
    }
    let up = world.connected();
    assert!(world.take(up).contains("x-forwarded-for: 203.0.113.9\r\n"));
    // A health check of the balancer itself, and something that is no header at all.
    let client = world.client();
    world.send(client, b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00");
    world.send(up, OK);
    world.send(client, GET);
    assert!(world.take(up).contains("x-forwarded-for: 192.0.2.7\r\n"));
    let client = world.client();
    world.send(client, GET);
    assert!(!world.side(client).open() && world.take(client).is_empty());
    assert_eq!(world.count(Counter::ParseErrors), 1);
}

#[test]
fn thousands_of_pipelined_requests_do_not_hold_the_loop() {
    let mut world = World::with("path = \"/**\"", "path = \"/only\"", "");
    let client = world.client();
    let other = world.client();
    // Answered here, at once: no route matches.
    let burst = "GET /x HTTP/1.1\r\nhost: h\r\n\r\n".repeat(4_000);
    world.send(client, &burst);
    let answered = |text: &str| text.matches("HTTP/1.1 404 ").count();
    let mut total = answered(&world.take(client));
    assert!((1..=128).contains(&total), "{total} in one callback");
    world.send(other, "GET /x HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(answered(&world.take(other)), 1, "others are served meanwhile");
    for _ in 0..40 {
        world.seconds(0.02);
        let more = answered(&world.take(client));
        assert!(more <= 256, "{more} in one turn");
        total += more;
    }
    assert_eq!(total, 4_000);
    world.assert_at_rest();
}

#[test]
fn a_policy_that_sets_the_host_sets_the_only_one() {
    let more = "policies = [\"host\"]\n[policies.host.headers]\nrequest = { set = { Host = \"inside.example\" } }\n";
    let mut world = World::with("service = \"app\"", "service = \"app\"", more);
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    let asked = world.take(up).to_ascii_lowercase();
    assert_eq!(asked.matches("\r\nhost: ").count(), 1, "{asked}");
    assert!(asked.contains("\r\nhost: inside.example\r\n"), "{asked}");
    world.send(up, OK);
    assert!(world.take(client).ends_with("hello"));
    world.assert_at_rest();
}

#[test]
fn interim_answers_are_passed_on_without_what_the_gateway_owns_and_not_for_ever() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-request-id: forged\r\nx-pygate-error: forged\r\n\r\n";
    let mut world = World::base();
    let client = world.client();
    world.send(client, GET);
    let up = world.connected();
    world.send(up, early);
    let got = world.take(client);
    assert!(got.starts_with("HTTP/1.1 103 ") && got.contains("link: </a>") && !got.contains("forged"), "{got}");
    world.send(up, early.repeat(16));
    assert!(world.take(client).contains("HTTP/1.1 502 "));
    world.assert_at_rest();
}

#[test]
fn a_body_of_tiny_chunks_does_not_hold_the_loop() {
    let mut world = World::base();
    let client = world.client();
    world.send(client, "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
    let up = world.connected();
    world.take(up);
    let chunks = "1\r\nx\r\n".repeat(20_000);
    world.send(client, &chunks);
    let at_once = world.take(up).matches('x').count();
    assert!(at_once <= 2100, "{at_once}");
    assert!(world.side(client).paused, "no more is read meanwhile");
    let mut sent = at_once;
    for _ in 0..15 {
        world.advance(std::time::Duration::from_millis(20));
        sent += world.take(up).matches('x').count();
    }
    assert_eq!(sent, 20_000);
    assert!(!world.side(client).paused);
    world.send(client, "0\r\n\r\n");
    world.send(up, super::OK);
    assert!(world.take(client).ends_with("hello"));
    world.assert_at_rest();
}
