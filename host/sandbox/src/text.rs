//! Words of a guest, made fit for a log line or an answer: no longer than that, and without
//! what would pass for something else there.

use std::borrow::Cow;

/// `text` if it has at most `most` bytes, else its beginning and an ellipsis.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// `text` with what moves the cursor, ends the line or turns the direction of writing shown
/// as escapes, as a log for people is read in a terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_unprintable(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_the_cursor_is_shown_and_all_else_left_alone() {
        assert_eq!(printable("a\tb \"ü\" \\n"), "a\tb \"ü\" \\n");
        assert_eq!(printable("a\r\nb\u{1b}[0m\0"), "a\\r\\nb\\u{1b}[0m\\u{0}");
        assert_eq!(printable("\u{202e}cba"), "\\u{202e}cba");
    }

    #[test]
    fn what_fits_is_left_alone_and_no_character_is_split() {
        assert_eq!(cut("four".to_owned(), 4), "four");
        assert_eq!(cut("fours".to_owned(), 4), "four…");
        assert_eq!(cut("thrü".to_owned(), 4), "thr…");
    }
}
