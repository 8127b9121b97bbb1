//! Where somebody speaks in a stream of audio: Silero VAD, whose state goes on from window to
//! window, and here from request to request.
//!
//! The state travels with the caller, as a text in the answer that comes back with the next
//! request; or, where the caller names a session, it stays in the host. `ask` reads what is
//! asked, `stream` runs the windows, `segments` makes speech of their probabilities.

mod ask;
mod segments;
mod stream;

use aegis_guest::{Context, Failure, Json, Session};
use ask::{Ask, Options};
use segments::{Segment, Settings};
use serde::Serialize;
use stream::{Stream, WINDOW};

/// What is answered.
#[derive(Debug, PartialEq, Serialize)]
pub struct Answer {
    sample_rate: u32,
    window_ms: usize,
    /// Which window of the stream the first probability is of.
    first_window: u64,
    /// Of speech, for each window that is complete now.
    probabilities: Vec<f32>,
    /// The speech that ended in this request, in milliseconds of the stream.
    segments: Vec<Segment>,
    /// Where somebody began to speak who still does.
    speaking_since_ms: Option<u64>,
    /// Samples of the stream so far: where the next request goes on.
    position: u64,
    /// Of a stream in a session that goes on: whether it was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    /// Of a stream that its caller keeps and that goes on: what the next request sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

fn predict(ctx: &Context, ask: Ask) -> Result<Json<Answer>, Failure> {
    let Ask { samples, options } = ask;
    let settings = Settings::read(ctx)?;
    let mut session = session(ctx, &options)?;
    let before = so_far(session.as_ref(), &options)?;
    check_position(before.as_ref(), &options)?;
    let in_parts = session.is_some() || options.state.is_some() || options.stream == Some(true);
    let ends = options.end.unwrap_or(!in_parts);

    let resumed = before.is_some();
    let mut stream = before.unwrap_or_else(Stream::new);
    let first_window = stream.windows();
    let graph = ctx.graph("silero")?;
    let mut found = stream.read(&samples, &graph, &settings)?;
    let position = stream.position();
    if ends {
        stream.end(&graph, &settings, &mut found)?;
    }
    // Kept last: a request that fails, or comes second to another of its session, leaves the
    // stream where it was.
    match &mut session {
        Some(session) if !ends => session.keep(&stream.to_bytes())?,
        Some(session) if resumed => session.forget()?,
        _ => {}
    }
    ctx.record("windows", found.probabilities.len() as f64);
    let goes_on = in_parts && !ends;
    Ok(Json(Answer {
        sample_rate: 16_000,
        window_ms: WINDOW / 16,
        first_window,
        probabilities: found.probabilities,
        segments: found.segments,
        speaking_since_ms: stream.speaking_since().map(|samples| samples / 16),
        position,
        resumed: session.is_some().then_some(resumed),
        state: (goes_on && session.is_none()).then(|| ask::to_base64(&stream.to_bytes())),
    }))
}

/// The session that the caller names, if any.
fn session<'c>(ctx: &'c Context, options: &Options) -> Result<Option<Session<'c>>, Failure> {
    match (&options.session, &options.state) {
        (Some(_), Some(_)) => Err(Failure::invalid_input(
            "`session` keeps the stream in the host and `state` with its caller: send one of them",
        )),
        (Some(id), None) => Ok(Some(ctx.session(id)?)),
        (None, _) => Ok(None),
    }
}

/// The stream as an earlier request left it.
fn so_far(session: Option<&Session<'_>>, options: &Options) -> Result<Option<Stream>, Failure> {
    if let Some(kept) = session.and_then(Session::state) {
        // Only this version of this handler wrote it.
        return Ok(Some(Stream::from_bytes(kept)?));
    }
    let Some(state) = &options.state else {
        return Ok(None);
    };
    let bytes = ask::from_base64("/state", state)?;
    let stream = Stream::from_bytes(&bytes);
    stream.map(Some).map_err(|why| {
        Failure::invalid_field(
            "/state",
            format!("this is no state that was answered: {why}"),
        )
    })
}

/// Holds the stream to where its caller believes it to be, if they say: a part that was lost,
/// sent twice or overtaken is then told, and so is a session that the host let go.
fn check_position(stream: Option<&Stream>, options: &Options) -> Result<(), Failure> {
    let Some(wanted) = options.position else {
        return Ok(());
    };
    let there = stream.map_or(0, Stream::position);
    if wanted == there {
        return Ok(());
    }
    let message = match (stream, &options.session) {
        (None, Some(_)) => format!(
            "nothing is kept of this session, so sample {wanted} cannot follow: it was not used for too long, \
             others needed its room, or another replica or version has it. Begin again at 0"
        ),
        _ => format!("the stream is at sample {there}, not {wanted}"),
    };
    Err(Failure::invalid_field("/position", message))
}

aegis_guest::handler!(predict);

#[cfg(test)]
mod tests;
