//! HTTPS: takes a request apart, lets faults happen, and hands it to NAS or to STS.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use http_body_util::BodyExt;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::failure::During;
use crate::failure::Result;
use crate::openapi::Fault;
use crate::openapi::Shared;
use crate::openapi::answer::Outcome;
use crate::openapi::answer::refusal;
use crate::openapi::answer::written;
use crate::openapi::locked;
use crate::openapi::signature::Seen;
use crate::openapi::signature::pairs;

const NAS_VERSION: &str = "2017-06-26";
const STS_VERSION: &str = "2015-04-01";

/// A call that has come, whatever became of it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) action: String,
    pub(super) access_key_id: String,
}

/// The connection is to end without an answer.
#[derive(Debug)]
struct HangUp;

impl std::fmt::Display for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the simulator hangs up")
    }
}

impl std::error::Error for HangUp {}

/// With a certificate and its key in one file.
pub(super) fn acceptor(certificate: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .during("failed to take the certificate")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

pub(super) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| answer(request, &state));
            // How a connection ends is the client's affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &Shared,
) -> std::result::Result<Response<Full<Bytes>>, HangUp> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| HangUp)?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    let seen = Seen {
        method: head.method.as_str(),
        path: head.uri.path(),
        query,
        headers: &head.headers,
        body: &body,
    };
    let parameters: HashMap<_, _> = pairs(query).into_iter().collect();
    let in_query = parameters.get("Action").map(String::as_str);
    let action = in_query.unwrap_or_else(|| seen.header("x-acs-action")).to_owned();
    let fault = locked(&state.faults).next(&action);
    match fault {
        Some(Fault::Drop) => Err(HangUp),
        Some(Fault::DropAnswer) => {
            drop(done(&seen, &action, &parameters, state));
            Err(HangUp)
        }
        Some(Fault::Refuse { status, code }) => {
            Ok(response(Err(refusal(status, &code, "This is a fault of the simulator."))))
        }
        Some(Fault::Delay(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(response(done(&seen, &action, &parameters, state)))
        }
        None => Ok(response(done(&seen, &action, &parameters, state))),
    }
}

fn done(
    seen: &Seen<'_>,
    action: &str,
    parameters: &HashMap<String, String>,
    state: &Shared,
) -> Outcome {
    let serve = |access_key_id: &str| {
        let (action, access_key_id) = (action.to_owned(), access_key_id.to_owned());
        locked(&state.served).push(Served { action, access_key_id });
    };
    if action == "AssumeRoleWithOIDC" {
        serve("");
        if parameters.get("Version").map(String::as_str) != Some(STS_VERSION) {
            return Err(refusal(
                400,
                "InvalidParameter",
                "The specified parameter Version is not valid.",
            ));
        }
        let form = pairs(&String::from_utf8_lossy(seen.body)).into_iter().collect();
        return locked(&state.identities).assume_role(&form);
    }
    let caller = locked(&state.identities).authenticate(seen, action)?;
    serve(&caller);
    if seen.header("x-acs-version") != NAS_VERSION {
        return Err(refusal(400, "NoSuchVersion", "The specified version does not exist."));
    }
    locked(&state.account).call(action, parameters)
}

fn response(outcome: Outcome) -> Response<Full<Bytes>> {
    let (status, body) = written(outcome);
    answered(status, "application/json;charset=utf-8", body)
}

pub(super) fn answered(status: u16, kind: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    if let Ok(kind) = hyper::header::HeaderValue::from_str(kind) {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    }
    response
}

/// For services that always answer.
pub(super) type Always = std::result::Result<Response<Full<Bytes>>, Infallible>;
