//! Asks a responder whether a certificate has been revoked: one POST over HTTP (RFC 6960, appendix A.1).
//!
//! Over HTTP without TLS, as the standard has it: the answer is signed, and is read by `tls::revocation`.

use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::Request;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tls::TlsFault;
use crate::tls::revocation::Question;

/// For resolving, connecting and the answer. It is within the deadline of the dial.
const DEADLINE: Duration = Duration::from_secs(5);
/// An answer has a kilobyte or two, with the responder's certificate.
const LONGEST: usize = 64 * 1024;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Asks, and says what is known then.
pub(super) async fn ask(question: Question) -> Result<String, TlsFault> {
    match timeout(DEADLINE, post(&question.address, question.request.clone())).await {
        Ok(Ok(answer)) => question.answered(answer),
        Ok(Err(error)) => Err(question.unanswered(&error.to_string())),
        Err(_) => {
            let silent = format!("no answer within {} s", DEADLINE.as_secs());
            Err(question.unanswered(&silent))
        }
    }
}

async fn post(address: &str, body: Vec<u8>) -> Result<Vec<u8>, AnyError> {
    let address: Uri = address.parse()?;
    let authority = address.authority().ok_or("it names no host")?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = address.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/ocsp-request")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers {}", answer.status()).into());
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await?;
        Ok::<_, AnyError>(body.to_bytes().to_vec())
    };
    tokio::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // The answer may be complete though the connection is over.
        ended = connection => { ended?; answered.await }
    }
}
