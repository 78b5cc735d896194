//! What must hold of the record layer, whatever a server says.

use crate::null_suite;
use crate::tls::record::HEADER;
use crate::tls::record::Opened;
use crate::tls::record::RecordFault;
use crate::tls::record::Records;

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
const KEY_UPDATE: &[u8] = &[24, 0, 0, 1, 1];

/// The first byte is the version of TLS and how the stream is cut; then there are records, each with a byte for
/// its kind and one for its length, until bytes that are none.
pub fn records(bytes: &[u8]) {
    let Some((&first, plan)) = bytes.split_first() else { return };
    let tls13 = first & 1 == 0;
    let (stream, said) = stream(tls13, plan);
    let mut records = Records::new(
        null_suite::suite(tls13),
        null_suite::extracted(),
        Box::new(null_suite::SameSecrets),
    )
    .unwrap();
    let (mut held, mut heard, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for piece in stream.chunks(1 + usize::from(first >> 1)) {
        held.extend_from_slice(piece);
        match opened(&mut records, &mut held, &mut heard) {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => {
                crate::one_line(&fault.to_string());
                records.accuse(&fault, &mut answers);
                break;
            }
        }
        if answer(&mut records, &mut answers).is_err() {
            break;
        }
    }
    // Of the bytes that are no records nothing is known.
    if let Some(said) = said {
        assert!(said.starts_with(&heard), "other bytes came out");
    }
    whole_records(&answers);
}

/// The server's bytes, and the data in them where that is known.
fn stream(tls13: bool, mut plan: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut stream, mut said) = (Vec::new(), Vec::new());
    while let [kind, length, rest @ ..] = plan {
        let length = usize::from(*length).min(rest.len());
        let (content, after) = rest.split_at(length);
        plan = after;
        let record = match kind % 8 {
            0..=2 => {
                said.extend_from_slice(content);
                null_suite::record(tls13, DATA, content)
            }
            3 => null_suite::record(tls13, HANDSHAKE, content),
            4 => null_suite::record(tls13, ALERT, content),
            5 => null_suite::record(tls13, HANDSHAKE, KEY_UPDATE),
            // Of any other kind (23 is none of these), and longer than a record may be.
            6 => null_suite::record(tls13, *kind, &content.repeat(70)),
            _ => {
                stream.extend_from_slice(rest);
                return (stream, None);
            }
        };
        stream.extend(record);
    }
    (stream, Some(said))
}

/// Opens what is whole. Whether more may come.
fn opened(
    records: &mut Records,
    held: &mut Vec<u8>,
    heard: &mut Vec<u8>,
) -> Result<bool, RecordFault> {
    loop {
        let length = match records.open(held)? {
            Opened::Partial => {
                let whole = held
                    .first_chunk::<HEADER>()
                    .map(|header| HEADER + usize::from(u16::from_be_bytes([header[3], header[4]])));
                assert!(
                    whole.is_none_or(|whole| held.len() < whole),
                    "a whole record is waited for"
                );
                return Ok(true);
            }
            Opened::Control { length } => length,
            Opened::Data { length, plain } => {
                assert!(plain.start >= HEADER && plain.end <= length, "{plain:?} of {length}");
                heard.extend_from_slice(&held[plain]);
                length
            }
            Opened::Closed => return Ok(false),
        };
        assert!(length > HEADER && length <= held.len());
        held.drain(..length);
    }
}

/// Says something, after what is owed.
fn answer(records: &mut Records, answers: &mut Vec<u8>) -> Result<(), RecordFault> {
    if records.owes() {
        let before = answers.len();
        records.pay(answers)?;
        assert!(answers.len() > before);
    }
    let layout = records.layout();
    let mut slot = vec![7; layout.before + 3 + layout.after];
    records.seal(&mut slot)?;
    answers.extend(slot);
    Ok(())
}

/// Our own bytes are records from the first to the last.
fn whole_records(mut bytes: &[u8]) {
    while let [kind, 3, 3, high, low, rest @ ..] = bytes {
        assert!((ALERT..=DATA).contains(kind));
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    assert!(bytes.is_empty());
}
