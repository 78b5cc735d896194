//! Certificates and signatures that openssl and Python have made: `e2e/identity/regenerate` makes them anew.

use std::time::Duration;

use serde_json::Value;

use crate::host::credentials::Credentials;
use crate::model::client_identity::AccessPointId;
use crate::model::mount_target::FileSystemName;
use crate::tls::client_certificate::key::ClientKey;
use crate::tls::client_certificate::x509::Content;
use crate::tls::client_certificate::x509::Time;

pub(super) struct Vector {
    pub(super) name: String,
    pub(super) content: Content,
    pub(super) ram: Option<Ram>,
    /// Hexadecimal digits.
    pub(super) certificate: String,
}

pub(super) struct Ram {
    pub(super) credentials: Credentials,
    pub(super) canonical_request: String,
    pub(super) string_to_sign: String,
    pub(super) signature: String,
}

pub(super) fn vectors() -> Vec<Vector> {
    let text = include_str!("../../../e2e/identity/vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(text).unwrap();
    vectors.iter().map(vector).collect()
}

/// The key that all of them were made with.
pub(super) fn key() -> ClientKey {
    let pem = include_bytes!("../../../e2e/identity/key.pem");
    let key = openssl::pkey::PKey::private_key_from_pem(pem).unwrap();
    ClientKey::from_pkcs8(&key.private_key_to_pkcs8().unwrap()).unwrap()
}

fn vector(value: &Value) -> Vector {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let required = |key: &str| text(key).unwrap_or_else(|| panic!("{key} is missing: {value}"));
    let now = Duration::from_secs(value["now"].as_u64().unwrap());
    let region = text("region");
    Vector {
        name: required("name"),
        content: Content {
            common_name: required("common_name"),
            now: Time::since_epoch(now),
            file_system: text("file_system")
                .map(|id| FileSystemName { id, region: region.unwrap() }),
            access_point: text("access_point").map(|id| AccessPointId::parse(&id).unwrap()),
        },
        ram: text("access_key_id").map(|access_key_id| Ram {
            credentials: Credentials {
                access_key_id,
                access_key_secret: required("access_key_secret").into(),
                security_token: text("security_token").map(Into::into),
            },
            canonical_request: required("canonical_request"),
            string_to_sign: required("string_to_sign"),
            signature: required("signature"),
        }),
        certificate: required("certificate"),
    }
}
