//! What of a volume may be changed while it is there: the parameters of a VolumeAttributesClass.

use std::collections::HashMap;

use crate::model::nearest::did_you_mean;
use crate::model::storage_class::OnDelete;

/// Every parameter that may be changed.
pub const KEYS: [&str; 1] = ["onDelete"];

/// What is to change. What is not named stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What becomes of the data with the volume.
    pub on_delete: Option<OnDelete>,
}

/// Why something cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A key that cannot be changed, or that is none.
    #[error(
        "parameter {0:?} cannot be changed, only \"onDelete\" can{hint}",
        hint = did_you_mean(.0, KEYS.into_iter())
    )]
    Unknown(String),
    /// The same key twice, in different case.
    #[error("parameter {0:?} is given twice")]
    Twice(String),
    /// A value outside its range.
    #[error("parameter {key:?} is {value:?}; expected \"delete\", \"archive\" or \"retain\"")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
    },
}

impl Changes {
    /// Reads mutable parameters. Keys have any case.
    ///
    /// # Errors
    /// Names the first one, in the order of the alphabet, that cannot be changed so; then nothing is.
    pub fn parse(parameters: &HashMap<String, String>) -> Result<Self, ChangeError> {
        let mut all: Vec<_> = parameters.iter().collect();
        all.sort();
        let mut changes = Self::default();
        for (key, value) in all {
            let [on_delete] = KEYS;
            if !key.eq_ignore_ascii_case(on_delete) {
                return Err(ChangeError::Unknown(key.clone()));
            }
            let wrong = || ChangeError::Value { key: on_delete, value: value.clone() };
            let read = OnDelete::parse(value).ok_or_else(wrong)?;
            if changes.on_delete.replace(read).is_some() {
                return Err(ChangeError::Twice(key.clone()));
            }
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<Changes, ChangeError> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Changes::parse(&parameters.iter().map(own).collect())
    }

    #[test]
    fn what_may_be_changed_is_read_and_everything_else_is_named() {
        assert_eq!(parse(&[]), Ok(Changes::default()));
        for key in ["onDelete", "ondelete", "ONDELETE"] {
            let on_delete = Some(OnDelete::Retain);
            assert_eq!(parse(&[(key, "retain")]), Ok(Changes { on_delete }));
        }
        for (parameters, said) in [
            (&[("onDelte", "retain")][..], "did you mean \"onDelete\"?"),
            (&[("server", "b.test")], "\"server\" cannot be changed"),
            (&[("onDelete", "")], "expected \"delete\""),
            (&[("onDelete", "Retain")], "expected \"delete\""),
            (&[("onDelete", "delete"), ("ondelete", "retain")], "twice"),
            (&[("onDelete", "retain"), ("XXX_FakeKey", "x")], "XXX_FakeKey"),
        ] {
            let error = parse(parameters).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_other_key_changes_anything(key in "\\PC{0,20}", value in "\\PC{0,20}") {
            if let Ok(changes) = parse(&[(&key, &value)]) {
                prop_assert!(key.eq_ignore_ascii_case("onDelete"));
                prop_assert!(changes.on_delete.is_some());
            }
        }
    }
}
