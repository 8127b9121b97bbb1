//! The handler against a network that can be reckoned by hand.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use aegis_guest::{
    Failure, Request, Tensor,
    testing::{FakeHost, problem},
};
use serde_json::{Value, json};

use super::*;

pub(crate) const SETTINGS: Settings = Settings {
    threshold: 0.5,
    min_silence: 1600,
    min_speech: 4000,
    pad: 480,
};

/// Loud is speech: the probability is half of the greatest sample and half of the state, which
/// remembers the one before. Every sample that is looked back on counts a little.
pub(crate) fn silero() -> FakeHost {
    FakeHost::new().graph("silero", |inputs| {
        assert_eq!(inputs.shape("input")?, [1, 576]);
        assert_eq!(inputs.shape("state")?, [2, 1, 128]);
        assert_eq!(inputs.shape("sr")?, [0_u32; 0]);
        assert_eq!(*inputs.get::<i64>("sr")?, [16_000]);
        let (input, state) = (inputs.get::<f32>("input")?, inputs.get::<f32>("state")?);
        let loudest = input.iter().fold(0.0_f32, |most, sample| most.max(*sample));
        let context: f32 = input[..64].iter().sum();
        let probability = loudest.mul_add(0.5, state[0] * 0.5) + context * 1e-3;
        let mut state = state.to_vec();
        state.rotate_right(1);
        state[0] = loudest;
        Ok(vec![
            ("output", Tensor::from_vec(&[1, 1], vec![probability])),
            ("stateN", Tensor::from_vec(&[2, 1, 128], state)),
        ])
    })
}

fn ask(host: &FakeHost, query: &[(&str, &str)], samples: &[i16]) -> Result<Value, Failure> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let ctx = host.request(Request {
        id: "test".to_owned(),
        content_type: Some("audio/pcm".to_owned()),
        headers: Vec::new(),
        query: query.iter().map(pair).collect(),
        body: samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect(),
    });
    let response = ctx.answer(predict)?;
    Ok(serde_json::from_slice(&response.body).unwrap())
}

/// A second and a half: silence, something loud, silence, and a part of a window.
fn audio() -> Vec<i16> {
    let mut samples = vec![0; 8000];
    samples.extend(vec![30_000; 8000]);
    samples.extend(vec![0; 8100]);
    samples
}

