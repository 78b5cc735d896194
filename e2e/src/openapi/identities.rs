//! Who may call: RAM users, roles and their sessions. STS gives sessions out, and so does the metadata service.

use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;
use serde_json::json;

use crate::openapi::answer::Outcome;
use crate::openapi::answer::Refusal;
use crate::openapi::answer::refusal;
use crate::openapi::signature::Seen;

#[derive(Debug)]
struct Key {
    secret: String,
    session: Option<Session>,
    denied: HashSet<String>,
}

#[derive(Debug)]
struct Session {
    token: String,
    ends: SystemTime,
}

#[derive(Debug)]
struct Role {
    provider_arn: String,
    token: String,
}

#[derive(Debug)]
pub(super) struct Identities {
    keys: HashMap<String, Key>,
    roles: HashMap<String, Role>,
    nonces: HashSet<String>,
    session: Duration,
    given_out: u32,
    pub(super) instance_role: Option<String>,
}

impl Identities {
    pub(super) fn new(session: Duration) -> Self {
        let (keys, roles, nonces) = (HashMap::new(), HashMap::new(), HashSet::new());
        Self { keys, roles, nonces, session, given_out: 0, instance_role: None }
    }

    pub(super) fn add_user(&mut self, id: &str, secret: &str) {
        let key = Key { secret: secret.to_owned(), session: None, denied: HashSet::new() };
        self.keys.insert(id.to_owned(), key);
    }

    pub(super) fn deny(&mut self, id: &str, permission: &str) {
        if let Some(key) = self.keys.get_mut(id) {
            key.denied.insert(permission.to_owned());
        }
    }

    pub(super) fn add_role(&mut self, arn: &str, provider_arn: &str, token: &str) {
        let role = Role { provider_arn: provider_arn.to_owned(), token: token.to_owned() };
        self.roles.insert(arn.to_owned(), role);
    }

    pub(super) fn end_sessions(&mut self) {
        let sessions = self.keys.values_mut().filter_map(|key| key.session.as_mut());
        sessions.for_each(|session| session.ends = SystemTime::UNIX_EPOCH);
    }

    /// Who calls, if he may.
    pub(super) fn authenticate(
        &mut self,
        seen: &Seen<'_>,
        action: &str,
    ) -> Result<String, Refusal> {
        let claim = seen.claim()?;
        let key = self.keys.get(&claim.access_key_id).ok_or_else(|| {
            refusal(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        })?;
        seen.verify(&claim, &key.secret)?;
        let token = seen.header("x-acs-security-token");
        match &key.session {
            Some(session) if session.ends <= SystemTime::now() => {
                let message = "The specified SecurityToken is expired.";
                return Err(refusal(400, "InvalidSecurityToken.Expired", message));
            }
            Some(session) if session.token != token => {
                let message = "The specified SecurityToken does not match the AccessKey.";
                return Err(refusal(400, "InvalidSecurityToken.MismatchWithAccessKey", message));
            }
            Some(_) | None => {}
        }
        if !self.nonces.insert(seen.header("x-acs-signature-nonce").to_owned()) {
            let message = "The request signature nonce has been used.";
            return Err(refusal(400, "SignatureNonceUsed", message));
        }
        let permission = format!("nas:{action}");
        if key.denied.contains(&permission) {
            let message =
                "You are not authorized to do this action. You should be authorized by RAM.";
            let refused = refusal(403, "Forbidden.RAM", message);
            return Err(Refusal { denied: Some(permission), ..refused });
        }
        Ok(claim.access_key_id)
    }

    /// AssumeRoleWithOIDC.
    pub(super) fn assume_role(&mut self, form: &HashMap<String, String>) -> Outcome {
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let role = self
            .roles
            .get(field("RoleArn"))
            .ok_or_else(|| refusal(404, "EntityNotExist.Role", "The role not exists."))?;
        if role.provider_arn != field("OIDCProviderArn") {
            let message = "No such OIDC Provider registered.";
            return Err(refusal(401, "AuthenticationFail.NoPermission", message));
        }
        if role.token != field("OIDCToken") {
            let message = "This JsonWebToken is expired.";
            return Err(refusal(401, "AuthenticationFail.OIDCToken.Expired", message));
        }
        let (arn, name) = (field("RoleArn").to_owned(), field("RoleSessionName").to_owned());
        Ok(json!({
            "Credentials": self.give_out(),
            "AssumedRoleUser": { "Arn": format!("{arn}/{name}"), "AssumedRoleId": format!("3:{name}") },
            "OIDCTokenInfo": { "Issuer": "https://oidc.example.com", "Subject": "system:serviceaccount:a:b" },
        }))
    }

    /// A session, as the metadata service and STS both write it.
    pub(super) fn give_out(&mut self) -> Value {
        self.given_out += 1;
        let number = self.given_out;
        let (id, secret) = (format!("STS.{number}"), format!("secret-of-session-{number}"));
        let token = format!("CAIS+token/of={number}");
        let ends = SystemTime::now() + self.session;
        let session = Session { token: token.clone(), ends };
        let denied = HashSet::new();
        self.keys
            .insert(id.clone(), Key { secret: secret.clone(), session: Some(session), denied });
        json!({
            "AccessKeyId": id,
            "AccessKeySecret": secret,
            "SecurityToken": token,
            "Expiration": humantime::format_rfc3339_seconds(ends).to_string(),
        })
    }
}
