//! What the service's clock shows. Its signatures hold for minutes, so a machine whose clock is wrong is refused.

use std::time::Duration;
use std::time::UNIX_EPOCH;

use hyper::Request;
use hyper::body::Bytes;
use hyper::header::DATE;

use crate::nas::client::NasClient;
use crate::nas::http::HttpFault;

const DEADLINE: Duration = Duration::from_secs(10);

impl NasClient {
    /// The `Date` of an answer, since the epoch, in whole seconds; none where it has no such header.
    ///
    /// The request asks for nothing and is not signed: it needs no credentials, and the service refuses it.
    ///
    /// # Errors
    /// Says why there is no answer.
    pub async fn date(&self) -> Result<Option<Duration>, HttpFault> {
        let unsendable =
            |error: hyper::http::Error| HttpFault::Unreached { why: error.to_string() };
        let request = Request::get(format!("https://{}/", self.endpoint));
        let request = request.body(Bytes::new()).map_err(unsendable)?;
        let answer = self.http.send(request, DEADLINE).await?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Ok(date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()))
    }
}
