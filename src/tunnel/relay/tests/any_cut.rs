//! The two directions without sockets, cut in every way, and the marks of messages in them.

use std::io::Read;
use std::io::Write;

use proptest::prelude::ProptestConfig;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::prelude::prop_assert;
use proptest::prelude::prop_assert_eq;
use proptest::proptest;

use crate::tls::test_peer::Pair;
use crate::tls::test_peer::SUITES;
use crate::tls::test_peer::pair;
use crate::tunnel::relay::marks::Marks;

use super::*;

/// Fills the spaces as a socket would that has `bytes` to give. Says how many it took.
fn read_into(upwards: &mut Upwards, bytes: &[u8]) -> usize {
    let mut spaces = upwards.spaces();
    let mut rest = bytes;
    for space in &mut spaces {
        let length = rest.len().min(space.len());
        space[..length].copy_from_slice(&rest[..length]);
        rest = &rest[length..];
    }
    bytes.len() - rest.len()
}

fn plain_read_by(server: &mut rustls::ServerConnection, mut wire: &[u8]) -> Vec<u8> {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_from_the_kernel_arrive_however_reads_and_writes_are_cut(
        plain in prop::collection::vec(any::<u8>(), 1..200_000),
        reads in prop::collection::vec(1usize..60_000, 1..8),
        writes in prop::collection::vec(1usize..60_000, 1..8),
        limit in 70u64..200,
        suite in 0..SUITES.len(),
    ) {
        let Pair { mut records, mut server, .. } = pair(SUITES[suite]);
        if SUITES[suite].as_str().unwrap().starts_with("TLS13") {
            // So that keys change in the middle.
            records.limit_records(limit);
        }
        let buffers = Buffers::default();
        let mut upwards = Upwards::new(buffers.clone(), &records);
        let (mut arrived, mut counted, mut rest) = (Vec::new(), 0, plain.as_slice());
        let (mut reads, mut writes) = (reads.iter().cycle(), writes.iter().cycle());
        while !rest.is_empty() {
            if records.owes() {
                records.pay(upwards.queue()).unwrap();
            } else {
                let most = rest.len().min(*reads.next().unwrap());
                let length = read_into(&mut upwards, &rest[..most]);
                upwards.filled(length, &mut records).unwrap();
                rest = &rest[length..];
            }
            while !upwards.pending().is_empty() {
                let length = upwards.pending().len().min(*writes.next().unwrap());
                arrived.extend(plain_read_by(&mut server, &upwards.pending()[..length]));
                counted += upwards.sent(length);
            }
            prop_assert!(buffers.out() <= 1);
        }
        prop_assert_eq!(counted, plain.len());
        prop_assert!(arrived == plain);
    }

    #[test]
    fn bytes_from_the_server_arrive_however_reads_and_writes_are_cut(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40_000), 1..8),
        reads in prop::collection::vec(1usize..60_000, 1..8),
        writes in prop::collection::vec(1usize..60_000, 1..8),
        suite in 0..SUITES.len(),
    ) {
        let Pair { mut records, mut server, .. } = pair(SUITES[suite]);
        let mut wire = Vec::new();
        for part in &parts {
            server.writer().write_all(part).unwrap();
            if SUITES[suite].as_str().unwrap().starts_with("TLS13") {
                server.refresh_traffic_keys().unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
        }
        server.send_close_notify();
        server.write_tls(&mut wire).unwrap();
        let buffers = Buffers::default();
        let mut downwards = Downwards::new(buffers.clone(), &[]);
        let (mut arrived, mut rest) = (Vec::new(), wire.as_slice());
        let (mut reads, mut writes) = (reads.iter().cycle(), writes.iter().cycle());
        while !downwards.is_closed() {
            let space = downwards.space();
            let length = space.len().min(rest.len()).min(*reads.next().unwrap());
            prop_assert!(length > 0);
            space[..length].copy_from_slice(&rest[..length]);
            rest = &rest[length..];
            downwards.filled(length);
            downwards.open(&mut records).unwrap();
            while downwards.has_pending() {
                let pending: Vec<u8> =
                    downwards.pending().iter().flat_map(|slice| slice.to_vec()).collect();
                let length = pending.len().min(*writes.next().unwrap());
                arrived.extend_from_slice(&pending[..length]);
                downwards.sent(length);
            }
            prop_assert!(buffers.out() <= 1);
        }
        prop_assert!(arrived == parts.concat());
    }

    #[test]
    fn garbage_from_the_server_ends_in_an_error(
        garbage in prop::collection::vec(any::<u8>(), 20_000..40_000),
        piece in 1usize..5000,
    ) {
        let Pair { mut records, .. } = pair(SUITE);
        let mut downwards = Downwards::new(Buffers::default(), &[]);
        let ended = garbage.chunks(piece).find_map(|bytes| {
            downwards.space()[..bytes.len()].copy_from_slice(bytes);
            downwards.filled(bytes.len());
            downwards.open(&mut records).err()
        });
        prop_assert!(ended.is_some() && !downwards.has_pending());
    }
}

/// A stream of record-marked messages, and where each of them ends.
fn messages() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let fragment = prop::collection::vec(any::<u8>(), 0..300);
    let message = prop::collection::vec(fragment, 1..4);
    prop::collection::vec(message, 0..12).prop_map(|messages| {
        let (mut stream, mut ends) = (Vec::new(), Vec::new());
        for message in messages {
            let last = message.len() - 1;
            for (number, fragment) in message.iter().enumerate() {
                let length = u32::try_from(fragment.len()).unwrap();
                let mark = if number == last { length | 1 << 31 } else { length };
                stream.extend(mark.to_be_bytes());
                stream.extend(fragment);
            }
            ends.push(stream.len());
        }
        (stream, ends)
    })
}

proptest! {
    #[test]
    fn marks_know_at_every_cut_how_many_messages_are_whole_and_whether_one_has_begun(
        (stream, ends) in messages(),
        cuts in prop::collection::vec(1_usize..200, 1..6),
    ) {
        let (mut marks, mut at) = (Marks::default(), 0);
        let mut cuts = cuts.iter().cycle();
        while at < stream.len() {
            let end = stream.len().min(at + cuts.next().unwrap());
            marks.follow(&stream[at..end]);
            at = end;
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(marks.messages(), whole as u64);
            prop_assert_eq!(marks.is_between(), at == 0 || ends.contains(&at));
            let next = ends.iter().find(|end| **end > at).unwrap_or(&usize::MAX);
            prop_assert!((1..=next - at).contains(&marks.wanted()), "never beyond a message");
        }
    }

    #[test]
    fn marks_follow_garbage_too(garbage in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut marks = Marks::default();
        for bytes in garbage.chunks(7) {
            marks.follow(bytes);
            prop_assert!(marks.wanted() > 0);
        }
    }
}
