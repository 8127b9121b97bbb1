//! What a caller asks: audio as raw samples, as WAV or in JSON, and how it goes on from
//! earlier requests, in the query or beside the audio in JSON.

use aegis_guest::{Failure, FromRequest, Json, Request};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use hound::{SampleFormat, WavReader};
use serde::Deserialize;

/// The audio of one request, in samples: a minute. More would hold an instance for seconds,
/// and a longer recording is a stream.
pub(crate) const MAX_SAMPLES: usize = 60 * 16_000;

/// What is asked.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ask {
    pub(crate) samples: Vec<i16>,
    pub(crate) options: Options,
}

/// How the audio goes on from earlier requests.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    /// What the host keeps the stream under.
    pub(crate) session: Option<String>,
    /// The stream so far, from the last answer.
    pub(crate) state: Option<String>,
    /// Whether the stream goes on, so that its state is wanted.
    pub(crate) stream: Option<bool>,
    /// Where the caller believes the stream to be, in samples.
    pub(crate) position: Option<u64>,
    /// Whether this is its end.
    pub(crate) end: Option<bool>,
}

/// A body of JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    audio: Option<String>,
    samples: Option<Vec<i16>>,
    session: Option<String>,
    state: Option<String>,
    stream: Option<bool>,
    position: Option<u64>,
    end: Option<bool>,
}

/// Names of WAV that are in use.
const WAV: [&str; 4] = ["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"];
/// Names of samples without a head.
const PCM: [&str; 2] = ["audio/pcm", "application/octet-stream"];

impl FromRequest<'_> for Ask {
    const ACCEPTS: &'static [&'static str] = &[
        "audio/wav",
        "audio/pcm",
        "application/octet-stream",
        "application/json",
    ];

    fn from_request(request: &Request) -> Result<Self, Failure> {
        let is = |types: &[&str]| types.iter().any(|name| request.is(name));
        let ask = if is(&WAV) {
            Self {
                samples: wav(&request.body)?,
                options: Options::default(),
            }
        } else if is(&PCM) {
            Self {
                samples: pcm(&request.body, None)?,
                options: Options::default(),
            }
        } else if request.is("application/json") {
            let Json(body) = Json::<Body>::from_request(request)?;
            Self {
                samples: body.samples()?,
                options: body.options(),
            }
        } else {
            let given = request.content_type.as_deref();
            return Err(Failure::unsupported_media_type(given, Self::ACCEPTS));
        };
        Ok(Self {
            options: ask.options.or_in_query(request)?,
            ..ask
        })
    }
}

impl Body {
    fn samples(&self) -> Result<Vec<i16>, Failure> {
        match (&self.audio, &self.samples) {
            (Some(audio), None) => {
                let bytes = from_base64("/audio", audio)?;
                pcm(&bytes, Some("/audio"))
            }
            (None, Some(samples)) => {
                check_length(samples.len())?;
                Ok(samples.clone())
            }
            _ => Err(Failure::invalid_input(
                "`audio` (samples of 16 bits, little-endian, in base64) or `samples` (numbers) is wanted, one of them",
            )),
        }
    }

    fn options(self) -> Options {
        Options {
            session: self.session,
            state: self.state,
            stream: self.stream,
            position: self.position,
            end: self.end,
        }
    }
}

impl Options {
    /// What is not said here is taken from the query.
    fn or_in_query(self, request: &Request) -> Result<Self, Failure> {
        fn query<T: std::str::FromStr>(
            request: &Request,
            key: &str,
            what: &str,
        ) -> Result<Option<T>, Failure> {
            let value = request.query(key);
            let read = value.map(|value| {
                value.parse().map_err(|_| {
                    let message = format!("`{key}` takes {what}, not `{}`", cut(value));
                    Failure::invalid_field(format!("/{key}"), message)
                })
            });
            read.transpose()
        }
        let text = |key| request.query(key).map(str::to_owned);
        Ok(Self {
            session: self.session.or_else(|| text("session")),
            state: self.state.or_else(|| text("state")),
            stream: self.stream.or(query(request, "stream", "true or false")?),
            position: self
                .position
                .or(query(request, "position", "a number of samples")?),
            end: self.end.or(query(request, "end", "true or false")?),
        })
    }
}

/// A caller's word, for a message.
fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Bytes of base64 in either alphabet: of audio whatever the caller's library writes, of a
/// state what was answered, which fits a query as it is.
pub(crate) fn from_base64(field: &str, text: &str) -> Result<Vec<u8>, Failure> {
    BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(text))
        .map_err(|error| Failure::invalid_field(field, format!("this is not base64: {error}")))
}

/// Bytes in base64 as [`from_base64`] reads them.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn pcm(bytes: &[u8], field: Option<&str>) -> Result<Vec<i16>, Failure> {
    if bytes.starts_with(b"RIFF") {
        return Err(invalid(field, "this is WAV: send it as audio/wav"));
    }
    let (samples, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        let message = format!("{} bytes: samples of 16 bits have two each", bytes.len());
        return Err(invalid(field, &message));
    }
    check_length(samples.len())?;
    Ok(samples
        .iter()
        .map(|bytes| i16::from_le_bytes(*bytes))
        .collect())
}

fn wav(bytes: &[u8]) -> Result<Vec<i16>, Failure> {
    let reader = WavReader::new(bytes).map_err(no_wav)?;
    let spec = reader.spec();
    let wanted = spec.channels == 1
        && spec.sample_rate == 16_000
        && (spec.bits_per_sample, spec.sample_format) == (16, SampleFormat::Int);
    if !wanted {
        return Err(Failure::invalid_input(format!(
            "one channel of 16 kHz in integers of 16 bits is wanted; this is {} of {} Hz in {} of {} bits. \
             `ffmpeg -i IN -ac 1 -ar 16000 -c:a pcm_s16le OUT.wav` makes it so",
            spec.channels,
            spec.sample_rate,
            if spec.sample_format == SampleFormat::Int {
                "integers"
            } else {
                "floats"
            },
            spec.bits_per_sample,
        )));
    }
    check_length(reader.len() as usize)?;
    let samples = reader.into_samples::<i16>().collect::<Result<_, _>>();
    samples.map_err(no_wav)
}

fn no_wav(error: hound::Error) -> Failure {
    Failure::invalid_input(format!("this is not WAV that can be read: {error}"))
}

fn check_length(samples: usize) -> Result<(), Failure> {
    if samples <= MAX_SAMPLES {
        return Ok(());
    }
    Err(Failure::too_large(format!(
        "{samples} samples: at most {MAX_SAMPLES} (a minute) in a request; send more in parts, as a stream"
    )))
}

fn invalid(field: Option<&str>, message: &str) -> Failure {
    match field {
        Some(field) => Failure::invalid_field(field, message),
        None => Failure::invalid_input(message),
    }
}
