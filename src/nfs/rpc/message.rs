//! Calls and replies as bytes (RFC 5531, section 9), and records of a stream (section 11).

use std::io;
use std::io::Cursor;

use nfs3_types::rpc::RPC_VERSION_2;
use nfs3_types::rpc::accept_stat_data;
use nfs3_types::rpc::auth_unix;
use nfs3_types::rpc::call_body;
use nfs3_types::rpc::fragment_header;
use nfs3_types::rpc::msg_body;
use nfs3_types::rpc::opaque_auth;
use nfs3_types::rpc::rejected_reply;
use nfs3_types::rpc::reply_body;
use nfs3_types::rpc::rpc_msg;
use nfs3_types::xdr_codec::Opaque;
use nfs3_types::xdr_codec::Pack;
use nfs3_types::xdr_codec::Unpack;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::nfs::policy::RpcFault;
use crate::nfs::rpc::Program;

/// The longest reply to any call before a mount is a universal address; a verifier has at most 400 bytes.
pub(super) const LONGEST_REPLY: usize = 1024;
/// RFC 5531, section 8.2.
const LONGEST_VERIFIER: u32 = 400;
/// A reply in more pieces than this is none.
const MOST_FRAGMENTS: usize = 64;

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    program: Program,
    procedure: u32,
    credentials: Credentials,
    arguments: Vec<u8>,
}

/// Who calls.
#[derive(Clone, Debug)]
enum Credentials {
    /// AUTH_NONE.
    Nobody,
    /// AUTH_SYS (RFC 5531, appendix A): root of a host.
    Root { host: String },
}

impl Call {
    /// Procedure 0.
    #[must_use]
    pub fn null(program: Program) -> Self {
        Self { program, procedure: 0, credentials: Credentials::Nobody, arguments: Vec::new() }
    }

    pub(in crate::nfs) fn new(program: Program, procedure: u32, arguments: Vec<u8>) -> Self {
        Self { procedure, arguments, ..Self::null(program) }
    }

    pub(in crate::nfs) fn by_root_of(self, host: &str) -> Self {
        Self { credentials: Credentials::Root { host: host.to_owned() }, ..self }
    }

    /// The call as one record of a stream.
    ///
    /// # Errors
    /// Where it is too long for one.
    pub fn to_record(&self, xid: u32) -> io::Result<Vec<u8>> {
        let call = self.to_bytes(xid)?;
        let length = u32::try_from(call.len()).map_err(|_| garbage("the call is too long"))?;
        let mut record = fragment_header::new(length, true).into_xdr_buf().to_vec();
        record.extend(call);
        Ok(record)
    }

    pub(super) fn to_bytes(&self, xid: u32) -> io::Result<Vec<u8>> {
        let call = call_body {
            rpcvers: RPC_VERSION_2,
            prog: self.program.number,
            vers: self.program.version,
            proc: self.procedure,
            cred: self.credentials.to_auth(),
            verf: opaque_auth::default(),
        };
        let mut bytes = packed(&rpc_msg { xid, body: msg_body::CALL(call) })?;
        bytes.extend(&self.arguments);
        Ok(bytes)
    }
}

impl Credentials {
    fn to_auth(&self) -> opaque_auth<'static> {
        match self {
            Self::Nobody => opaque_auth::default(),
            Self::Root { host } => opaque_auth::auth_unix(&auth_unix {
                machinename: Opaque::owned(host.clone().into_bytes()),
                ..auth_unix::default()
            }),
        }
    }
}

/// What came back from a server: a reply of any kind is proof that it speaks RPC.
pub type Answer = Result<Vec<u8>, RpcFault>;

/// Reads the reply to the call `xid`; what is behind its header is the result.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where it is none.
pub(super) fn reply(xid: u32, bytes: &[u8]) -> io::Result<Answer> {
    check_lengths(bytes)?;
    let mut input = Cursor::new(bytes);
    let (message, header) =
        rpc_msg::unpack(&mut input).map_err(|_| garbage("the answer is no RPC reply"))?;
    if message.xid != xid {
        return Err(garbage("the answer is one to another call"));
    }
    Ok(match message.body {
        msg_body::CALL(_) => return Err(garbage("the answer is a call")),
        msg_body::REPLY(reply_body::MSG_ACCEPTED(accepted)) => match accepted.reply_data {
            accept_stat_data::SUCCESS => Ok(bytes.get(header..).unwrap_or_default().to_owned()),
            accept_stat_data::PROG_UNAVAIL => Err(RpcFault::NoSuchProgram),
            accept_stat_data::PROG_MISMATCH { low, high } => {
                Err(RpcFault::NoSuchVersion { low, high })
            }
            other @ (accept_stat_data::PROC_UNAVAIL
            | accept_stat_data::GARBAGE_ARGS
            | accept_stat_data::SYSTEM_ERR) => {
                Err(RpcFault::Garbage(format!("the server answered {other:?}")))
            }
        },
        msg_body::REPLY(reply_body::MSG_DENIED(rejected_reply::AUTH_ERROR(_))) => {
            Err(RpcFault::Denied)
        }
        msg_body::REPLY(reply_body::MSG_DENIED(rejected_reply::RPC_MISMATCH { low, high })) => {
            Err(RpcFault::Garbage(format!("the server speaks RPC versions {low} to {high}, not 2")))
        }
    })
}

