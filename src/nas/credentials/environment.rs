//! Credentials in variables of the process.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::nas::credentials::Credentials;
use crate::nas::credentials::CredentialsSource;
use crate::nas::credentials::Origin;
use crate::nas::credentials::SourceFault;

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
/// What the vendor's driver still reads.
const FORMER: [(&str, &str); 2] = [(ID, "ACCESS_KEY_ID"), (SECRET, "ACCESS_KEY_SECRET")];

/// What was in the environment when the process began. It never changes.
#[derive(Debug)]
pub struct Environment {
    id: Option<String>,
    secret: Option<SecretString>,
    token: Option<SecretString>,
}

impl Environment {
    /// Looks the variables up.
    pub fn look_up(look_up: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let or_former = |name| {
            let former = FORMER.iter().find(|(now, _)| *now == name);
            set(name).or_else(|| former.and_then(|(_, former)| set(former)))
        };
        Self {
            id: or_former(ID),
            secret: or_former(SECRET).map(Into::into),
            token: set(TOKEN).map(Into::into),
        }
    }
}

#[async_trait]
impl CredentialsSource for Environment {
    fn origin(&self) -> Origin {
        Origin::Environment
    }

    async fn credentials(&self) -> Result<Credentials, SourceFault> {
        match (&self.id, &self.secret) {
            (Some(id), Some(secret)) => Ok(Credentials {
                access_key_id: id.clone(),
                access_key_secret: secret.clone(),
                security_token: self.token.clone(),
                expires: None,
                origin: Origin::Environment,
            }),
            (Some(_), None) => Err(SourceFault::Half { set: ID, missing: SECRET }),
            (None, Some(_)) => Err(SourceFault::Half { set: SECRET, missing: ID }),
            (None, None) => Err(SourceFault::Absent(format!("{ID} is not set"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    async fn of(variables: &[(&str, &str)]) -> Result<Credentials, SourceFault> {
        let look_up = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Environment::look_up(look_up).credentials().await
    }

    #[tokio::test]
    async fn variables_are_read_by_their_new_and_their_former_names() {
        for variables in [
            &[(ID, "k"), (SECRET, "s"), (TOKEN, "t")][..],
            &[("ACCESS_KEY_ID", "k"), ("ACCESS_KEY_SECRET", "s"), (TOKEN, "t")],
            &[(ID, "k"), ("ACCESS_KEY_ID", "x"), (SECRET, "s"), (TOKEN, "t")],
        ] {
            let found = of(variables).await.unwrap();
            assert_eq!(found.access_key_id, "k");
            assert_eq!(found.access_key_secret.expose_secret(), "s");
            assert_eq!(found.security_token.unwrap().expose_secret(), "t");
        }
        assert!(
            of(&[(ID, "k"), (SECRET, "s"), (TOKEN, "")]).await.unwrap().security_token.is_none()
        );
    }

    #[tokio::test]
    async fn one_of_the_two_is_a_mistake_and_none_is_not() {
        let half = |set, missing| SourceFault::Half { set, missing };
        assert_eq!(of(&[(ID, "k")]).await.unwrap_err(), half(ID, SECRET));
        assert_eq!(of(&[(SECRET, "s"), (ID, "")]).await.unwrap_err(), half(SECRET, ID));
        assert!(matches!(of(&[]).await, Err(SourceFault::Absent(_))));
    }
}
