//! From text to the network's input: which of 4096 buckets have a word in them. Training
//! did the same, so every choice here is one that the network was trained with.

/// The buckets that words are hashed to.
const BUCKETS: usize = 4096;
/// How many characters of a text are read.
const CHARACTERS: usize = 20_000;
/// A word is this long at most; longer runs are cut into several.
const LONGEST: usize = 20;
/// And at least this long.
const SHORTEST: usize = 2;

/// The network's input: 1 for each bucket with a word in it. `None` if there is no word.
///
/// A word is what the regular expression `[a-z0-9$!]{2,20}` finds in the text's first
/// 20,000 characters, in lower case.
pub(crate) fn bag(text: &str) -> Option<Box<[f32; BUCKETS]>> {
    let mut bag = Box::new([0.0; BUCKETS]);
    let mut any = false;
    let mut word = Word::default();
    // Lower case first, then count: a character may become several.
    for character in text.chars().flat_map(char::to_lowercase).take(CHARACTERS) {
        match u8::try_from(character) {
            Ok(byte @ (b'a'..=b'z' | b'0'..=b'9' | b'$' | b'!')) => {
                if word.length == LONGEST {
                    any |= word.end(&mut bag);
                }
                word.push(byte);
            }
            _ => any |= word.end(&mut bag),
        }
    }
    any |= word.end(&mut bag);
    any.then_some(bag)
}

/// The word being read: its length, and its FNV-1a hash so far.
struct Word {
    length: usize,
    hash: u32,
}

impl Default for Word {
    fn default() -> Self {
        Self {
            length: 0,
            hash: 2_166_136_261,
        }
    }
}

impl Word {
    fn push(&mut self, byte: u8) {
        self.length += 1;
        self.hash = (self.hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    }

    /// Puts the word into the bag if it is long enough, and begins the next one.
    fn end(&mut self, bag: &mut [f32; BUCKETS]) -> bool {
        let Self { length, hash } = std::mem::take(self);
        let long_enough = length >= SHORTEST;
        if long_enough && let Some(bucket) = bag.get_mut(hash as usize % BUCKETS) {
            *bucket = 1.0;
        }
        long_enough
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use super::*;

    #[derive(serde::Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        indices: Vec<usize>,
    }

    fn indices(text: &str) -> Vec<usize> {
        let bag = bag(text);
        let values = bag.iter().flat_map(|bag| bag.iter()).enumerate();
        values
            .filter(|(_, value)| **value == 1.0)
            .map(|(index, _)| index)
            .collect()
    }

    fn bucket(word: &str) -> usize {
        let mut read = Word::default();
        word.bytes().for_each(|byte| read.push(byte));
        read.hash as usize % BUCKETS
    }

    fn buckets(words: &[&str]) -> Vec<usize> {
        let mut buckets: Vec<usize> = words.iter().map(|word| bucket(word)).collect();
        buckets.sort_unstable();
        buckets
    }

    #[test]
    fn the_buckets_are_those_of_training() {
        let golden = include_str!("../../../models/spam/spam-golden.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        assert_eq!(golden.cases.len(), 2);
        for case in golden.cases {
            assert_eq!(indices(&case.text), case.indices);
        }
    }

    #[test]
    fn case_does_not_matter_and_other_characters_part_words() {
        assert_eq!(indices("FREE $$$, Now!"), buckets(&["free", "$$$", "now!"]));
        // The Kelvin sign is a k in lower case, as it is for Python.
        assert_eq!(indices("brea\u{212a}"), buckets(&["break"]));
        assert_eq!(indices("caféine"), buckets(&["caf", "ine"]));
    }

    #[test]
    fn a_run_of_more_than_twenty_is_cut_and_a_single_letter_dropped() {
        let twenty = "abcdefghij0123456789";
        assert_eq!(indices(&format!("{twenty}xy")), buckets(&[twenty, "xy"]));
        assert_eq!(indices(&format!("{twenty}x a")), buckets(&[twenty]));
    }

    #[test]
    fn only_the_first_twenty_thousand_characters_are_read() {
        let filler = "é".repeat(CHARACTERS - 4);
        assert_eq!(indices(&format!("{filler}spam")), buckets(&["spam"]));
        assert_eq!(indices(&format!("{filler}spammer")), buckets(&["spam"]));
    }

    #[test]
    fn a_text_without_words_has_no_bag() {
        assert!(bag("").is_none());
        assert!(bag("a ? é").is_none());
    }
}
