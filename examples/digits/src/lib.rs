//! Handwritten digits: 64 pixels, or a picture of one digit, in; the digit out.
//!
//! `input` reads what callers send, `picture` and `frame` make the network's 8 x 8 pixels of
//! a picture.

mod frame;
mod input;
mod picture;

use aegis_guest::{Context, Failure, Json, Tensor, Values};
use input::Pixels;
use serde::Serialize;

/// What the network makes of it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The most probable digit.
    digit: usize,
    /// The probability of each digit, 0 to 9.
    probabilities: Values<f32>,
}

fn predict(ctx: &Context, Pixels(pixels): Pixels) -> Result<Json<Answer>, Failure> {
    let outputs = ctx
        .graph("digits")?
        .run(&[("input", Tensor::new(&[1, 64], &pixels))])?;
    let probabilities = outputs.get::<f32>("probabilities")?;

    let best = probabilities
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1));
    let (digit, probability) = best.ok_or("the network gave no probabilities")?;
    ctx.record("probability", f64::from(*probability));
    Ok(Json(Answer {
        digit,
        probabilities,
    }))
}

aegis_guest::handler!(predict);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use aegis_guest::testing::{FakeHost, problem};

    use super::*;

    /// A network that sees in every input the digit of its first pixel.
    fn host() -> FakeHost {
        FakeHost::new().graph("digits", |inputs| {
            assert_eq!(inputs.shape("input")?, [1, 64]);
            let digit = inputs
                .get::<f32>("input")?
                .first()
                .map_or(0, |pixel| *pixel as usize);
            let mut probabilities = vec![0.0_f32; 10];
            probabilities
                .iter_mut()
                .skip(digit)
                .take(1)
                .for_each(|value| *value = 1.0);
            Ok(vec![(
                "probabilities",
                Tensor::from_vec(&[1, 10], probabilities),
            )])
        })
    }

    fn pixels(first: &str) -> String {
        format!(r#"{{"pixels":[{first}{}]}}"#, ",0".repeat(63))
    }

    #[test]
    fn the_most_probable_digit_is_answered() {
        let host = host();
        let answer = host
            .post("application/json", pixels("7"))
            .answer(predict)
            .unwrap();
        assert_eq!(
            String::from_utf8(answer.body).unwrap(),
            r#"{"digit":7,"probabilities":[0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0]}"#
        );
        assert_eq!(host.records(), [("probability".to_owned(), 1.0)]);
    }

    #[test]
    fn what_is_no_digit_is_named_with_its_place() {
        let host = host();
        let cases = [
            ("", None, "the body is empty: a JSON document is wanted"),
            (
                r#"{"pixels":[1,2]}"#,
                Some("/pixels"),
                "64 numbers wanted, 2 given",
            ),
            (r#"{"pixels":"x"}"#, Some("/pixels"), "invalid type: string"),
            (&pixels("NaN"), None, "the body is not JSON"),
            (&pixels("1e39"), Some("/pixels/0"), "inf is outside 0 to 16"),
            (
                &pixels("-0.5"),
                Some("/pixels/0"),
                "-0.5 is outside 0 to 16",
            ),
            (
                &pixels("true"),
                Some("/pixels/0"),
                "invalid type: boolean `true`, expected f32",
            ),
        ];
        for (body, field, message) in cases {
            let answer = host.post("application/json", body).answer(predict);
            let problem = problem(&answer).unwrap();
            assert_eq!(problem.field.as_deref(), field, "{body}");
            assert!(
                problem.message.starts_with(message),
                "{body}: {}",
                problem.message
            );
        }
    }

    #[test]
    fn other_content_types_are_refused_with_those_that_are_read() {
        let answer = host().post("text/plain", "7").answer(predict);
        assert_eq!(
            answer.unwrap_err(),
            Failure::unsupported_media_type(
                Some("text/plain"),
                &["application/json", "image/png", "image/jpeg"]
            )
        );
    }
}
