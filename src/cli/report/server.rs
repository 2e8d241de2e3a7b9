use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use snafu::{ResultExt, Snafu};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{Subject, metrics};
use crate::api::report::PodReport;

/// Why nothing can be reported.
#[derive(Debug, Snafu)]
pub enum ReportError {
    /// The address cannot be listened on.
    #[snafu(display("--report-listen: cannot listen on {address}: {source}; choose another address or port"))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
}

/// A server that lasts until it is dropped.
#[derive(Debug)]
pub struct ReportServer(AbortHandle);

impl Drop for ReportServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reports on `subject` to whoever asks, until `shutdown` or until the server is dropped.
pub async fn serve(
    listen: SocketAddr,
    subject: impl Subject,
    shutdown: &CancellationToken,
) -> Result<ReportServer, ReportError> {
    let listener = TcpListener::bind(listen).await.context(ListenSnafu { address: listen })?;
    let address = listener.local_addr().context(ListenSnafu { address: listen })?;
    tracing::info!(%address, "reporting at /status, /metrics, /healthz and /readyz");
    let subject: Arc<dyn Subject> = Arc::new(subject);
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(scrape))
        .with_state(subject);
    let serving = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "reporting has ended");
        }
    });
    Ok(ReportServer(task.abort_handle()))
}

async fn ready(State(subject): State<Arc<dyn Subject>>) -> (StatusCode, String) {
    let snapshot = subject.snapshot();
    if snapshot.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let error = snapshot.report.stream.and_then(|stream| stream.error);
    let why = error.map_or("not ready".to_owned(), |error| format!("{}: {}", error.reason, error.message));
    (StatusCode::SERVICE_UNAVAILABLE, why + "\n")
}

async fn status(State(subject): State<Arc<dyn Subject>>) -> Json<PodReport> {
    Json(subject.snapshot().report)
}

async fn scrape(State(subject): State<Arc<dyn Subject>>) -> Response {
    match metrics::text(subject.snapshot()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
