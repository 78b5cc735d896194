//! A call of the API, from its turn to its answer. Which calls there are stands in `calls`.
//!
//! Each one waits for its turn, is signed with the credentials of this moment, and is repeated where that is
//! safe; it ends within [`CALL_DEADLINE`], whatever the network does. A call may be dropped at any time.

mod calls;
mod date;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use aws_lc_rs::rand;
use backon::BackoffBuilder;
use backon::ExponentialBackoff;
use backon::ExponentialBuilder;
use data_encoding::HEXLOWER;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio::time::sleep;
use tokio::time::timeout_at;

use crate::nas::action::Action;
use crate::nas::action::VERSION;
use crate::nas::counts::NasCounts;
use crate::nas::counts::Outcome;
use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsFault;
use crate::nas::credentials::CredentialsHolder;
use crate::nas::endpoint::Endpoint;
use crate::nas::endpoint::Region;
use crate::nas::fault::NasCause;
use crate::nas::fault::NasFault;
use crate::nas::http::Http;
use crate::nas::pace::Paces;
use crate::nas::pace::Turn;
use crate::nas::query::Query;
use crate::nas::refusal::Kind;
use crate::nas::refusal::one_line;
use crate::nas::retry;
use crate::nas::retry::Next;
use crate::nas::retry::SoFar;
use crate::nas::signature;
use crate::nas::signature::Signable;
use crate::nas::types::Listing;
use crate::runtime::Clock;

pub use calls::Deleted;

/// For one attempt, from the first byte to the last.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(20);
/// For a call with all its attempts and pauses: less than a minute, for which sidecars commonly wait.
pub const CALL_DEADLINE: Duration = Duration::from_secs(50);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most that the API gives at once.
const PAGE_SIZE: usize = 100;
/// A file system has 500 quotas at most, an account 220 file systems.
const MOST_PAGES: usize = 100;

const _: () = assert!(
    2 * ATTEMPT_DEADLINE.as_secs() < CALL_DEADLINE.as_secs(),
    "an attempt that hangs would leave no time for a second one"
);

/// The API of one region.
pub struct NasClient {
    http: Arc<dyn Http>,
    credentials: Arc<CredentialsHolder>,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    region: Region,
    paces: Paces,
    counts: NasCounts,
}

impl NasClient {
    /// Calls nobody yet.
    #[must_use]
    pub fn new(
        http: Arc<dyn Http>,
        credentials: Arc<CredentialsHolder>,
        clock: Arc<dyn Clock>,
        endpoint: Endpoint,
        region: Region,
    ) -> Self {
        let (paces, counts) = (Paces::default(), NasCounts::default());
        Self { http, credentials, clock, endpoint, region, paces, counts }
    }

    /// The region whose API is called.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What came of its calls.
    #[must_use]
    pub fn counts(&self) -> &NasCounts {
        &self.counts
    }

