//! The HTTP server: reads the status, answers, and ends with the job.

use super::{SharedStatus, State, Status, metrics, page};
use crate::clock::Clock;
use crate::error::{Error, Result};
use axum::Router;
use axum::extract;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that is listening.
pub struct Server {
    /// The address with its real port, also where port 0 was asked for.
    pub address: SocketAddr,
    /// Ends after `shutdown`, when the last answer is out.
    pub task: JoinHandle<()>,
}

/// Listens on `address` until `shutdown` is ready.
pub async fn serve(
    address: &str,
    status: SharedStatus,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Server> {
    let hint = "choose another with --http HOST:PORT, or --http off";
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::job(format!("cannot listen for HTTP on {address} ({hint})")).caused_by(error)
    })?;
    let bound = listener
        .local_addr()
        .map_err(|error| Error::retry(format!("HTTP on {address}")).caused_by(error))?;
    let router = router(Answers { status, clock });
    let task = tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(shutdown)
            .await;
        if let Err(error) = served {
            tracing::warn!(%error, "the HTTP server has ended; the job goes on");
        }
    });
    Ok(Server {
        address: bound,
        task,
    })
}

#[derive(Clone)]
struct Answers {
    status: SharedStatus,
    clock: Arc<dyn Clock>,
}

type From = extract::State<Answers>;

fn router(answers: Answers) -> Router {
    Router::new()
        .route(
            "/",
            get(async |from: From| html(page::render(&from.status.get(), from.clock.now_ms()))),
        )
        .route(
            "/health",
            get(async |from: From| health(&from.status.get())),
        )
        .route("/ready", get(async |from: From| ready(&from.status.get())))
        .route(
            "/metrics",
            get(async |from: From| {
                prometheus(metrics::render(&from.status.get(), from.clock.now_ms()))
            }),
        )
        .route(
            "/api/status",
            get(async |from: From| json(&from.status.get())),
        )
        .with_state(answers)
}

/// Does the job do its work? Anything but running is an answer with 503 and the reason.
fn health(status: &Status) -> Response {
    let code = if status.state == State::Running {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, sentence(status)).into_response()
}

/// Has the process come up? A standby that waits for its turn is ready, one that starts or has failed is not.
fn ready(status: &Status) -> Response {
    let code = match status.state {
        State::Running | State::Waiting | State::Finished => StatusCode::OK,
        State::Starting | State::Failed => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, sentence(status)).into_response()
}

fn sentence(status: &Status) -> String {
    let state = page::word(status.state);
    match status.message.as_str() {
        "" => format!("{state}\n"),
        message => format!("{state}: {message}\n"),
    }
}

fn json(status: &Status) -> Response {
    match serde_json::to_string(status) {
        Ok(text) => typed("application/json", text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn prometheus(text: String) -> Response {
    typed("text/plain; version=0.0.4; charset=utf-8", text)
}

/// The page brings everything with it, so the browser may refuse all else.
fn html(text: String) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                          connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let mut response = typed("text/html; charset=utf-8", text);
    let policy = header::HeaderValue::from_static(POLICY);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn typed(content_type: &'static str, text: String) -> Response {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    async fn ask(address: SocketAddr, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn it_answers_until_it_is_told_to_end() {
        let status = SharedStatus::default();
        let (end, ended) = oneshot::channel::<()>();
        let clock = Arc::new(ManualClock::at(0));
        let shutdown = async move { drop(ended.await) };
        let server = serve("127.0.0.1:0", status.clone(), clock.clone(), shutdown)
            .await
            .unwrap();

        let (head, body) = ask(server.address, "/health").await;
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert_eq!(body, "starting\n");
        status.update(|status| status.state = State::Running);
        assert!(
            ask(server.address, "/health")
                .await
                .0
                .starts_with("HTTP/1.1 200")
        );
        assert!(
            ask(server.address, "/ready")
                .await
                .0
                .starts_with("HTTP/1.1 200")
        );
        status.update(|status| {
            status.state = State::Failed;
            status.message = "topic 'x' does not exist".to_owned();
        });
        assert_eq!(
            ask(server.address, "/health").await.1,
            "failed: topic 'x' does not exist\n"
        );
        assert!(
            ask(server.address, "/ready")
                .await
                .0
                .starts_with("HTTP/1.1 503")
        );
        assert!(
            ask(server.address, "/metrics")
                .await
                .1
                .contains("tributary_running 0")
        );
        assert!(
            ask(server.address, "/api/status")
                .await
                .1
                .contains("\"state\":\"failed\"")
        );
        assert!(ask(server.address, "/").await.0.contains("text/html"));
        assert!(
            ask(server.address, "/nothing")
                .await
                .0
                .starts_with("HTTP/1.1 404")
        );

        let again = serve(&server.address.to_string(), status, clock, async {})
            .await
            .err()
            .unwrap();
        let text = again.to_string();
        assert!(
            text.contains(&server.address.to_string()) && text.contains("--http"),
            "{text}"
        );
        assert_eq!(again.exit_code(), 2);

        end.send(()).unwrap();
        server.task.await.unwrap();
    }
}
