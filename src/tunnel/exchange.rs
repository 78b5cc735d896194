//! One question and its answer on a session that is not handed to a relay.

use std::io;

use rustls::Error;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::tls::RecordSession;
use crate::tls::Session;
use crate::tls::record::FRAGMENT;
use crate::tls::record::Opened;
use crate::tls::record::RecordFault;
use crate::tls::record::Records;
use crate::tunnel::dial::Dialled;

/// For short answers.
const ROOM: usize = 4096;

impl Dialled {
    /// Sends `question`, at most a record, and receives until `judge` has made up its mind about what has come.
    ///
    /// # Errors
    /// The stream's, its end, or rustls' within [`io::ErrorKind::InvalidData`].
    pub(super) async fn exchange<T>(
        &mut self,
        question: &[u8],
        judge: impl Fn(&[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        match &mut self.session {
            Session::Rustls { stream, records } => {
                by_records(stream, records, question, judge).await
            }
            Session::OpenSsl(stream) => by_stream(stream, question, judge).await,
        }
    }
}

async fn by_records<T>(
    stream: &mut TcpStream,
    session: &mut RecordSession,
    question: &[u8],
    judge: impl Fn(&[u8]) -> io::Result<Option<T>>,
) -> io::Result<T> {
    let records = &mut *session.records;
    let sealed = seal(records, question).map_err(io_error)?;
    stream.write_all(&sealed).await?;
    let mut sealed = std::mem::take(&mut session.received);
    let mut answer = std::mem::take(&mut session.early);
    loop {
        open(records, &mut sealed, &mut answer)?;
        if let Some(verdict) = judge(&answer)? {
            return Ok(verdict);
        }
        sealed.reserve(ROOM);
        if stream.read_buf(&mut sealed).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn by_stream<T>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    question: &[u8],
    judge: impl Fn(&[u8]) -> io::Result<Option<T>>,
) -> io::Result<T> {
    stream.write_all(question).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(ROOM);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(verdict) = judge(&answer)? {
            return Ok(verdict);
        }
    }
}

fn seal(records: &mut Records, plain: &[u8]) -> Result<Vec<u8>, RecordFault> {
    debug_assert!(plain.len() <= FRAGMENT, "a question is short");
    let layout = records.layout();
    let mut slot = vec![0; layout.before];
    slot.extend_from_slice(plain);
    slot.resize(slot.len() + layout.after, 0);
    records.seal(&mut slot)?;
    Ok(slot)
}

/// Opens every whole record at the beginning of `sealed`.
fn open(records: &mut Records, sealed: &mut Vec<u8>, plain: &mut Vec<u8>) -> io::Result<()> {
    loop {
        match records.open(sealed).map_err(io_error)? {
            Opened::Partial => return Ok(()),
            Opened::Control { length } => drop(sealed.drain(..length)),
            Opened::Data { length, plain: content } => {
                plain.extend_from_slice(sealed.get(content).unwrap_or_default());
                sealed.drain(..length);
            }
            Opened::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn io_error(fault: RecordFault) -> io::Error {
    let source = match fault {
        RecordFault::Alert(alert) => Error::AlertReceived(alert),
        RecordFault::Unreadable(error) | RecordFault::Unsealable(error) => error,
        other => Error::General(other.to_string()),
    };
    io::Error::new(io::ErrorKind::InvalidData, source)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn an_answer_of_a_plain_stream_may_come_in_pieces_and_its_end_is_no_answer() {
        let (mut ours, mut theirs) = duplex(64);
        let whole = |answer: &[u8]| Ok((answer.len() == 4).then(|| answer.to_vec()));
        let answering = async {
            let mut asked = [0; 4];
            theirs.read_exact(&mut asked).await.unwrap();
            theirs.write_all(b"po").await.unwrap();
            tokio::task::yield_now().await;
            theirs.write_all(b"ng").await.unwrap();
            asked
        };
        let (answer, asked) = tokio::join!(by_stream(&mut ours, b"ping", whole), answering);
        assert_eq!((answer.unwrap().as_slice(), &asked), (b"pong".as_slice(), b"ping"));
        drop(theirs);
        let ended = by_stream(&mut ours, b"", whole).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
