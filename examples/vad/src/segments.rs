//! From probabilities to speech that begins and ends: as Silero's own `get_speech_timestamps`
//! does it, a window at a time, so that a stream's segments are those of its recording.

use aegis_guest::{Context, Failure};
use serde::Serialize;

/// How far below the threshold a window must be to count as silence: between the two nothing
/// changes, so that a voice that wavers is not cut to pieces.
const HYSTERESIS: f32 = 0.15;

/// Samples of a millisecond.
const PER_MS: u64 = 16;

/// What the config says of speech, in samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) threshold: f32,
    pub(crate) min_silence: u64,
    pub(crate) min_speech: u64,
    pub(crate) pad: u64,
}

impl Settings {
    pub(crate) fn read(ctx: &Context) -> Result<Self, Failure> {
        let samples = |key, default: u32| {
            let ms = ctx.config_parse(key, default)?;
            Ok::<_, Failure>(u64::from(ms) * PER_MS)
        };
        let min_silence = samples("min_silence_ms", 100)?;
        Ok(Self {
            threshold: ctx.config_parse("threshold", 0.5)?,
            min_silence,
            min_speech: samples("min_speech_ms", 250)?,
            // So that what is added to two segments never meets.
            pad: samples("pad_ms", 30)?.min(min_silence / 2),
        })
    }
}

/// A stretch of speech, in milliseconds from the beginning of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Segment {
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
}

/// Whether somebody speaks. Places are samples from the beginning of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segmenter {
    /// Where the speech began that has not ended.
    pub(crate) began: Option<u64>,
    /// Where the silence began that may be its end.
    pub(crate) quiet: Option<u64>,
}

impl Segmenter {
    /// Takes the probability of the window that begins at `at`; gives the segment that it
    /// ends.
    pub(crate) fn window(
        &mut self,
        at: u64,
        probability: f32,
        settings: &Settings,
    ) -> Option<Segment> {
        if probability >= settings.threshold {
            self.quiet = None;
            self.began.get_or_insert(at);
            return None;
        }
        let began = self.began?;
        if probability >= settings.threshold - HYSTERESIS {
            return None;
        }
        let quiet = *self.quiet.get_or_insert(at);
        if at.saturating_sub(quiet) < settings.min_silence {
            return None;
        }
        *self = Self::default();
        segment(began, quiet, quiet.saturating_add(settings.pad), settings)
    }

    /// Gives the segment that the end of the stream ends.
    pub(crate) fn end(&mut self, at: u64, settings: &Settings) -> Option<Segment> {
        let began = std::mem::take(self).began?;
        segment(began, at, at, settings)
    }
}

/// The segment, if it is long enough, with what is added to it.
fn segment(began: u64, ended: u64, padded: u64, settings: &Settings) -> Option<Segment> {
    (ended.saturating_sub(began) > settings.min_speech).then(|| Segment {
        start_ms: began.saturating_sub(settings.pad) / PER_MS,
        end_ms: padded.div_ceil(PER_MS),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        threshold: 0.5,
        min_silence: 100 * PER_MS,
        min_speech: 250 * PER_MS,
        pad: 30 * PER_MS,
    };

    fn segments(probabilities: &[(usize, f32)]) -> Vec<Segment> {
        let mut segmenter = Segmenter::default();
        let (mut found, mut at) = (Vec::new(), 0);
        for (count, probability) in probabilities {
            for _ in 0..*count {
                found.extend(segmenter.window(at, *probability, &SETTINGS));
                at += 512;
            }
        }
        found.extend(segmenter.end(at, &SETTINGS));
        found
    }

    fn ms(start_ms: u64, end_ms: u64) -> Segment {
        Segment { start_ms, end_ms }
    }

    #[test]
    fn speech_is_from_its_first_window_to_its_silence_and_a_little_more() {
        assert_eq!(
            segments(&[(10, 0.0), (20, 0.9), (10, 0.0)]),
            [ms(320 - 30, 960 + 30)]
        );
        assert_eq!(segments(&[(20, 0.9)]), [ms(0, 640)]);
        assert_eq!(segments(&[(40, 0.0)]), []);
    }

    #[test]
    fn short_pauses_do_not_end_it_and_short_speech_is_none() {
        assert_eq!(
            segments(&[(10, 0.9), (3, 0.0), (10, 0.9)]),
            [ms(0, 23 * 32)]
        );
        assert_eq!(segments(&[(5, 0.0), (7, 0.9), (10, 0.0)]), []);
        assert_eq!(
            segments(&[(10, 0.9), (8, 0.0), (10, 0.9)]),
            [ms(0, 350), ms(18 * 32 - 30, 28 * 32)]
        );
    }

    #[test]
    fn between_the_thresholds_nothing_changes() {
        assert_eq!(segments(&[(20, 0.4)]), []);
        assert_eq!(segments(&[(10, 0.9), (20, 0.4)]), [ms(0, 30 * 32)]);
    }
}
