//! The records against rustls' own server, and against whatever bytes a peer may send; [`any_stream`] against
//! whatever becomes of the server's records on their way.

mod any_stream;

use std::io::Read;
use std::io::Write;

use proptest::prelude::ProptestConfig;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::prelude::prop_assert;
use proptest::proptest;
use rustls::CipherSuite;
use rustls::ServerConnection;

use crate::tls::test_peer::Pair;
use crate::tls::test_peer::SUITES;
use crate::tls::test_peer::pair;

use super::*;

/// What the server reads of plain bytes that are sealed in records of at most `most` bytes.
fn through_to_server(pair: &mut Pair, plain: &[u8], most: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    for content in plain.chunks(most) {
        if pair.records.owes() {
            pair.records.pay(&mut wire).unwrap();
        }
        wire.extend(sealed(&mut pair.records, content));
    }
    read_by(&mut pair.server, &wire)
}

fn sealed(records: &mut Records, content: &[u8]) -> Vec<u8> {
    let Layout { before, after } = records.layout();
    let mut slot = vec![0; before];
    slot.extend_from_slice(content);
    slot.resize(slot.len() + after, 0);
    records.seal(&mut slot).unwrap();
    slot
}

fn read_by(server: &mut ServerConnection, mut wire: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !wire.is_empty() {
        server.read_tls(&mut wire).unwrap();
        server.process_new_packets().unwrap();
        let mut some = vec![0; 1 << 18];
        while let Ok(length @ 1..) = server.reader().read(&mut some) {
            plain.extend_from_slice(&some[..length]);
        }
    }
    plain
}

/// What the server has to send.
fn written_by(server: &mut ServerConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut wire).unwrap();
    }
    wire
}

fn through_from_server(pair: &mut Pair, plain: &[u8]) -> Vec<u8> {
    let mut opened = Vec::new();
    for part in plain.chunks(1 << 15) {
        pair.server.writer().write_all(part).unwrap();
        opened.extend(opened_by(&mut pair.records, written_by(&mut pair.server)).0);
    }
    opened
}

/// The plain bytes of whole records, and whether they end with close_notify.
fn opened_by(records: &mut Records, mut wire: Vec<u8>) -> (Vec<u8>, bool) {
    let (mut plain, mut at) = (Vec::new(), 0);
    loop {
        match records.open(&mut wire[at..]).unwrap() {
            Opened::Partial => {
                assert_eq!(at, wire.len());
                return (plain, false);
            }
            Opened::Control { length } => at += length,
            Opened::Data { length, plain: range } => {
                plain.extend_from_slice(&wire[at + range.start..at + range.end]);
                at += length;
            }
            Opened::Closed => return (plain, true),
        }
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| at.to_le_bytes()[0].wrapping_mul(31) ^ at.to_le_bytes()[1]).collect()
}

#[test]
fn bytes_survive_both_ways_with_every_suite() {
    for suite in SUITES {
        let mut pair = pair(suite);
        for length in [1, 1000, FRAGMENT, FRAGMENT + 1, 100_000] {
            let plain = noise(length);
            let name = suite.as_str().unwrap();
            assert_eq!(through_to_server(&mut pair, &plain, FRAGMENT), plain, "{name}, {length}");
            assert_eq!(through_from_server(&mut pair, &plain), plain, "{name}, {length}");
        }
    }
}

#[test]
fn key_updates_are_followed_both_ways() {
    for suite in SUITES.into_iter().filter(|suite| suite.as_str().unwrap().starts_with("TLS13")) {
        let mut pair = pair(suite);
        for round in 0..5 {
            pair.server.refresh_traffic_keys().unwrap();
            let plain = noise(50_000 + round);
            assert_eq!(through_from_server(&mut pair, &plain), plain);
            assert!(pair.records.owes(), "rustls' server asks for an update in return");
            assert_eq!(through_to_server(&mut pair, &plain, FRAGMENT), plain);
            assert!(!pair.records.owes());
        }
    }
}

#[test]
fn keys_that_have_sealed_enough_are_changed_and_the_server_changes_its_own() {
    let mut pair = pair(CipherSuite::TLS13_AES_128_GCM_SHA256);
    for _ in 0..20 {
        pair.records.limit_records(100);
        let plain = noise(3000);
        assert_eq!(through_to_server(&mut pair, &plain, 50), plain);
        assert_eq!(through_from_server(&mut pair, &plain), plain);
    }
}

