//! The records against any stream that a server or somebody in between may make of them.

use std::io::Write;

use proptest::prelude::Just;
use proptest::prelude::ProptestConfig;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prelude::prop;
use proptest::prelude::prop_assert;
use proptest::prelude::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;

use crate::tls::test_peer::Pair;
use crate::tls::test_peer::SUITES;
use crate::tls::test_peer::pair;

use super::*;

/// What rustls' server does next.
#[derive(Clone, Debug)]
enum Step {
    Data(Vec<u8>),
    /// Changes its keys and asks for ours, which is a record without data.
    KeyUpdate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let data = prop::collection::vec(any::<u8>(), 1..3000).prop_map(Step::Data);
    prop::collection::vec(prop_oneof![3 => data, 1 => Just(Step::KeyUpdate)], 1..10)
}

/// What somebody in between does to the records.
#[derive(Clone, Copy, Debug)]
enum Mischief {
    Swap,
    Repeat,
    Drop,
    Alter(u8),
    /// Puts bytes of a record's length in front.
    Insert,
}

fn mischief() -> impl Strategy<Value = Mischief> {
    prop_oneof![
        Just(Mischief::Swap),
        Just(Mischief::Repeat),
        Just(Mischief::Drop),
        (1_u8..).prop_map(Mischief::Alter),
        Just(Mischief::Insert),
    ]
}

impl Mischief {
    /// At a record, and at a byte of it.
    fn befalls(self, records: &mut Vec<Vec<u8>>, at: usize, byte: prop::sample::Index) {
        match self {
            Self::Swap if at + 1 < records.len() => records.swap(at, at + 1),
            Self::Swap | Self::Repeat => records.insert(at, records[at].clone()),
            Self::Drop => drop(records.remove(at)),
            Self::Alter(bits) => {
                // The version of a record means nothing any more.
                let byte = match byte.index(records[at].len()) {
                    1 | 2 => HEADER,
                    byte => byte,
                };
                records[at][byte] ^= bits;
            }
            Self::Insert => {
                let forged = records[at].iter().enumerate().map(|(place, byte)| match place {
                    0..HEADER => *byte,
                    _ => !*byte,
                });
                let forged = forged.collect();
                records.insert(at, forged);
            }
        }
    }
}

/// The server's records for these steps, one by one, and the data in them.
fn spoken(
    server: &mut rustls::ServerConnection,
    steps: &[Step],
    tls13: bool,
) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Data(data) => {
                server.writer().write_all(data).unwrap();
                plain.extend_from_slice(data);
            }
            Step::KeyUpdate if tls13 => server.refresh_traffic_keys().unwrap(),
            Step::KeyUpdate => {}
        }
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
    }
    let (mut records, mut rest) = (Vec::new(), wire.as_slice());
    while let [_, _, _, high, low, ..] = *rest {
        let (record, after) = rest.split_at(HEADER + usize::from(u16::from_be_bytes([high, low])));
        records.push(record.to_vec());
        rest = after;
    }
    (records, plain)
}

/// The data of a stream that comes in pieces, up to its first fault.
fn opened(
    records: &mut Records,
    wire: &[u8],
    mut pieces: impl Iterator<Item = usize>,
) -> (Vec<u8>, Option<RecordFault>) {
    let (mut plain, mut held, mut rest) = (Vec::new(), Vec::new(), wire);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(pieces.next().unwrap_or(1).min(rest.len()));
        held.extend_from_slice(piece);
        rest = after;
        loop {
            let length = match records.open(&mut held) {
                Ok(Opened::Partial) => break,
                Ok(Opened::Control { length }) => length,
                Ok(Opened::Data { length, plain: range }) => {
                    plain.extend_from_slice(&held[range]);
                    length
                }
                Ok(Opened::Closed) => return (plain, None),
                Err(fault) => return (plain, Some(fault)),
            };
            held.drain(..length);
        }
    }
    (plain, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn data_arrive_whole_with_control_records_anywhere_and_however_the_stream_is_cut(
        steps in steps(),
        pieces in prop::collection::vec(1_usize..4000, 1..8),
        suite in 0..SUITES.len(),
    ) {
        let Pair { mut records, mut server, .. } = pair(SUITES[suite]);
        let tls13 = records.is_tls13();
        let (spoken, plain) = spoken(&mut server, &steps, tls13);
        let (opened, fault) =
            opened(&mut records, &spoken.concat(), pieces.iter().copied().cycle());
        prop_assert!(fault.is_none(), "{fault:?}");
        prop_assert!(opened == plain);
        let changed = tls13 && steps.iter().any(|step| matches!(step, Step::KeyUpdate));
        prop_assert_eq!(records.owes(), changed, "keys are changed in return");
    }

    #[test]
    fn no_byte_comes_out_behind_a_record_that_is_swapped_repeated_missing_altered_or_forged(
        data in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..2000), 2..8),
        mischief in mischief(),
        at: prop::sample::Index,
        byte: prop::sample::Index,
        pieces in prop::collection::vec(1_usize..4000, 1..8),
        suite in 0..SUITES.len(),
    ) {
        let Pair { mut records, mut server, .. } = pair(SUITES[suite]);
        let steps: Vec<Step> = data.iter().cloned().map(Step::Data).collect();
        let (mut stream, _) = spoken(&mut server, &steps, records.is_tls13());
        let at = at.index(stream.len());
        mischief.befalls(&mut stream, at, byte);
        let (opened, fault) =
            opened(&mut records, &stream.concat(), pieces.iter().copied().cycle());
        // Each step is a record: those in front of the mischief are whole.
        let sound: usize = match mischief {
            Mischief::Swap if at + 1 == data.len() => at + 1,
            Mischief::Repeat => at + 1,
            _ => at,
        };
        prop_assert!(opened == data[..sound].concat(), "{mischief:?}: {} bytes", opened.len());
        // A record that lacks at the end, or one that is said to be longer, is waited for.
        let may_wait = matches!(mischief, Mischief::Drop | Mischief::Alter(_));
        prop_assert!(fault.is_some() || may_wait, "{mischief:?}");
    }
}
