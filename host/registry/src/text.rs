//! How words that came from outside are shown in messages: escaped and cut short, so that a name
//! sent by a caller can neither forge a log line nor fill one.

/// The most characters of a caller's word that a message repeats.
const SHOWN: usize = 80;

/// `word` between backquotes, control characters escaped, cut after [`SHOWN`] characters.
pub(crate) fn quoted(word: &str) -> String {
    let mut out = String::from("`");
    out.extend(word.chars().take(SHOWN).flat_map(char::escape_debug));
    if word.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out.push('`');
    out
}

/// The words in backquotes, joined by commas, at most ten of them.
pub(crate) fn quoted_list<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    const LISTED: usize = 10;
    let words: Vec<&str> = words.into_iter().collect();
    let mut out: Vec<String> = words.iter().take(LISTED).map(|word| quoted(word)).collect();
    if words.len() > LISTED {
        out.push(format!("{} more", words.len() - LISTED));
    }
    out.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_cannot_be_smuggled_into_a_message() {
        assert_eq!(quoted("a\nb"), "`a\\nb`");
    }

    #[test]
    fn a_long_word_is_cut() {
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), SHOWN + 3);
    }

    #[test]
    fn a_long_list_says_how_many_are_left_out() {
        let words = vec!["w"; 13];
        assert!(quoted_list(words).ends_with(", 3 more"));
    }
}
