//! Plain HTTP: `/health`, `/version`, `/metrics`, with etcd's answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use quorate_api::{CLUSTER_VERSION, ETCD_VERSION, HealthQuery};
use quorate_node::Clock;

use super::State;

/// Answers a request for a path, which may have a query.
pub(crate) async fn respond<C: Clock>(state: &State<C>, method: &str, path: &str) -> Response<Bytes> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let handler = match path {
        "/health" => Endpoint::Health,
        "/version" => Endpoint::Version,
        "/metrics" => Endpoint::Metrics,
        _ => return text(StatusCode::NOT_FOUND, PLAIN_TEXT, "404 page not found\n"),
    };
    if method != "GET" {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, PLAIN_TEXT, "Method Not Allowed\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match handler {
        Endpoint::Health => health(state, query).await,
        Endpoint::Version => version(),
        Endpoint::Metrics => metrics(state),
    }
}

enum Endpoint {
    Health,
    Version,
    Metrics,
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
