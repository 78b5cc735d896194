//! The metadata service of an ECS instance, in version 2 alone: version 1 answers whoever makes us fetch a URL.
//!
//! Where there is no such service the packets go nowhere. So each request has a deadline, and whoever makes several
//! gives all of them [`DEADLINE`].

use std::time::Duration;

use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

use crate::nas::http::Http;
use crate::nas::http::HttpFault;

/// The vendor's, on every instance.
pub(in crate::nas) const METADATA_SERVICE: &str = "http://100.100.100.200";
/// For one request.
pub(in crate::nas) const STEP_DEADLINE: Duration = Duration::from_secs(1);
/// For all that one wants to know.
pub(in crate::nas) const DEADLINE: Duration = Duration::from_secs(2);

const TOKEN_PATH: &str = "/latest/api/token";
/// In seconds, and longer than [`DEADLINE`]: a token serves for one visit.
const TOKEN_LIFE: HeaderValue = HeaderValue::from_static("60");
const LIFE_HEADER: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aliyun-ecs-metadata-token";

/// The service, and the token that it has given us.
pub(in crate::nas) struct Visit<'a> {
    http: &'a dyn Http,
    service: &'a str,
    token: HeaderValue,
}

/// Why there is no token.
pub(in crate::nas) enum NoToken {
    /// Nobody answers: this is no instance, or its metadata are switched off.
    Unanswered(HttpFault),
    /// The service does not give one.
    Refused(Response<Bytes>),
}

impl<'a> Visit<'a> {
    /// Asks for a token. `http` sends in the clear: the service has no other way.
    pub(in crate::nas) async fn begin(
        http: &'a dyn Http,
        service: &'a str,
    ) -> Result<Self, NoToken> {
        let answer = send(http, Method::PUT, service, TOKEN_PATH, (LIFE_HEADER, TOKEN_LIFE)).await;
        let answer = answer.map_err(NoToken::Unanswered)?;
        if answer.status().as_u16() != 200 {
            return Err(NoToken::Refused(answer));
        }
        let mut token = HeaderValue::from_bytes(answer.body().trim_ascii()).map_err(|_| {
            let why = "its token is none that a header can carry".to_owned();
            NoToken::Unanswered(HttpFault::Broken { why })
        })?;
        token.set_sensitive(true);
        Ok(Self { http, service, token })
    }

    /// What the service answers, whatever its status.
    pub(in crate::nas) async fn get(&self, path: &str) -> Result<Response<Bytes>, HttpFault> {
        let token = (TOKEN_HEADER, self.token.clone());
        send(self.http, Method::GET, self.service, path, token).await
    }
}

async fn send(
    http: &dyn Http,
    method: Method,
    service: &str,
    path: &str,
    (name, value): (&str, HeaderValue),
) -> Result<Response<Bytes>, HttpFault> {
    let request = Request::builder().method(method).uri(format!("{service}{path}"));
    let request = request.header(name, value).body(Bytes::new());
    let request = request.map_err(|error| HttpFault::Broken { why: error.to_string() })?;
    http.send(request, STEP_DEADLINE).await
}

/// The text that an answer holds.
pub(in crate::nas) fn text(answer: &Response<Bytes>) -> Option<&str> {
    std::str::from_utf8(answer.body()).ok().map(str::trim)
}
