//! Spam or not: text in, a probability out, and the safety flag `spam`.
//!
//! The network takes a bag of hashed words; `words` makes it of the text as training did.

mod words;

use aegis_guest::{Context, Either, Failure, Json, Tensor, Text};
use serde::{Deserialize, Serialize};

/// A mail, subject and body together.
#[derive(Debug, Deserialize)]
pub struct Mail {
    text: String,
}

/// What the network makes of it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the probability is above the config's `threshold` (0.5 if it does not say).
    spam: bool,
    probability: f32,
}

fn predict(ctx: &Context, mail: Either<Json<Mail>, Text<&str>>) -> Result<Json<Verdict>, Failure> {
    let threshold = ctx.config_parse("threshold", 0.5_f32)?;
    let words = match &mail {
        Either::First(Json(mail)) => words::bag(&mail.text),
        Either::Second(Text(text)) => words::bag(text),
    };
    let Some(words) = words else {
        let field = matches!(mail, Either::First(_)).then_some("/text");
        let message = "there are no words in the text: letters or digits are wanted";
        return Err(field.map_or_else(
            || Failure::invalid_input(message),
            |field| Failure::invalid_field(field, message),
        ));
    };

    let outputs = ctx
        .graph("spam")?
        .run(&[("words", Tensor::new(&[1, 4096], &*words))])?;
    let probability = *outputs
        .get::<f32>("spam_probability")?
        .first()
        .ok_or("the network gave no probability")?;

    let spam = probability > threshold;
    if spam {
        ctx.flag("spam");
    }
    ctx.record("spam_probability", f64::from(probability));
    Ok(Json(Verdict { spam, probability }))
}

aegis_guest::handler!(predict);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use aegis_guest::testing::{FakeHost, problem};

    use super::*;

    /// A network that calls everything spam with this probability.
    fn host(probability: f32) -> FakeHost {
        FakeHost::new().graph("spam", move |inputs| {
            assert_eq!(inputs.shape("words")?, [1, 4096]);
            Ok(vec![(
                "spam_probability",
                Tensor::from_vec(&[1, 1], vec![probability]),
            )])
        })
    }

    #[test]
    fn text_and_json_are_answered_alike() {
        let host = host(0.974);
        let expected = br#"{"spam":true,"probability":0.974}"#;
        let text = host
            .post("text/plain; charset=utf-8", "click here now")
            .answer(predict);
        assert_eq!(text.unwrap().body, expected);
        let json = host
            .post("application/json", r#"{"text":"click here now"}"#)
            .answer(predict);
        assert_eq!(json.unwrap().body, expected);
    }

    #[test]
    fn the_flag_is_raised_above_the_threshold_only() {
        let host = host(0.9).config("threshold", "0.95");
        let answer = predict(&host.context(), Either::Second(Text("hello there"))).unwrap();
        assert!(!answer.0.spam);
        assert!(host.flags().is_empty());

        let host = host.config("threshold", "0.5");
        let answer = predict(&host.context(), Either::Second(Text("hello there"))).unwrap();
        assert!(answer.0.spam);
        assert_eq!(host.flags(), ["spam"]);
    }

    #[test]
    fn what_is_no_mail_is_the_callers_mistake() {
        let host = host(0.1);
        let empty = host.post("application/json", "").answer(predict);
        assert!(problem(&empty).unwrap().message.contains("empty"));
        let wrong = host
            .post("application/json", r#"{"text":7}"#)
            .answer(predict);
        assert_eq!(problem(&wrong).unwrap().field.as_deref(), Some("/text"));
        let wordless = host.post("text/plain", "?!").answer(predict);
        assert!(problem(&wordless).unwrap().message.contains("no words"));
        let picture = host.post("image/png", "").answer(predict);
        assert_eq!(
            picture.unwrap_err(),
            Failure::UnsupportedMediaType(
                "content type `image/png` is not read here: send application/json, text/plain"
                    .into()
            )
        );
    }

    #[test]
    fn a_threshold_that_is_no_number_is_the_operators_mistake() {
        let host = host(0.1).config("threshold", "high");
        let answer = host.post("text/plain", "hello there").answer(predict);
        assert_eq!(
            answer.unwrap_err(),
            Failure::internal("config `threshold` is `high`, not a f32: invalid float literal")
        );
    }
}
