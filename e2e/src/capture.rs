//! What went over the cable: a capture by tcpdump, and a search in the TCP streams of it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::failure::During;
use crate::failure::Failure;
use crate::failure::Result;
use crate::process::Process;
use crate::process::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture TCP on an interface into `<folder>/wire.pcap`, and waits until it does.
    ///
    /// # Errors
    /// When tcpdump does not start.
    pub fn start(interface: &str, folder: &Path) -> Result<Self> {
        let file = folder.join("wire.pcap");
        let log = folder.join("tcpdump.log");
        let mut command = Command::new("tcpdump");
        // -Z root: in the lab no other user may write here. -B: KiB; packets wait for a slow processor.
        command.args(["-Z", "root", "-U", "-s", "0", "-B", "65536", "-i", interface]);
        command.arg("-w").arg(&file).arg("tcp");
        let _ = fs::remove_file(&log);
        let mut tcpdump = Process::start("tcpdump", &mut command, &log)?;
        tcpdump.wait_until("the capture runs", DEADLINE, || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
        })?;
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture once it has stopped growing, and reads it.
    ///
    /// # Errors
    /// When tcpdump does not end or its file is no capture of Ethernet.
    pub fn stop(mut self) -> Result<Wire> {
        let mut seen = (u64::MAX, 0);
        wait_until("the capture is quiet", DEADLINE, || {
            let size = fs::metadata(&self.file).map_or(0, |file| file.len());
            seen = if size == seen.0 { (size, seen.1 + 1) } else { (size, 0) };
            seen.1 >= 25
        })?;
        self.tcpdump.interrupt(DEADLINE)?;
        let bytes = fs::read(&self.file).during("failed to read the capture")?;
        fs::remove_file(&self.file)?;
        Wire::parse(&bytes)
    }
}

/// The bytes of every TCP stream, one entry per direction.
#[derive(Debug)]
pub struct Wire {
    streams: Vec<Vec<u8>>,
}

/// Addresses and ports of one direction.
type Flow = [u8; 12];

impl Wire {
    /// Reads a capture file and puts its streams together.
    ///
    /// # Errors
    /// When it is no little-endian capture of Ethernet frames.
    pub fn parse(file: &[u8]) -> Result<Self> {
        const HEADER: usize = 24;
        const MICROSECONDS: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];
        const ETHERNET: u32 = 1;
        if file.get(..4) != Some(&MICROSECONDS[..]) || little(file, 20) != Some(ETHERNET) {
            return Err(Failure::new("this is no capture of Ethernet frames"));
        }
        let mut flows: HashMap<Flow, BTreeMap<u64, &[u8]>> = HashMap::new();
        let mut first: HashMap<Flow, u32> = HashMap::new();
        let mut rest = &file[HEADER..];
        while let Some(length) = little(rest, 8) {
            let Some(frame) = rest.get(16..16 + length as usize) else { break };
            rest = &rest[16 + length as usize..];
            let Some((flow, sequence, payload)) = segment(frame) else { continue };
            let start = *first.entry(flow).or_insert(sequence);
            // 32 bits do for a stream of less than 4 GiB; what comes before the start has wrapped.
            let offset = u64::from(sequence.wrapping_sub(start));
            let known = flows.entry(flow).or_default().entry(offset).or_default();
            if payload.len() > known.len() {
                *known = payload;
            }
        }
        Ok(Self { streams: flows.into_values().map(|segments| join(&segments)).collect() })
    }

    /// All bytes of all streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.iter().map(Vec::len).sum()
    }

    /// Nothing was captured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any stream holds these bytes, across segments too.
    #[must_use]
    pub fn holds(&self, pattern: &[u8]) -> bool {
        let Some(first) = pattern.first() else { return true };
        self.streams.iter().any(|stream| {
            let mut rest = stream.as_slice();
            while let Some(at) = rest.iter().position(|byte| byte == first) {
                rest = &rest[at..];
                if rest.starts_with(pattern) {
                    return true;
                }
                rest = &rest[1..];
            }
            false
        })
    }

    /// How many records of TLS application data there are in streams that begin with a TLS handshake.
    #[must_use]
    pub fn tls_records(&self) -> usize {
        self.streams.iter().map(|stream| application_records(stream)).sum()
    }
}

/// RFC 8446, section 5.1: type, version (2 bytes), length (2 bytes).
fn application_records(stream: &[u8]) -> usize {
    const HANDSHAKE: u8 = 22;
    const APPLICATION_DATA: u8 = 23;
    if stream.first() != Some(&HANDSHAKE) {
        return 0;
    }
    let mut rest = stream;
    let mut found = 0;
    while let [kind @ 20..=23, 3, 1..=4, high, low, ..] = *rest {
        found += usize::from(kind == APPLICATION_DATA);
        let end = 5 + usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(end..).unwrap_or_default();
    }
    found
}

fn join(segments: &BTreeMap<u64, &[u8]>) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut next = 0;
    for (offset, payload) in segments {
        // What was sent twice counts once; a gap is closed, which can only lose a match at its edge.
        let twice = usize::try_from(next - (*offset).min(next)).unwrap_or(usize::MAX);
        stream.extend_from_slice(payload.get(twice..).unwrap_or_default());
        next = next.max(offset + payload.len() as u64);
    }
    stream
}

/// Takes an Ethernet frame apart, where it is TCP over IPv4 with or without data.
fn segment(frame: &[u8]) -> Option<(Flow, u32, &[u8])> {
    const ETHERNET: usize = 14;
    const IPV4: [u8; 2] = [8, 0];
    const TCP: u8 = 6;
    const SYN: u8 = 2;
    let packet = frame.get(ETHERNET..)?;
    if frame[12..14] != IPV4 || *packet.get(9)? != TCP {
        return None;
    }
    let header = usize::from(packet[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    // A length of 0 means a packet that was never cut for the wire (segmentation offload).
    let tcp = if total == 0 { packet.get(header..)? } else { packet.get(header..total)? };
    let payload = tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?;
    let mut flow = [0; 12];
    flow[..8].copy_from_slice(packet.get(12..20)?);
    flow[8..].copy_from_slice(&tcp[..4]);
    let sequence = u32::from_be_bytes(tcp[4..8].try_into().ok()?);
    // SYN takes one number of the sequence.
    Some((flow, sequence.wrapping_add(u32::from(tcp[13] & SYN != 0)), payload))
}

fn little(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1];
        file.extend([0; 16]);
        file.extend([1, 0, 0, 0]);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            file.extend([0; 8]);
            file.extend(length);
            file.extend(length);
            file.extend(frame);
        }
        file
    }

    #[test]
    fn a_pattern_is_found_across_segments_that_came_twice_and_in_disorder() {
        let frames =
            [frame(1, b"the "), frame(9, b"word"), frame(5, b"pass"), frame(1, b"the pas")];
        let wire = Wire::parse(&capture(&frames)).unwrap();
        assert!(wire.holds(b"the pas"));
        assert!(wire.holds(b"password"), "{wire:?}");
        assert!(!wire.holds(b"passwort"));
    }

    #[test]
    fn records_of_application_data_are_counted_in_tls_streams_only() {
        let stream =
            [&[22, 3, 1, 0, 1, 9][..], &[23, 3, 3, 0, 2, 7, 7], &[23, 3, 3, 0, 0]].concat();
        let wire = Wire::parse(&capture(&[frame(1, &stream)])).unwrap();
        assert_eq!(wire.tls_records(), 2);
        let wire = Wire::parse(&capture(&[frame(1, &stream[6..])])).unwrap();
        assert_eq!(wire.tls_records(), 0);
    }
}
