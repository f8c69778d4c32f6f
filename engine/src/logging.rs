//! Structured logs on standard error, with the keys of etcd's.
//!
//! One JSON object a line: `level`, `ts` (UTC), `caller` (the module), `msg`, then the event's fields. Tools that
//! read etcd's logs read these; test suites wait for the message `ready to serve client requests`.

use std::fmt;
use std::io;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogConfig;

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(config: LogConfig) {
    let writer = if config.stdout { BoxMakeWriter::new(io::stdout) } else { BoxMakeWriter::new(io::stderr) };
    let builder = tracing_subscriber::fmt().with_max_level(config.level).with_writer(writer);
    // A second subscriber is refused: embedding programs have their own.
    let _ = if config.json {
        builder.event_format(ZapJson).try_init()
    } else {
        builder.with_ansi(false).try_init()
    };
}

/// Formats events as zap's JSON encoder does with etcd's configuration.
struct ZapJson;

impl<S, N> FormatEvent<S, N> for ZapJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        write!(
            writer,
            "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{},\"msg\":{}",
            Value::from(event.metadata().target()),
            Value::from(fields.message)
        )?;
        for (name, value) in &fields.others {
            write!(writer, ",{}:{value}", Value::from(name.as_str()))?;
        }
        writeln!(writer, "}}")
    }
}

/// An event's message and its other fields.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        // Fields are identifiers in code and have dashes in etcd's logs.
        self.others.insert(field.name().replace('_', "-"), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, Value::from(text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add(field, Value::from(value));
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::from(value));
    }
}