    /// Where it is called.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn all<L: Listing>(&self, request: &L) -> Result<Vec<L::Item>, NasFault> {
        let mut found = Vec::new();
        for number in 1..=MOST_PAGES {
            let query = request.query().with("PageNumber", number).with("PageSize", PAGE_SIZE);
            let (items, total) = L::items(self.call(L::ACTION, query).await?);
            let is_last = items.is_empty();
            found.extend(items);
            if is_last || u64::try_from(found.len()).is_ok_and(|there| there >= total) {
                break;
            }
        }
        Ok(found)
    }

    async fn call<A: DeserializeOwned>(&self, action: Action, query: Query) -> Result<A, NasFault> {
        let query = query.with("RegionId", &self.region).canonical();
        let by = Instant::now() + CALL_DEADLINE;
        let (mut so_far, mut pauses, mut last) = (SoFar::default(), pauses(), None);
        loop {
            let ready = self.ready(action, by).await;
            if let Err(cause) = &ready {
                self.counts.note(action, Outcome::of(cause));
            }
            let (turn, used) = match ready {
                Ok(ready) => ready,
                // What stood in the way is worth more than that time has run out over it.
                Err(crowded @ NasCause::Crowded { .. }) => {
                    return Err(self.fault(action, so_far, last.unwrap_or(crowded)));
                }
                Err(cause) => return Err(self.fault(action, so_far, cause)),
            };
            so_far.attempts += 1;
            let answer = self.attempt(action, &query, &used, turn, by).await;
            self.counts.note(action, answer.as_ref().map_or_else(Outcome::of, |_| Outcome::Ok));
            let cause = match answer {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            tracing::debug!(%action, %cause, attempts = so_far.attempts, "a call of NAS has failed");
            match retry::next(action.repeat(), &cause, so_far) {
                Next::GiveUp => return Err(self.fault(action, so_far, cause)),
                Next::AgainWhenOpen => {}
                Next::AgainWithOthers => {
                    self.credentials.refused(&used);
                    so_far.renewed = true;
                }
                Next::Again => {
                    so_far.failed += 1;
                    let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
                    if Instant::now() + pause >= by {
                        return Err(self.fault(action, so_far, cause));
                    }
                    sleep(pause).await;
                }
            }
            last = Some(cause);
        }
    }

    /// Waits for what an attempt needs: its turn, and something to sign with.
    async fn ready(
        &self,
        action: Action,
        by: Instant,
    ) -> Result<(Turn, Arc<Credentials>), NasCause> {
        let turn = self.paces.turn(action, by).await.map_err(|crowded| NasCause::Crowded {
            per_minute: action.rate().per_minute,
            wait: crowded.wait,
        })?;
        let used = timeout_at(by, self.credentials.current()).await;
        let used = used.unwrap_or_else(|_| Err(Arc::new(CredentialsFault::Late)));
        Ok((turn, used.map_err(NasCause::Credentials)?))
    }

    fn fault(&self, action: Action, so_far: SoFar, cause: NasCause) -> NasFault {
        NasFault { action, endpoint: self.endpoint.clone(), attempts: so_far.attempts, cause }
    }

    async fn attempt<A: DeserializeOwned>(
        &self,
        action: Action,
        query: &str,
        used: &Credentials,
        turn: Turn,
        by: Instant,
    ) -> Result<A, NasCause> {
        let request = self.signed(action, query, used).ok_or(NasCause::Unsendable(used.origin))?;
        let left = by.saturating_duration_since(Instant::now()).min(ATTEMPT_DEADLINE);
        let answer = self.http.send(request, left).await.map_err(retry::lost)?;
        let answer = read(action, &answer, used);
        match &answer {
            Err(cause) if cause.kind() == Some(Kind::Throttled) => {
                self.paces.throttled(action, turn);
            }
            _ => self.paces.answered(action, turn),
        }
        answer
    }

    fn signed(&self, action: Action, query: &str, used: &Credentials) -> Option<Request<Bytes>> {
        let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + self.clock.now().wall);
        let signable = Signable {
            method: action.method(),
            host: self.endpoint.as_str(),
            query,
            action: action.name(),
            version: VERSION,
            date: &date.to_string(),
            nonce: &nonce()?,
        };
        let mut request = Request::builder()
            .method(action.method())
            .uri(format!("https://{}/?{query}", self.endpoint))
            .header(hyper::header::ACCEPT, "application/json");
        for (name, value) in signature::signed_headers(&signable, used).ok()? {
            request = request.header(name, value);
        }
        request.body(Bytes::new()).ok()
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

fn read<A: DeserializeOwned>(
    action: Action,
    answer: &Response<Bytes>,
    used: &Credentials,
) -> Result<A, NasCause> {
    let (status, body) = (answer.status(), answer.body());
    if !status.is_success() {
        return Err(NasCause::of_answer(action, status.as_u16(), body, used));
    }
    serde_json::from_slice(body).map_err(|error| {
        let answer: Option<RequestId> = serde_json::from_slice(body).ok();
        let request_id = answer.map_or_else(|| "unknown".to_owned(), |answer| answer.request_id);
        let why = one_line(&error.to_string());
        NasCause::Strange { why, status: status.as_u16(), request_id: one_line(&request_id) }
    })
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RequestId {
    request_id: String,
}

/// 32 digits that nobody has seen before.
fn nonce() -> Option<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).ok()?;
    Some(HEXLOWER.encode(&bytes))
}

impl fmt::Debug for NasClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NasClient").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
