//! What a peer may say after the handshake besides data: alerts, tickets, new keys.
//!
//! Each kind is taken as often as rustls takes it, so that nobody keeps us busy without sending data.

use rustls::AlertDescription;
use rustls::ContentType;
use rustls::HandshakeType;

use crate::tls::record::RecordFault;

pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;

/// A type and three bytes of length before each handshake message (RFC 8446, section 4).
const MESSAGE_HEADER: usize = 4;
/// The longest handshake message that rustls takes.
const LONGEST_MESSAGE: usize = 0xffff;

const MOST_WARNINGS: u32 = 4;
const MOST_HELLO_REQUESTS: u32 = 1;
const MOST_KEY_UPDATES_WITHOUT_DATA: u32 = 32;

/// Something to act upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// close_notify.
    Closed,
    /// The content of a NewSessionTicket.
    Ticket(Vec<u8>),
    /// What follows is sealed with the next keys.
    KeyUpdate {
        /// The peer wants ours as well.
        requested: bool,
    },
    /// A TLS 1.2 server would like another handshake. It does not get one.
    HelloRequest,
}

/// Reads alerts and handshake messages, which may be spread over records.
#[derive(Debug)]
pub(super) struct Messages {
    tls13: bool,
    /// The beginning of a handshake message.
    partial: Vec<u8>,
    warnings: u32,
    hello_requests: u32,
    key_updates: u32,
}

impl Messages {
    pub(super) fn new(tls13: bool) -> Self {
        Self { tls13, partial: Vec::new(), warnings: 0, hello_requests: 0, key_updates: 0 }
    }

    /// Notes that data have come.
    pub(super) fn data(&mut self) -> Result<(), RecordFault> {
        self.key_updates = 0;
        self.nothing_partial()
    }

    /// Reads the content of a record that holds no data.
    pub(super) fn read(
        &mut self,
        kind: ContentType,
        content: &[u8],
    ) -> Result<Vec<Notice>, RecordFault> {
        match kind {
            ContentType::Alert => {
                self.nothing_partial()?;
                Ok(self.alert(content)?.into_iter().collect())
            }
            ContentType::Handshake => self.handshake(content),
            _ => Err(RecordFault::Unexpected("a record of another kind")),
        }
    }

    /// RFC 8446, section 5.1: a handshake message that is spread over records is not interrupted.
    fn nothing_partial(&self) -> Result<(), RecordFault> {
        match self.partial.is_empty() {
            true => Ok(()),
            false => Err(RecordFault::Unexpected("a record in the middle of a handshake message")),
        }
    }

    fn alert(&mut self, content: &[u8]) -> Result<Option<Notice>, RecordFault> {
        let &[level, description] = content else {
            return Err(RecordFault::Malformed("an alert that is none"));
        };
        let alert = AlertDescription::from(description);
        // RFC 8446, section 6: in TLS 1.3 the level means nothing, and all but these two end the session.
        let warning = match self.tls13 {
            true => alert == AlertDescription::UserCanceled,
            false => level == WARNING,
        };
        self.warnings += u32::from(warning);
        match alert {
            AlertDescription::CloseNotify => Ok(Some(Notice::Closed)),
            _ if warning && self.warnings <= MOST_WARNINGS => Ok(None),
            _ => Err(RecordFault::Alert(alert)),
        }
    }

    fn handshake(&mut self, content: &[u8]) -> Result<Vec<Notice>, RecordFault> {
        if content.is_empty() {
            return Err(RecordFault::Malformed("an empty handshake record"));
        }
        self.partial.extend_from_slice(content);
        let bytes = std::mem::take(&mut self.partial);
        let mut notices = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((kind, body, after)) = split_message(rest)? {
            let notice = self.message(kind, body)?;
            // RFC 8446, section 5.1: what is sealed with other keys stands in another record.
            if matches!(notice, Notice::KeyUpdate { .. }) && !after.is_empty() {
                return Err(RecordFault::Unexpected("a message behind a key update"));
            }
            notices.push(notice);
            rest = after;
        }
        self.partial = rest.to_vec();
        Ok(notices)
    }

    fn message(&mut self, kind: HandshakeType, body: &[u8]) -> Result<Notice, RecordFault> {
        match (self.tls13, kind) {
            (true, HandshakeType::NewSessionTicket) => Ok(Notice::Ticket(body.to_vec())),
            (true, HandshakeType::KeyUpdate) => self.key_update(body),
            (false, HandshakeType::HelloRequest) => self.hello_request(body),
            _ => Err(RecordFault::Unexpected("a handshake message")),
        }
    }

    fn key_update(&mut self, body: &[u8]) -> Result<Notice, RecordFault> {
        self.key_updates += 1;
        if self.key_updates > MOST_KEY_UPDATES_WITHOUT_DATA {
            return Err(RecordFault::Unexpected("one key update after the other"));
        }
        match body {
            [0] => Ok(Notice::KeyUpdate { requested: false }),
            [1] => Ok(Notice::KeyUpdate { requested: true }),
            _ => Err(RecordFault::Malformed("a key update that is none")),
        }
    }

    fn hello_request(&mut self, body: &[u8]) -> Result<Notice, RecordFault> {
        self.hello_requests += 1;
        match body {
            [] if self.hello_requests <= MOST_HELLO_REQUESTS => Ok(Notice::HelloRequest),
            [] => Err(RecordFault::Unexpected("one request for a handshake after the other")),
            _ => Err(RecordFault::Malformed("a request for a handshake that is none")),
        }
    }
}

