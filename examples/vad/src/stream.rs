//! A stream of audio as far as it has been read: the network's state, the samples it looks
//! back on, those that do not fill a window yet, and whether somebody speaks. In bytes it is
//! what travels with the caller or stays in the host; cut anywhere, a stream is read as if it
//! were whole.

use aegis_guest::{Failure, Graph, Tensor};

use crate::segments::{Segment, Segmenter, Settings};

/// Samples of one window: 32 ms.
pub(crate) const WINDOW: usize = 512;
/// Samples before a window that the network is given with it.
const CONTEXT: usize = 64;
/// Numbers of the network's state: `[2, 1, 128]`.
const STATE: usize = 256;
/// What the network is told of the sample rate.
const SAMPLE_RATE: i64 = 16_000;

/// The first byte of a state: another layout, or another network, has another.
const FORMAT: u8 = 1;
/// No stream is longer, in samples: a century.
const MAX_POSITION: u64 = 1 << 46;

/// A stream, read so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stream {
    /// Samples of the windows that were run.
    read: u64,
    context: Vec<i16>,
    /// Fewer than a window's.
    pending: Vec<i16>,
    network: Vec<f32>,
    segmenter: Segmenter,
}

/// What was found in a part of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) probabilities: Vec<f32>,
    pub(crate) segments: Vec<Segment>,
}

impl Stream {
    /// A stream of which nothing was read.
    pub(crate) fn new() -> Self {
        Self {
            read: 0,
            context: vec![0; CONTEXT],
            pending: Vec::with_capacity(WINDOW),
            network: vec![0.0; STATE],
            segmenter: Segmenter::default(),
        }
    }

    /// Samples so far.
    pub(crate) fn position(&self) -> u64 {
        self.read + self.pending.len() as u64
    }

    /// Windows so far.
    pub(crate) fn windows(&self) -> u64 {
        self.read / WINDOW as u64
    }

    /// Where somebody began to speak who still does, in samples.
    pub(crate) fn speaking_since(&self) -> Option<u64> {
        self.segmenter.began
    }

    /// Reads on: runs every window that is full now.
    pub(crate) fn read(
        &mut self,
        mut samples: &[i16],
        graph: &Graph,
        settings: &Settings,
    ) -> Result<Found, Failure> {
        let mut found = Found::default();
        loop {
            let missing = WINDOW.saturating_sub(self.pending.len());
            let Some((now, later)) = samples.split_at_checked(missing) else {
                self.pending.extend_from_slice(samples);
                return Ok(found);
            };
            self.pending.extend_from_slice(now);
            samples = later;
            self.window(graph, settings, &mut found)?;
        }
    }

    /// Reads what is left, with silence after it, and ends what is being said.
    pub(crate) fn end(
        &mut self,
        graph: &Graph,
        settings: &Settings,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let end = self.position();
        if !self.pending.is_empty() {
            self.pending.resize(WINDOW, 0);
            self.window(graph, settings, found)?;
        }
        found.segments.extend(self.segmenter.end(end, settings));
        Ok(())
    }

    /// Runs the window that is pending.
    fn window(
        &mut self,
        graph: &Graph,
        settings: &Settings,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let samples = self.context.iter().chain(&self.pending);
        let input: Vec<f32> = samples.map(|sample| f32::from(*sample) / 32768.0).collect();
        let width = u32::try_from(input.len())?;
        let outputs = graph.run(&[
            ("input", Tensor::new(&[1, width], &input)),
            ("state", Tensor::new(&[2, 1, 128], &self.network)),
            ("sr", Tensor::new(&[], &[SAMPLE_RATE])),
        ])?;
        let probability = *outputs
            .get::<f32>("output")?
            .first()
            .ok_or("the network gave no probability")?;
        let network = outputs.get::<f32>("stateN")?;
        if network.len() != STATE {
            return Err(Failure::internal("the network's state has another size"));
        }
        self.network.clear();
        self.network.extend_from_slice(&network);
        let last = self.pending.len().saturating_sub(CONTEXT);
        self.context.clear();
        self.context.extend(self.pending.drain(..).skip(last));
        found.probabilities.push(probability);
        let ended = self.segmenter.window(self.read, probability, settings);
        found.segments.extend(ended);
        self.read += WINDOW as u64;
        Ok(())
    }

