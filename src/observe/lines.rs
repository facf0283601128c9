//! How a log line looks: `time LEVEL role[pid]: message key=value`, or the same as one JSON object.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::with_role;
use crate::config::LogFormat;

/// Formats events.
pub(super) struct Lines {
    /// Which of the two looks.
    pub(super) format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let pid = std::process::id();
        match self.format {
            LogFormat::Text => {
                SystemTime.format_time(&mut writer)?;
                with_role(|role| write!(writer, " {:>5} {role}[{pid}]: ", metadata.level()))?;
                context.format_fields(writer.by_ref(), event)?;
            }
            LogFormat::Json => {
                let mut time = String::new();
                SystemTime.format_time(&mut Writer::new(&mut time))?;
                let mut fields = JsonFields::default();
                fields.put("time", time);
                fields.put("level", metadata.level().as_str());
                with_role(|role| fields.put("role", role));
                fields.put("pid", pid);
                fields.put("target", metadata.target());
                event.record(&mut fields);
                write!(writer, "{}", serde_json::Value::Object(fields.object))?;
            }
        }
        writeln!(writer)
    }
}

#[derive(Default)]
struct JsonFields {
    object: serde_json::Map<String, serde_json::Value>,
}

impl JsonFields {
    fn put(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.object.insert(key.to_owned(), value.into());
    }
}

impl Visit for JsonFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;

        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    fn logged(format: LogFormat) -> String {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(kept.clone())
            .event_format(Lines { format })
            .finish();
        super::super::set_role("searcher 3");
        tracing::subscriber::with_default(subscriber, || tracing::warn!(rows = 7, "slow \"scan\""));
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn every_line_names_level_role_and_fields() {
        let text = logged(LogFormat::Text);
        assert!(text.contains(&format!(" WARN searcher 3[{}]: slow \"scan\" rows=7\n", std::process::id())), "{text}");
        let json: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&json["role"], &json["rows"], &json["level"]), (&"searcher 3".into(), &7.into(), &"WARN".into()));
        assert_eq!(json["message"], "slow \"scan\"");
    }
}
