//! A log line with the trace of the request that it belongs to. The ids are where collectors look
//! for them: beside the event's own fields.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::trace::{SpanIds, current};

/// A line for people.
#[derive(Default)]
pub(crate) struct TextLine(Format<Full>);

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(SpanIds {
            trace_id, span_id, ..
        }) = current()
        else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        {
            // Made here, a writer knows nothing of colours.
            let format = self.0.clone().with_ansi(writer.has_ansi_escapes());
            format.format_event(context, Writer::new(&mut line), event)?;
        }
        let line = line.trim_end_matches('\n');
        writeln!(writer, "{line} trace_id={trace_id} span_id={span_id}")
    }
}

/// A JSON object.
pub(crate) struct JsonLine(Format<Json>);

impl Default for JsonLine {
    fn default() -> Self {
        let format = tracing_subscriber::fmt::format().json();
        Self(format.flatten_event(true).with_span_list(false))
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(SpanIds {
            trace_id, span_id, ..
        }) = current()
        else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        // An event has a timestamp at least, so the ids are never the object's only members.
        match line.strip_prefix('{') {
            Some(rest) => write!(
                writer,
                "{{\"trace_id\":\"{trace_id}\",\"span_id\":\"{span_id}\",{rest}"
            ),
            None => writer.write_str(&line),
        }
    }
}