#[test]
fn a_recording_is_answered_whole() {
    let answer = ask(&silero(), &[], &audio()).unwrap();
    assert_eq!(answer["probabilities"].as_array().unwrap().len(), 48);
    assert_eq!(answer["position"], 24_100);
    assert_eq!(answer["first_window"], 0);
    let segments = answer["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 1, "{answer}");
    assert_eq!(answer["speaking_since_ms"], Value::Null);
    assert_eq!((answer.get("state"), answer.get("resumed")), (None, None));
}

/// Sends the audio in parts, each as `next` says from the answer before, and joins what is
/// answered.
fn in_parts(
    host: &FakeHost,
    next: impl Fn(Option<&Value>, bool) -> Vec<(String, String)>,
) -> Value {
    let audio = audio();
    let parts: Vec<_> = audio.chunks(1777).collect();
    let (mut last, mut all): (Option<Value>, Option<Value>) = (None, None);
    for (index, part) in parts.iter().enumerate() {
        let query = next(last.as_ref(), index + 1 == parts.len());
        let query: Vec<_> = query
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let answer = ask(host, &query, part).unwrap();
        match &mut all {
            None => all = Some(answer.clone()),
            Some(all) => {
                let windows = all["probabilities"].as_array().unwrap().len();
                assert_eq!(answer["first_window"], windows);
                for key in ["probabilities", "segments"] {
                    let more = answer[key].as_array().unwrap().clone();
                    all[key].as_array_mut().unwrap().extend(more);
                }
            }
        }
        last = Some(answer);
    }
    all.unwrap()
}

fn same(parts: &Value, whole: &Value) {
    for key in ["probabilities", "segments"] {
        assert_eq!(parts[key], whole[key], "{key}");
    }
}

#[test]
fn a_stream_whose_state_travels_with_its_caller_is_heard_as_one_recording() {
    let host = silero();
    let whole = ask(&host, &[], &audio()).unwrap();
    let parts = in_parts(&host, |last, ends| {
        let mut query = vec![("end".to_owned(), ends.to_string())];
        match last {
            None => query.push(("stream".into(), "true".into())),
            Some(last) => {
                query.push(("state".into(), last["state"].as_str().unwrap().to_owned()));
                query.push(("position".into(), last["position"].to_string()));
            }
        }
        query
    });
    same(&parts, &whole);
}

#[test]
fn a_stream_in_a_session_is_heard_as_one_recording_and_leaves_nothing() {
    let host = silero();
    let whole = ask(&host, &[], &audio()).unwrap();
    let parts = in_parts(&host, |last, ends| {
        assert!(last.is_none_or(|last| last.get("state").is_none()));
        let resumed = last.map(|last| last["resumed"].as_bool().unwrap());
        assert!(resumed.is_none() || host.kept("ann").is_some());
        vec![
            ("session".into(), "ann".into()),
            ("end".into(), ends.to_string()),
        ]
    });
    same(&parts, &whole);
    assert_eq!(host.kept("ann"), None);
}

#[test]
fn a_part_that_is_out_of_order_is_told_and_changes_nothing() {
    let host = silero();
    let first = ask(&host, &[("session", "ann")], &[0; 1000]).unwrap();
    assert_eq!(
        (&first["position"], &first["resumed"]),
        (&json!(1000), &json!(false))
    );
    let kept = host.kept("ann");
    let twice = ask(&host, &[("session", "ann"), ("position", "0")], &[0; 1000]);
    let told = problem(&twice).unwrap();
    assert_eq!(told.message, "the stream is at sample 1000, not 0");
    assert_eq!(told.field.as_deref(), Some("/position"));
    assert_eq!(host.kept("ann"), kept);

    host.let_go("ann");
    let gone = ask(
        &host,
        &[("session", "ann"), ("position", "1000")],
        &[0; 1000],
    );
    let told = problem(&gone).unwrap();
    assert!(
        told.message.contains("nothing is kept of this session"),
        "{told:?}"
    );
    // Who does not say where they are begins anew, and is told so.
    let anew = ask(&host, &[("session", "ann")], &[0; 1000]).unwrap();
    assert_eq!(anew["resumed"], false);
}

#[test]
fn audio_comes_as_wav_or_in_json_too() {
    let host = silero();
    let audio = audio();
    let whole = ask(&host, &[], &audio).unwrap();
    let bytes: Vec<u8> = audio
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    let mut wav = Vec::new();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::new(std::io::Cursor::new(&mut wav), spec).unwrap();
    for sample in &audio {
        writer.write_sample(*sample).unwrap();
    }
    writer.finalize().unwrap();
    let base64 = json!({ "audio": ask::to_base64(&bytes) }).to_string();
    let numbers = json!({ "samples": audio }).to_string();
    for (content_type, body) in [
        ("audio/wav", wav.clone()),
        ("audio/x-wav; rate=16000", wav.clone()),
        ("application/json", base64.into_bytes()),
        ("application/json", numbers.into_bytes()),
    ] {
        let response = host.post(content_type, body).answer(predict).unwrap();
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(answer, whole, "{content_type}");
    }
    let as_pcm = host.post("audio/pcm", wav).answer(predict);
    assert!(
        problem(&as_pcm)
            .unwrap()
            .message
            .contains("send it as audio/wav")
    );
}

#[test]
fn what_cannot_be_heard_is_told() {
    let host = silero();
    let stereo = {
        let mut wav = Vec::new();
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let writer = hound::WavWriter::new(std::io::Cursor::new(&mut wav), spec).unwrap();
        writer.finalize().unwrap();
        wav
    };
    let odd: &[u8] = &[1, 2, 3];
    for (content_type, body, part) in [
        ("audio/wav", &stereo[..], "this is 2 of 44100 Hz"),
        ("audio/wav", b"RIFF", "not WAV"),
        (
            "audio/pcm",
            odd,
            "3 bytes: samples of 16 bits have two each",
        ),
        ("application/json", b"{}", "one of them"),
        ("application/json", br#"{"audio":"!"}"#, "not base64"),
        ("application/json", br#"{"samples":[40000]}"#, "i16"),
        (
            "application/json",
            br#"{"samples":[],"state":"AAAA"}"#,
            "no state",
        ),
        (
            "application/json",
            br#"{"samples":[],"state":"","session":"a"}"#,
            "send one of them",
        ),
        (
            "application/json",
            br#"{"samples":[],"session":""}"#,
            "1 to 256 bytes",
        ),
    ] {
        let answer = host.post(content_type, body).answer(predict);
        let Some(told) = problem(&answer) else {
            panic!("{content_type}: {answer:?}")
        };
        assert!(told.message.contains(part), "{part}: {}", told.message);
    }
    let long = host
        .post("audio/pcm", vec![0; 2 * (ask::MAX_SAMPLES + 1)])
        .answer(predict);
    assert!(matches!(long, Err(Failure::TooLarge(_))), "{long:?}");
    let other = host.post("audio/ogg", "OggS").answer(predict);
    assert!(
        matches!(other, Err(Failure::UnsupportedMediaType(_))),
        "{other:?}"
    );
    let query = ask(&host, &[("end", "maybe")], &[]);
    assert_eq!(problem(&query).unwrap().field.as_deref(), Some("/end"));
}