    /// The stream in bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let places = [Some(self.read), self.segmenter.began, self.segmenter.quiet];
        for place in places {
            bytes.extend(place.unwrap_or(u64::MAX).to_le_bytes());
        }
        for value in &self.network {
            bytes.extend(value.to_le_bytes());
        }
        for sample in self.context.iter().chain(&self.pending) {
            bytes.extend(sample.to_le_bytes());
        }
        bytes
    }

    /// A stream from its bytes, which may come from anybody; the error says what is wrong.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        let (format, rest) = bytes.split_first().ok_or("it is empty")?;
        if *format != FORMAT {
            return Err("it is not of this version of the model");
        }
        let mut rest = Parts(rest);
        let mut place = || rest.number(u64::from_le_bytes);
        let (read, began, quiet) = (place()?, place()?, place()?);
        let given = |place: u64| (place != u64::MAX).then_some(place);
        let (began, quiet) = (given(began), given(quiet));
        let in_order = began.is_none_or(|began| began < read)
            && quiet.is_none_or(|quiet| quiet < read && began.is_some_and(|began| began < quiet));
        if read > MAX_POSITION || !read.is_multiple_of(WINDOW as u64) || !in_order {
            return Err("its places make no sense");
        }
        let network = (0..STATE)
            .map(|_| rest.number(f32::from_le_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        if network.iter().any(|value| !value.is_finite()) {
            return Err("its numbers are not finite");
        }
        let context = (0..CONTEXT)
            .map(|_| rest.number(i16::from_le_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let mut pending = Vec::with_capacity(WINDOW);
        while !rest.0.is_empty() {
            pending.push(rest.number(i16::from_le_bytes)?);
        }
        if pending.len() >= WINDOW {
            return Err("it is too long");
        }
        Ok(Self {
            read,
            context,
            pending,
            network,
            segmenter: Segmenter { began, quiet },
        })
    }
}

/// Bytes that numbers are taken from.
struct Parts<'b>(&'b [u8]);

impl Parts<'_> {
    fn number<T, const N: usize>(&mut self, read: fn([u8; N]) -> T) -> Result<T, &'static str> {
        let (number, rest) = self.0.split_first_chunk().ok_or("it is cut off")?;
        self.0 = rest;
        Ok(read(*number))
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )]
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{SETTINGS, silero};

    fn heard(cuts: &[usize], samples: &[i16]) -> (Found, u64) {
        let host = silero();
        let ctx = host.context();
        let graph = ctx.graph("silero").unwrap();
        let (mut stream, mut all, mut rest) = (Stream::new(), Found::default(), samples);
        for cut in cuts {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            let found = stream.read(now, &graph, &SETTINGS).unwrap();
            all.probabilities.extend(found.probabilities);
            all.segments.extend(found.segments);
            stream = Stream::from_bytes(&stream.to_bytes()).unwrap();
            rest = later;
        }
        let found = stream.read(rest, &graph, &SETTINGS).unwrap();
        all.probabilities.extend(found.probabilities);
        all.segments.extend(found.segments);
        stream.end(&graph, &SETTINGS, &mut all).unwrap();
        (all, stream.read)
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_is_read_as_if_it_were_whole(
            cuts in proptest::collection::vec(0_usize..2000, 0..12),
            loud in proptest::collection::vec(0_i16..2, 0..40),
        ) {
            let samples: Vec<i16> = loud
                .iter()
                .enumerate()
                .flat_map(|(index, loud)| vec![loud * 20_000 + index as i16; 300])
                .collect();
            prop_assert_eq!(heard(&cuts, &samples), heard(&[], &samples));
        }

        #[test]
        fn bytes_of_anybody_are_a_stream_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1400)) {
            if let Ok(stream) = Stream::from_bytes(&bytes) {
                prop_assert_eq!(Stream::from_bytes(&stream.to_bytes()), Ok(stream));
            }
        }
    }

    #[test]
    fn a_state_that_makes_no_sense_is_refused_with_the_reason() {
        let good = Stream::new().to_bytes();
        assert_eq!(good.len(), 1 + 3 * 8 + STATE * 4 + CONTEXT * 2);
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            Stream::from_bytes(&bad)
        };
        assert_eq!(Stream::from_bytes(&[]), Err("it is empty"));
        assert!(with(0, &[9]).unwrap_err().contains("this version"));
        assert!(with(1, &[1]).unwrap_err().contains("places"));
        assert!(with(1, &[0xff; 8]).unwrap_err().contains("places"));
        assert!(with(9, &[0; 8]).unwrap_err().contains("places"));
        assert!(
            with(25, &f32::NAN.to_le_bytes())
                .unwrap_err()
                .contains("finite")
        );
        let cut = Stream::from_bytes(&good[..good.len() - 1]);
        assert_eq!(cut, Err("it is cut off"));
        let long = [good.clone(), vec![0; 2 * WINDOW]].concat();
        assert_eq!(Stream::from_bytes(&long), Err("it is too long"));
    }
}