/// A KeyUpdate (RFC 8446, section 4.6.3).
pub(super) fn key_update(request: u8) -> [u8; MESSAGE_HEADER + 1] {
    [HandshakeType::KeyUpdate.into(), 0, 0, 1, request]
}

type Message<'a> = (HandshakeType, &'a [u8], &'a [u8]);

/// The first message, and what is behind it; none where it is not whole yet.
fn split_message(bytes: &[u8]) -> Result<Option<Message<'_>>, RecordFault> {
    let Some((&[kind, high, middle, low], rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LONGEST_MESSAGE {
        return Err(RecordFault::Malformed("a handshake message that is too long"));
    }
    Ok(rest.split_at_checked(length).map(|(body, after)| (kind.into(), body, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: u8 = 4;

    fn handshake(messages: &mut Messages, content: &[u8]) -> Result<Vec<Notice>, RecordFault> {
        messages.read(ContentType::Handshake, content)
    }

    #[test]
    fn a_message_may_be_spread_over_records_and_a_record_may_hold_several() {
        let mut messages = Messages::new(true);
        let mut bytes = vec![TICKET, 0, 0, 3, 1, 2, 3];
        bytes.extend([TICKET, 0, 0, 1, 9]);
        bytes.extend(key_update(1));
        let expected = [
            Notice::Ticket(vec![1, 2, 3]),
            Notice::Ticket(vec![9]),
            Notice::KeyUpdate { requested: true },
        ];
        assert_eq!(handshake(&mut messages, &bytes).unwrap(), expected);
        let found: Vec<Notice> =
            bytes.iter().flat_map(|byte| handshake(&mut messages, &[*byte]).unwrap()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_has_no_place_after_a_handshake_is_refused() {
        for (row, tls13, kind, content) in [
            ("a certificate request", true, ContentType::Handshake, &[13, 0, 0, 0][..]),
            ("a message behind a key update", true, ContentType::Handshake, &[24, 0, 0, 1, 0, 4]),
            ("a key update of TLS 1.2", false, ContentType::Handshake, &[24, 0, 0, 1, 0]),
            ("a hello request of TLS 1.3", true, ContentType::Handshake, &[0, 0, 0, 0]),
            ("a third kind of key update", true, ContentType::Handshake, &[24, 0, 0, 1, 2]),
            ("a long key update", true, ContentType::Handshake, &[24, 0, 0, 2, 0, 0]),
            ("a hello request with a body", false, ContentType::Handshake, &[0, 0, 0, 1, 0]),
            ("an endless message", true, ContentType::Handshake, &[TICKET, 1, 0, 0]),
            ("nothing", true, ContentType::Handshake, &[]),
            ("half an alert", true, ContentType::Alert, &[FATAL]),
            ("an alert and a half", true, ContentType::Alert, &[FATAL, 0, FATAL]),
            ("a heartbeat", true, ContentType::Heartbeat, &[1]),
            ("a change of ciphers", false, ContentType::ChangeCipherSpec, &[1]),
        ] {
            let fault = Messages::new(tls13).read(kind, content);
            let expected =
                matches!(fault, Err(RecordFault::Unexpected(_) | RecordFault::Malformed(_)));
            assert!(expected, "{row}: {fault:?}");
        }
    }

    #[test]
    fn an_alert_ends_the_session_unless_it_is_a_warning_and_those_are_counted() {
        const WARNED: &[u8] = &[WARNING, 100];
        const CANCELED: &[u8] = &[WARNING, 90];
        let mut messages = Messages::new(false);
        for _ in 0..MOST_WARNINGS {
            assert_eq!(messages.read(ContentType::Alert, WARNED).unwrap(), []);
        }
        assert!(matches!(messages.read(ContentType::Alert, WARNED), Err(RecordFault::Alert(_))));
        let mut messages = Messages::new(true);
        assert_eq!(messages.read(ContentType::Alert, CANCELED).unwrap(), []);
        assert!(matches!(messages.read(ContentType::Alert, WARNED), Err(RecordFault::Alert(_))));
        assert_eq!(messages.read(ContentType::Alert, &[WARNING, 0]).unwrap(), [Notice::Closed]);
    }

    #[test]
    fn data_in_the_middle_of_a_message_are_refused() {
        let mut messages = Messages::new(true);
        handshake(&mut messages, &[TICKET, 0]).unwrap();
        assert!(matches!(messages.data(), Err(RecordFault::Unexpected(_))));
    }

    #[test]
    fn a_peer_that_only_changes_keys_is_given_up() {
        let mut messages = Messages::new(true);
        for _ in 0..MOST_KEY_UPDATES_WITHOUT_DATA {
            handshake(&mut messages, &key_update(0)).unwrap();
        }
        messages.data().unwrap();
        for _ in 0..MOST_KEY_UPDATES_WITHOUT_DATA {
            handshake(&mut messages, &key_update(0)).unwrap();
        }
        assert!(handshake(&mut messages, &key_update(0)).is_err());
        let mut messages = Messages::new(false);
        assert_eq!(handshake(&mut messages, &[0; 4]).unwrap(), [Notice::HelloRequest]);
        assert!(handshake(&mut messages, &[0; 4]).is_err());
    }
}
