//! How the service says no, and how each answer gets its request id.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use serde_json::Value;
use serde_json::json;

/// An error of the API.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
    /// Which permission is missing.
    pub(super) denied: Option<String>,
}

/// What a call comes to: the fields of its answer without the request id.
pub(super) type Outcome = Result<Value, Refusal>;

pub(super) fn refusal(status: u16, code: &str, message: &str) -> Refusal {
    Refusal { status, code: code.to_owned(), message: message.to_owned(), denied: None }
}

/// Status and body.
pub(super) fn written(outcome: Outcome) -> (u16, String) {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("98696EF0-1607-4E9D-B01D-{number:012X}");
    let (status, mut body) = match outcome {
        Ok(body) => (200, body),
        Err(refused) => (refused.status, refused.body()),
    };
    if let Some(fields) = body.as_object_mut() {
        fields.insert("RequestId".to_owned(), request_id.into());
    }
    (status, body.to_string())
}

impl Refusal {
    fn body(&self) -> Value {
        let mut body = json!({
            "Code": self.code,
            "Message": self.message,
            "HostId": "nas.cn-test.aliyuncs.com",
            "Recommend": format!("https://api.example.com/troubleshoot?q={}", self.code),
        });
        if let (Some(denied), Some(fields)) = (&self.denied, body.as_object_mut()) {
            let detail = json!({
                "AuthAction": denied,
                "AuthPrincipalType": "SubUser",
                "NoPermissionType": "ImplicitDeny",
                "PolicyType": "AccountLevelIdentityBasedPolicy",
            });
            fields.insert("AccessDeniedDetail".to_owned(), detail);
        }
        body
    }
}
