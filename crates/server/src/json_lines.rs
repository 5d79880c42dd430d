//! Log lines as JSON: time, level, the event's fields, target. Written in one pass into one piece of text, because
//! every request leaves a line; no span is shown, since none carries anything that its events do not.

use std::fmt::{self, Debug, Write};

use time::OffsetDateTime;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Room for a usual line.
const LINE_BYTES: usize = 320;

/// Formats each event as one line of JSON.
pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = String::with_capacity(LINE_BYTES);
        line.push_str("{\"timestamp\":\"");
        push_time(&mut line, OffsetDateTime::now_utc());
        line.push_str("\",\"level\":\"");
        line.push_str(metadata.level().as_str());
        line.push('"');
        event.record(&mut Fields(&mut line));
        line.push_str(",\"target\":\"");
        push_escaped(&mut line, metadata.target());
        line.push_str("\"}\n");
        writer.write_str(&line)
    }
}

/// Appends a time of UTC as RFC 3339 writes it, to the microsecond.
fn push_time(line: &mut String, time: OffsetDateTime) {
    let year = u32::try_from(time.year()).unwrap_or_default();
    push_digits(line, year, 4, '-');
    push_digits(line, u8::from(time.month()).into(), 2, '-');
    push_digits(line, time.day().into(), 2, 'T');
    push_digits(line, time.hour().into(), 2, ':');
    push_digits(line, time.minute().into(), 2, ':');
    push_digits(line, time.second().into(), 2, '.');
    push_digits(line, time.microsecond(), 6, 'Z');
}

/// Appends the last digits of a number, with zeros in front, and what stands behind them.
fn push_digits(line: &mut String, number: u32, count: u32, behind: char) {
    for place in (0..count).rev() {
        let digit = number / 10_u32.pow(place) % 10;
        line.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
    line.push(behind);
}

/// Appends fields as members of an object that has members already.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn key(&mut self, field: &Field) {
        self.0.push_str(",\"");
        push_escaped(self.0, field.name());
        self.0.push_str("\":");
    }

    /// A number or a truth value, which is JSON as it is displayed.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        // a String takes everything
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.key(field);
        self.0.push('"');
        let _ = write!(Escaped(self.0), "{value:?}");
        self.0.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        self.0.push('"');
        push_escaped(self.0, value);
        self.0.push('"');
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.plain(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.plain(field, "null");
        }
    }
}

/// Escapes what is written through it.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_escaped(self.0, text);
        Ok(())
    }
}

/// Appends text as it stands between the quotes of a JSON string (RFC 8259, section 7).
fn push_escaped(line: &mut String, text: &str) {
    let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // without a way out of the loop, many bytes are looked at at a time
    if !text.bytes().fold(false, |found, byte| found | is_special(byte)) {
        line.push_str(text);
        return;
    }
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            control if u32::from(control) < 0x20 => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
            other => line.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use serde_json::{Value, json};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(JsonLines)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = written.0.lock().expect("nobody panicked").clone();
        let text = String::from_utf8(bytes).expect("lines are text");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }

    #[test]
    fn fields_keep_their_types() {
        let lines = lines(|| {
            let absent: Option<&str> = None;
            tracing::warn!(
                count = 3_u64,
                below = -2_i64,
                huge = u128::MAX,
                share = 0.5,
                nothing = f64::NAN,
                yes = true,
                text = "a",
                shown = %"b",
                absent,
                "what happened"
            );
            tracing::info!("next");
        });
        let line = lines.first().expect("a line");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "what happened");
        assert_eq!(line["target"], module_path!());
        assert!(
            line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        assert_eq!([&line["count"], &line["below"]], [&json!(3), &json!(-2)]);
        assert_eq!([&line["share"], &line["nothing"]], [&json!(0.5), &Value::Null]);
        assert_eq!(
            [&line["yes"], &line["text"], &line["shown"]],
            [&json!(true), &json!("a"), &json!("b")]
        );
        assert!(line.get("absent").is_none(), "{line}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn times_are_those_of_rfc_3339() {
        for (seconds, micros, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_827_696, 7, "2000-02-29T12:34:56.000007Z"),
            (253_402_300_799, 999_999, "9999-12-31T23:59:59.999999Z"),
        ] {
            let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
            let mut line = String::new();
            push_time(&mut line, time + std::time::Duration::from_micros(micros));
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn no_text_breaks_a_line() {
        for text in ["\"", "\\", "\n{}", "\r\t\u{0}\u{1f}", "ä\u{2028}\u{1f600}", "plain"] {
            let lines = lines(|| tracing::error!(text, shown = ?text, "{text}"));
            assert_eq!(lines.len(), 1, "{text:?}");
            assert_eq!(lines[0]["text"], text);
            assert_eq!(lines[0]["message"], text);
            assert_eq!(lines[0]["shown"], format!("{text:?}"));
        }
    }
}
