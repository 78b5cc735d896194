//! The parameters of a call, as RPC-style APIs of the vendor take them: in the query, sorted and escaped.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::AsciiSet;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

use crate::nas::types::Tag;

/// What RFC 3986, section 2.3, leaves as it is, besides letters and digits.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Names and values. In the order of the names, because they are signed in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// What is not said is not sent: the service's default holds.
    pub(super) fn with_some(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// `name.1`, `name.2`, …
    pub(super) fn with_list<V: fmt::Display>(
        self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let numbered = (1..).zip(values);
        numbered.fold(self, |query, (number, value)| query.with(&format!("{name}.{number}"), value))
    }

    /// `Tag.1.Key`, `Tag.1.Value`, …
    pub(super) fn with_tags(self, tags: &[Tag]) -> Self {
        (1..).zip(tags).fold(self, |query, (number, tag)| {
            query
                .with(&format!("Tag.{number}.Key"), tag.key())
                .with(&format!("Tag.{number}.Value"), tag.value())
        })
    }

    /// As it is signed and sent.
    pub(super) fn canonical(&self) -> String {
        let escaped = |text| utf8_percent_encode(text, ESCAPED);
        let pairs = self.0.iter().map(|(name, value)| (escaped(name), escaped(value)));
        pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_numbered_and_escaped() {
        let query = Query::default()
            .with("b", "a b/~é")
            .with_some("c", None::<&str>)
            .with_some("d", Some(7))
            .with_list("ResourceId", ["x", "y"])
            .with_tags(&[Tag::parse("k", "v").unwrap()]);
        assert_eq!(
            query.canonical(),
            "ResourceId.1=x&ResourceId.2=y&Tag.1.Key=k&Tag.1.Value=v&b=a%20b%2F~%C3%A9&d=7"
        );
    }
}
