//! The look into a ClientHello, held against rustls.
//!
//! Promises: the shortest complete prefix decides, shorter ones wait, longer ones change nothing; where rustls reads the
//! message too, both read the same name and protocols.

use super::split::Split;
use pygate_core::tls;
use rustls::server::Acceptor;

pub fn client_hello(data: &[u8]) {
    let whole = tls::client_hello(data);
    let mut end = 0;
    for piece in Split::Chosen.pieces(data) {
        end += piece.len();
        match (tls::client_hello(&data[..end]), &whole) {
            (Ok(None), _) => {}
            (Ok(Some(hello)), Ok(Some(last))) => assert_eq!(&hello, last, "more bytes change the hello"),
            (Err(_), Err(_)) => {}
            (part, _) => panic!("{part:?} became {whole:?}"),
        }
    }
    let Ok(Some(hello)) = whole else { return };
    let mut acceptor = Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() {
        if !matches!(acceptor.read_tls(&mut rest), Ok(n) if n > 0) {
            return;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello();
                let name = theirs.server_name().map(|n| n.trim_end_matches('.').to_ascii_lowercase());
                assert_eq!(hello.sni, name);
                let protocols = theirs.alpn().map(|list| list.map(<[u8]>::to_vec).collect::<Vec<_>>());
                assert_eq!(hello.alpn, protocols.unwrap_or_default());
                return;
            }
            Err(_) => return,
        }
    }
}