#[test]
fn a_session_of_tls_1_2_ends_before_its_keys_are_worn_out() {
    let mut pair = pair(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    pair.records.limit_records(10);
    let Layout { before, after } = pair.records.layout();
    let mut slot = vec![0; before + 1 + after];
    let mut sealed = 0;
    let fault = loop {
        match pair.records.seal(&mut slot.clone()) {
            Ok(()) => sealed += 1,
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, RecordFault::KeysSpent) && sealed < 10, "{fault} after {sealed}");
    slot.clear();
    pair.records.close(&mut slot).unwrap();
    assert!(!slot.is_empty(), "the server is still told");
}

#[test]
fn the_end_is_said_and_understood_both_ways() {
    for suite in SUITES {
        let mut pair = pair(suite);
        let mut wire = Vec::new();
        pair.records.close(&mut wire).unwrap();
        pair.server.read_tls(&mut wire.as_slice()).unwrap();
        assert!(pair.server.process_new_packets().unwrap().peer_has_closed());
        pair.server.send_close_notify();
        let wire = written_by(&mut pair.server);
        assert_eq!(opened_by(&mut pair.records, wire), (Vec::new(), true));
    }
}

#[test]
fn a_changed_byte_is_found_and_the_server_is_told() {
    for suite in SUITES {
        let mut pair = pair(suite);
        pair.server.writer().write_all(b"plain").unwrap();
        let mut wire = written_by(&mut pair.server);
        *wire.last_mut().unwrap() ^= 1;
        let fault = pair.records.open(&mut wire).unwrap_err();
        let mut alert = Vec::new();
        pair.records.accuse(&fault, &mut alert);
        pair.server.read_tls(&mut alert.as_slice()).unwrap();
        let told = pair.server.process_new_packets().unwrap_err();
        assert_eq!(told, Error::AlertReceived(AlertDescription::BadRecordMac));
    }
}

#[test]
fn a_ticket_leads_to_a_session_that_is_resumed() {
    let config = crate::tls::test_peer::configs(CipherSuite::TLS13_AES_128_GCM_SHA256);
    let kinds: Vec<_> = (0..2)
        .map(|_| {
            let mut pair = crate::tls::test_peer::pair_with(&config);
            // The tickets come behind the handshake, so it is our record layer that hands them to rustls.
            let tickets = std::mem::take(&mut pair.received);
            assert_eq!(opened_by(&mut pair.records, tickets), (Vec::new(), false));
            pair.server.handshake_kind().unwrap()
        })
        .collect();
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_a_peer_sends_leads_to_an_error_or_to_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        looks_like_a_record: bool,
        suite in 0..SUITES.len(),
    ) {
        let mut pair = pair(SUITES[suite]);
        let mut bytes = bytes;
        if looks_like_a_record && bytes.len() > HEADER {
            let length = u16::try_from(bytes.len() - HEADER).unwrap().to_be_bytes();
            bytes[..HEADER].copy_from_slice(&[23, 3, 3, length[0], length[1]]);
        }
        // The end of the wait is the only thing that garbage may lead to.
        let opened = pair.records.open(&mut bytes);
        prop_assert!(matches!(opened, Ok(Opened::Partial) | Err(_)), "{opened:?}");
    }

    #[test]
    fn a_record_that_is_cut_or_changed_never_gives_other_bytes(
        plain in prop::collection::vec(any::<u8>(), 1..2000),
        at: prop::sample::Index,
        flip in 1u8..,
        suite in 0..SUITES.len(),
    ) {
        let mut pair = pair(SUITES[suite]);
        pair.server.writer().write_all(&plain).unwrap();
        let wire = written_by(&mut pair.server);
        let mut cut = wire[..at.index(wire.len())].to_vec();
        prop_assert!(matches!(pair.records.open(&mut cut), Ok(Opened::Partial)));
        let mut changed = wire;
        let at = at.index(changed.len());
        changed[at] ^= flip;
        match pair.records.open(&mut changed) {
            Err(_) | Ok(Opened::Partial) => {}
            // RFC 8446, section 5.1: the minor version is to be ignored.
            Ok(Opened::Data { plain: range, .. }) => {
                prop_assert!(at == 2 && changed[range] == plain);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
