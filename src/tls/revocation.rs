//! Whether a certificate has been revoked (OCSP, RFC 6960).
//!
//! The answer that the server sends along is taken where it sends one ("stapled"), or else the responder is
//! asked that the certificate names. Answers are kept until they are out of date, so a responder that is away
//! for a while stops nobody. Whoever switched this on wants to know: without an answer there is no session,
//! unless the certificate names nobody who could be asked.
//!
//! Nothing is asked over the network here: a [`Question`] says what to ask and where.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ocsp::OcspCertId;
use openssl::ocsp::OcspCertStatus;
use openssl::ocsp::OcspFlag;
use openssl::ocsp::OcspRequest;
use openssl::ocsp::OcspResponse;
use openssl::ocsp::OcspResponseStatus;
use openssl::stack::Stack;
use openssl::x509::X509;
use openssl::x509::X509Ref;
use openssl::x509::X509VerifyResult;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use rustls::pki_types::CertificateDer;

use crate::tls::certificate::CertificateFacts;
use crate::tls::fault::TlsFault;

/// By how much clocks may differ.
const CLOCK_SKEW_SECONDS: u32 = 300;
/// An answer that names no end is good for a day.
const LONGEST_SECONDS: u32 = 24 * 60 * 60;

/// The answers that are known, by certificate.
#[derive(Debug, Default)]
pub(super) struct Revocations(Mutex<HashMap<Vec<u8>, Answer>>);

/// An answer that was good when it came.
#[derive(Clone, Debug)]
struct Answer {
    bytes: Vec<u8>,
    /// Who gave it, for people.
    source: &'static str,
}

/// What is known without asking.
#[derive(Debug)]
pub(super) enum Known {
    /// Enough, and this is what is said about it.
    Settled(String),
    /// Nothing: somebody has to be asked.
    Ask(Question),
}

/// What is to be asked about a certificate before its session may be used.
#[derive(Debug)]
pub struct Question {
    /// Where, an `http` address (RFC 6960, appendix A.1).
    pub address: String,
    /// The body of the request, `application/ocsp-request`.
    pub request: Vec<u8>,
    certificate: X509,
    issuer: X509,
    known: Arc<Revocations>,
}

/// A stapled answer says that the certificate has been revoked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revoked;