/// The crate allocates what a length says before it reads so much. So what has one in front of the results is
/// looked at first: xid, REPLY, MSG_ACCEPTED, flavour and length of the verifier. A call has more lengths.
fn check_lengths(bytes: &[u8]) -> io::Result<()> {
    const REPLY: u32 = 1;
    const ACCEPTED: u32 = 0;
    let word = |place: usize| {
        let bytes = bytes.get(4 * place..4 * place + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    match (word(1), word(2), word(4)) {
        (Some(REPLY), Some(ACCEPTED), Some(length)) if length > LONGEST_VERIFIER => {
            Err(garbage("the answer is no RPC reply: its verifier is too long"))
        }
        (Some(REPLY), ..) => Ok(()),
        _ => Err(garbage("the answer is no RPC reply")),
    }
}

/// Makes a call over a stream and waits for the reply to it.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for what is no RPC reply, and whatever befalls the stream.
pub async fn call_over<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    xid: u32,
    call: &Call,
) -> io::Result<Answer> {
    call_for(stream, xid, call, LONGEST_REPLY).await
}

/// As [`call_over`], for a reply of at most so many bytes.
///
/// # Errors
/// As [`call_over`].
pub(in crate::nfs) async fn call_for<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    xid: u32,
    call: &Call,
    longest: usize,
) -> io::Result<Answer> {
    stream.write_all(&call.to_record(xid)?).await?;
    stream.flush().await?;
    let mut received = Vec::with_capacity(LONGEST_REPLY);
    loop {
        let record = record_in(&received, longest)?;
        if let Some(answer) = record.map(|record| reply(xid, &record)) {
            return answer;
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The reply to the call `xid`, from what a stream has brought so far; none while some of it is missing.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] as soon as it is clear that it is no RPC reply.
pub fn reply_in(xid: u32, received: &[u8]) -> io::Result<Option<Answer>> {
    record_in(received, LONGEST_REPLY)?.map(|record| reply(xid, &record)).transpose()
}

fn record_in(received: &[u8], longest: usize) -> io::Result<Option<Vec<u8>>> {
    let (mut record, mut rest) = (Vec::new(), received);
    for _ in 0..MOST_FRAGMENTS {
        let Some((mark, behind)) = rest.split_first_chunk() else { return Ok(None) };
        let fragment = fragment_header::from(*mark);
        let length = fragment.fragment_length() as usize;
        if record.len().saturating_add(length) > longest {
            return Err(garbage(&too_long(*mark, fragment)));
        }
        let Some((content, behind)) = behind.split_at_checked(length) else { return Ok(None) };
        record.extend_from_slice(content);
        if fragment.eof() {
            return Ok(Some(record));
        }
        rest = behind;
    }
    Err(garbage("the answer is no RPC reply but an endless row of fragments"))
}

/// Another protocol is known by its first letters.
fn too_long(mark: [u8; 4], fragment: fragment_header) -> String {
    match std::str::from_utf8(&mark) {
        Ok(letters) if mark.iter().all(u8::is_ascii_graphic) => {
            format!("the answer is no RPC reply: it begins with {letters:?}")
        }
        _ => format!("the answer is no RPC reply: a piece of {} bytes", fragment.fragment_length()),
    }
}

pub(in crate::nfs) fn packed(value: &impl Pack) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(value.packed_size());
    value.pack(&mut bytes).map_err(|error| garbage(&error.to_string()))?;
    Ok(bytes)
}

pub(in crate::nfs) fn garbage(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn a_null_call_is_what_the_rfc_says() {
        let call = Call::null(Program { number: 100_003, version: 3 }).to_bytes(7).unwrap();
        assert_eq!(call, words(&[7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn the_root_of_a_host_has_no_groups() {
        let call = Call::null(Program { number: 100_005, version: 3 }).by_root_of("abc");
        let auth = [1, 24, 0, 3, u32::from_be_bytes(*b"abc\0"), 0, 0, 0];
        let bytes = call.to_bytes(7).unwrap();
        assert_eq!(bytes, words(&[&[7, 0, 2, 100_005, 3, 0], &auth[..], &[0, 0]].concat()));
    }

    #[test]
    fn what_stands_behind_the_header_is_the_result() {
        let bytes = words(&[7, 1, 0, 0, 4, 99, 0, 2049]);
        assert_eq!(reply(7, &bytes).unwrap(), Ok(words(&[2049])));
    }

    #[test]
    fn no_cut_of_a_reply_and_no_length_in_it_is_believed() {
        let whole = words(&[7, 1, 0, 0, 4, 99, 0]);
        for length in 0..whole.len() {
            assert!(reply(7, &whole[..length]).is_err(), "{length}");
        }
        for length in [LONGEST_VERIFIER + 1, u32::MAX] {
            assert!(reply(7, &words(&[7, 1, 0, 0, length, 0])).is_err(), "{length}");
            assert!(reply(7, &words(&[7, 0, 2, 1, 1, 1, 0, length])).is_err(), "a call");
        }
    }

    #[test]
    fn a_refusal_is_a_reply() {
        for (body, said) in [
            (&[0, 0, 0, 3][..], "PROC_UNAVAIL"),
            (&[0, 0, 0, 5], "SYSTEM_ERR"),
            (&[1, 0, 3, 4], "versions 3 to 4"),
        ] {
            let bytes = words(&[&[7, 1], body].concat());
            let fault = reply(7, &bytes).unwrap().unwrap_err().to_string();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
