//! Plain HTTP: `/health`, `/version`, `/metrics`, with etcd's answers, and `/flight-recorder`, which is ours.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use quorate_api::{CLUSTER_VERSION, ETCD_VERSION, HealthQuery};
use quorate_node::Clock;

use super::State;
use crate::flight::Saved;

/// Answers a request for a path, which may have a query.
pub(crate) async fn respond<C: Clock>(state: &State<C>, method: &str, path: &str) -> Response<Bytes> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let handler = match path {
        "/health" => Endpoint::Health,
        "/version" => Endpoint::Version,
        "/metrics" => Endpoint::Metrics,
        "/flight-recorder" => Endpoint::FlightRecorder,
        _ => return text(StatusCode::NOT_FOUND, PLAIN_TEXT, "404 page not found\n"),
    };
    // What writes a file is no GET.
    let allowed = if let Endpoint::FlightRecorder = handler { "POST" } else { "GET" };
    if method != allowed {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, "Method Not Allowed\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    match handler {
        Endpoint::Health => health(state, query).await,
        Endpoint::Version => version(),
        Endpoint::Metrics => metrics(state),
        Endpoint::FlightRecorder => flight_recorder(state).await,
    }
}

enum Endpoint {
    Health,
    Version,
    Metrics,
    FlightRecorder,
}

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

async fn health<C: Clock>(state: &State<C>, query: &str) -> Response<Bytes> {
    let (status, healthy, reason) = match state.api.health(&health_query(query)).await {
        Ok(()) => (StatusCode::OK, "true", String::new()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, "false", reason),
    };
    let mut body = serde_json::json!({ "health": healthy, "reason": reason }).to_string();
    if status != StatusCode::OK {
        body.push('\n');
    }
    text(status, PLAIN_TEXT, body)
}

/// Names and values that matter here have no characters that would be escaped.
fn health_query(query: &str) -> HealthQuery {
    let mut parsed = HealthQuery::default();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "exclude" if !value.is_empty() => parsed.exclude.push(value.to_owned()),
            "serializable" => parsed.serializable = value == "true",
            _ => {}
        }
    }
    parsed
}

fn version() -> Response<Bytes> {
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{CLUSTER_VERSION}"}}"#
    );
    text(StatusCode::OK, JSON, body)
}

fn metrics<C: Clock>(state: &State<C>) -> Response<Bytes> {
    let body = state.metrics.render(state.api.config().member_id, &state.api.node_status());
    text(StatusCode::OK, PROMETHEUS_TEXT, body)
}

/// Writes a recording into a file of the member's; its bytes stay there.
async fn flight_recorder<C: Clock>(state: &State<C>) -> Response<Bytes> {
    let Some(black_box) = &state.black_box else {
        let how = "this member records nothing: start it with --flight-recorder 64MiB\n";
        return text(StatusCode::NOT_FOUND, PLAIN_TEXT, how);
    };
    match black_box.save_aside("a request").await {
        Ok(Saved { path, standing }) => {
            let (file, applied) = (path.display().to_string(), standing.applied.0);
            let hash = format!("{:016x}", standing.state_hash);
            let body = serde_json::json!({ "file": file, "applied": applied, "state": hash });
            text(StatusCode::OK, JSON, body.to_string() + "\n")
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN_TEXT, format!("{error}\n")),
    }
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_queries_are_read() {
        let query = health_query("exclude=NOSPACE&serializable=true&exclude=CORRUPT&exclude=&x");
        assert_eq!(query.exclude, ["NOSPACE", "CORRUPT"]);
        assert!(query.serializable);
        assert_eq!(health_query(""), HealthQuery::default());
    }
}