/// Why an answer does not prove that a certificate is good.
#[derive(Debug, thiserror::Error)]
enum NoProof {
    #[error("it has been revoked{0}")]
    Revoked(String),
    #[error("the responder does not know it")]
    Unknown,
    #[error("the responder says {0}")]
    Refused(&'static str),
    #[error("the responder's answer is about another certificate")]
    Other,
    #[error("the responder's answer cannot be used: {0}")]
    Unusable(#[from] ErrorStack),
}

impl Revocations {
    /// Takes note of the answer that a server has sent along. One that cannot be used is none.
    ///
    /// # Errors
    /// Where it says that the certificate has been revoked.
    pub(super) fn take_stapled(
        &self,
        chain: &[CertificateDer<'_>],
        stapled: &[u8],
        more: &[CertificateDer<'_>],
    ) -> Result<(), Revoked> {
        let Some((certificate, issuer)) = parties(chain, more) else { return Ok(()) };
        match judge(&certificate, &issuer, stapled) {
            Ok(()) => {
                let answer = Answer { bytes: stapled.to_owned(), source: "stapled answer" };
                self.lock().insert(chain[0].to_vec(), answer);
            }
            Err(NoProof::Revoked(_)) => return Err(Revoked),
            Err(why) => tracing::debug!(%why, "a stapled answer cannot be used"),
        }
        Ok(())
    }

    /// What can be said about the first certificate of a verified chain. `more` are certificates that could
    /// have issued it, where the server did not send the issuer along.
    pub(super) fn look(
        self: &Arc<Self>,
        chain: &[CertificateDer<'_>],
        more: &[CertificateDer<'_>],
    ) -> Result<Known, TlsFault> {
        let Some((certificate, issuer)) = parties(chain, more) else {
            let subject = chain.first().and_then(|leaf| X509::from_der(leaf).ok());
            let subject = subject.map(|leaf| subject_of(&leaf)).unwrap_or_default();
            return Err(unproved(subject, &"its issuer's certificate is not at hand"));
        };
        let answer = self.lock().get(chain[0].as_ref()).cloned();
        let still_good =
            answer.filter(|answer| judge(&certificate, &issuer, &answer.bytes).is_ok());
        if let Some(answer) = still_good {
            return Ok(Known::Settled(format!("good, says the {}", answer.source)));
        }
        let Some(address) = responder(&certificate) else {
            return Ok(Known::Settled(
                "not checked: the certificate names no responder".to_owned(),
            ));
        };
        let request = request(&certificate, &issuer)
            .map_err(|error| unproved(subject_of(&certificate), &error))?;
        let known = Arc::clone(self);
        Ok(Known::Ask(Question { address, request, certificate, issuer, known }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    /// Reads the responder's answer, and keeps it.
    ///
    /// # Errors
    /// When it does not prove that the certificate is good.
    pub fn answered(self, bytes: Vec<u8>) -> Result<String, TlsFault> {
        let subject = subject_of(&self.certificate);
        judge(&self.certificate, &self.issuer, &bytes)
            .map_err(|why| unproved(subject.clone(), &format!("{why} ({})", self.address)))?;
        let certificate = self.certificate.to_der().map_err(|why| unproved(subject, &why))?;
        let answer = Answer { bytes, source: "responder" };
        self.known.lock().insert(certificate, answer);
        Ok("good, says the responder".to_owned())
    }

    /// That nobody answered.
    #[must_use]
    pub fn unanswered(&self, why: &str) -> TlsFault {
        let why = format!("its responder {} cannot be asked: {why}", self.address);
        unproved(subject_of(&self.certificate), &why)
    }
}

/// The first certificate of a chain and the one that has issued it.
fn parties(chain: &[CertificateDer<'_>], more: &[CertificateDer<'_>]) -> Option<(X509, X509)> {
    let (leaf, intermediates) = chain.split_first()?;
    let certificate = X509::from_der(leaf).ok()?;
    let issuer =
        intermediates.iter().chain(more).find_map(|other| issuer_of(&certificate, other))?;
    Some((certificate, issuer))
}

/// Whether an answer proves that a certificate is good now. It must be signed by the issuer, or by somebody
/// whom the issuer has certified for that (RFC 6960, section 4.2.2.2).
fn judge(certificate: &X509Ref, issuer: &X509, answer: &[u8]) -> Result<(), NoProof> {
    let response = OcspResponse::from_der(answer)?;
    if response.status() != OcspResponseStatus::SUCCESSFUL {
        return Err(NoProof::Refused(refusal(response.status())));
    }
    let basic = response.basic()?;
    let mut store = X509StoreBuilder::new()?;
    store.add_cert(issuer.clone())?;
    // The issuer is where trust begins here: the chain up to it was verified before.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    let mut signers = Stack::new()?;
    signers.push(issuer.clone())?;
    basic.verify(&signers, &store.build(), OcspFlag::empty())?;
    let status = basic.find_status(&*id(certificate, issuer)?).ok_or(NoProof::Other)?;
    let longest = status.next_update().is_none().then_some(LONGEST_SECONDS);
    status.check_validity(CLOCK_SKEW_SECONDS, longest)?;
    match status.status {
        OcspCertStatus::GOOD => Ok(()),
        OcspCertStatus::REVOKED => {
            let at = status.revocation_time.map(|time| format!(" at {time}"));
            Err(NoProof::Revoked(at.unwrap_or_default()))
        }
        _ => Err(NoProof::Unknown),
    }
}

/// RFC 6960, section 4.2.1.
fn refusal(status: OcspResponseStatus) -> &'static str {
    match status {
        OcspResponseStatus::MALFORMED_REQUEST => "that the request is malformed",
        OcspResponseStatus::INTERNAL_ERROR => "that it has an internal error",
        OcspResponseStatus::TRY_LATER => "to try again later",
        OcspResponseStatus::SIG_REQUIRED => "that the request must be signed",
        OcspResponseStatus::UNAUTHORIZED => "that it is not authorized to answer",
        _ => "something that is not defined",
    }
}

fn request(certificate: &X509Ref, issuer: &X509Ref) -> Result<Vec<u8>, ErrorStack> {
    let mut request = OcspRequest::new()?;
    request.add_id(id(certificate, issuer)?)?;
    request.to_der()
}

/// With SHA-1, as RFC 5019 asks of clients: it only names the issuer, and nothing rests on it.
fn id(certificate: &X509Ref, issuer: &X509Ref) -> Result<OcspCertId, ErrorStack> {
    OcspCertId::from_cert(MessageDigest::sha1(), certificate, issuer)
}

fn issuer_of(certificate: &X509, other: &CertificateDer<'_>) -> Option<X509> {
    let other = X509::from_der(other).ok()?;
    let named = other.issued(certificate) == X509VerifyResult::OK;
    let signed = certificate.verify(&*other.public_key().ok()?).unwrap_or(false);
    (named && signed).then_some(other)
}

fn responder(certificate: &X509Ref) -> Option<String> {
    let responders = certificate.ocsp_responders().ok()?;
    responders.iter().map(|address| (**address).to_owned()).find(|text| text.starts_with("http://"))
}

fn subject_of(certificate: &X509Ref) -> String {
    let facts = certificate.to_der().ok().and_then(|der| CertificateFacts::read(&der.into()));
    facts.map(|facts| facts.subject).unwrap_or_default()
}

fn unproved(subject: String, why: &dyn std::fmt::Display) -> TlsFault {
    TlsFault::Revoked { subject, why: why.to_string() }
}
