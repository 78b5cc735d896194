//! "Did you mean": the known word nearest to an unknown one.

/// The word of `known` nearest to `unknown`, where one is near enough to be a slip of the hand.
#[must_use]
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    let length = unknown.chars().count();
    known
        .into_iter()
        // Compared in full, a long text would take its length times that of every word.
        .filter(|word| word.len().abs_diff(length) <= allowed(word))
        .map(|word| (strsim::damerau_levenshtein(&unknown, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= allowed(word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many slips are allowed in a word.
fn allowed(word: &str) -> usize {
    (word.len() / 3).max(1)
}

/// `; did you mean "…"?` or nothing: the end of a message about an unknown word.
#[must_use]
pub fn did_you_mean<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(unknown, known).map(|word| format!("; did you mean {word:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_word_and_another_word_finds_none() {
        let known = ["server", "path", "tlsServerName"];
        assert_eq!(nearest("sever", known), Some("server"));
        assert_eq!(nearest("TLSSERVERNAME", known), Some("tlsServerName"));
        assert_eq!(nearest("pth", known), Some("path"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"server".repeat(1000), known), None);
    }
}
