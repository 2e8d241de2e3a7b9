//! An S3 bucket asked how it protects what it holds, and objects that are written with a lock.
//!
//! OpenDAL sets no lock, and what it has signed nobody may add a header to. So the client that writes locked objects leaves the signing to the
//! transport below it, which adds the lock's headers first: an object is locked from the moment it exists, and it costs no further request.

use std::time::Duration;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use jiff::Timestamp;
use opendal::raw::{ServiceOperation, new_request_build_error, new_request_sign_error};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Operator};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, OsEnv, Signer};
use reqsign_file_read_tokio::TokioFileRead;
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::config::S3Config;
use super::open::IO_TIMEOUT;
use super::protection::{How, Lock, LockMode, Locks, Protection, Versioning, how, parse_locks, parse_versioning};

/// How often a question is put that gets no answer.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// A bucket, for questions about itself.
pub(super) struct Bucket {
    name: String,
    /// Knows the bucket's address; sends nothing.
    addresses: Operator,
    questions: HttpTransporter,
}

/// What writes locked objects.
pub(super) struct Locking {
    pub(super) asked: Lock,
    pub(super) operator: Operator,
    how: OnceCell<How>,
}

/// Signs what passes through, and adds a lock to what makes an object.
pub(super) struct Signing {
    inner: HttpTransporter,
    signer: Signer<Credential>,
    lock: Option<Lock>,
}

impl Signing {
    pub(super) fn new(config: &S3Config, inner: HttpTransporter, lock: Option<Lock>) -> Self {
        let context = Context::new().with_file_read(TokioFileRead).with_http_send(inner.clone()).with_env(OsEnv);
        let signer = RequestSigner::new("s3", &config.region);
        // Static credentials, or what the environment offers; never one for the other.
        let signer = match (&config.access_key, &config.secret_key) {
            (Some(id), Some(secret)) => {
                let mut given = StaticCredentialProvider::new(id, secret.expose_secret());
                if let Some(token) = &config.session_token {
                    given = given.with_session_token(token.expose_secret());
                }
                Signer::new(context, given, signer)
            }
            _ => Signer::new(context, DefaultCredentialProvider::new(), signer),
        };
        Self { inner, signer, lock }
    }
}

impl HttpTransport for Signing {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (mut parts, body) = request.into_parts();
        let operation = parts.extensions.get::<ServiceOperation>().map(|operation| operation.0);
        if let (Some(lock), Some("PutObject" | "CreateMultipartUpload")) = (self.lock, operation) {
            for (name, value) in headers(lock, Timestamp::now()) {
                let value = HeaderValue::try_from(value).map_err(|e| new_request_build_error(e.into()))?;
                parts.headers.insert(HeaderName::from_static(name), value);
            }
        }
        self.signer.sign(&mut parts, None).await.map_err(|e| new_request_sign_error(e.into()))?;
        // The client below sets it again, by the version of HTTP that it speaks.
        parts.headers.remove(HOST);
        self.inner.fetch(Request::from_parts(parts, body)).await
    }
}

/// The headers that lock an object which is written at `now`.
fn headers(lock: Lock, now: Timestamp) -> [(&'static str, String); 2] {
    let mode = match lock.mode {
        LockMode::Governance => "GOVERNANCE",
        LockMode::Compliance => "COMPLIANCE",
    };
    let lasts = i64::try_from(lock.lasts.as_secs()).unwrap_or(i64::MAX);
    // Rounded up: a lock is never shorter than was asked for.
    let until = now.as_second().saturating_add(lasts).saturating_add(1);
    let until = Timestamp::from_second(until).unwrap_or(Timestamp::MAX);
    [("x-amz-object-lock-mode", mode.to_owned()), ("x-amz-object-lock-retain-until-date", until.to_string())]
}

/// What a bucket answers.
enum Answer {
    Document(Vec<u8>),
    /// It has no such configuration, or knows nothing of such things.
    Nothing,
    /// These credentials may not ask, or the store does not say.
    Untold,
}

impl Bucket {
    pub(super) fn new(name: &str, addresses: Operator, signing: Signing) -> Self {
        Self { name: name.to_owned(), addresses, questions: HttpTransporter::new(signing) }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn protection(&self) -> Result<Protection, opendal::Error> {
        let versioning = match self.ask("versioning").await? {
            Answer::Document(xml) => parse_versioning(&xml).unwrap_or_else(|problem| {
                tracing::warn!(problem, "the store's answer on whether the bucket keeps versions cannot be read");
                Versioning::Unknown
            }),
            Answer::Nothing => Versioning::Off,
            Answer::Untold => Versioning::Unknown,
        };
        Ok(Protection { versioning, locks: self.locks().await? })
    }

    async fn locks(&self) -> Result<Locks, opendal::Error> {
        Ok(match self.ask("object-lock").await? {
            Answer::Document(xml) => parse_locks(&xml).map_err(odd)?,
            Answer::Nothing => Locks::Off,
            Answer::Untold => Locks::Unknown,
        })
    }

    /// How what a policy asks for comes about: asked once, before the first object. The inner error says why it cannot.
    pub(super) async fn how(&self, locking: &Locking) -> Result<Result<How, String>, opendal::Error> {
        if let Some(how) = locking.how.get() {
            return Ok(Ok(*how));
        }
        let found = how(locking.asked, self.locks().await?, &self.name);
        if let Ok(found) = &found {
            // Another writer may have found the same.
            let _ = locking.how.set(*found);
            tracing::info!(bucket = self.name, lock = %locking.asked, how = ?found, "what is archived is locked");
        }
        Ok(found)
    }

    async fn ask(&self, question: &str) -> Result<Answer, opendal::Error> {
        let mut attempt = 0;
        loop {
            let answer = match timeout(IO_TIMEOUT, self.ask_once(question)).await {
                Ok(answer) => answer,
                Err(_) => Err(opendal::Error::new(ErrorKind::Unexpected, "timeout reached").set_temporary()),
            };
            attempt += 1;
            match answer {
                Err(e) if e.is_temporary() && attempt < ATTEMPTS => sleep(PAUSE * 2u32.pow(attempt)).await,
                answer => return answer,
            }
        }
    }

    async fn ask_once(&self, question: &str) -> Result<Answer, opendal::Error> {
        // The client's own way to address the bucket, less the name of an object.
        let address = self.addresses.presign_stat("x", IO_TIMEOUT).await?.uri().to_string();
        let address = address.strip_suffix("/x").unwrap_or(&address);
        let request = Request::get(format!("{address}?{question}")).body(Buffer::new());
        let response = self.questions.send(request.map_err(new_request_build_error)?).await?;
        let (status, body) = (response.status(), response.into_body().to_vec());
        judge(status, body)
    }
}

fn judge(status: StatusCode, body: Vec<u8>) -> Result<Answer, opendal::Error> {
    let text = String::from_utf8_lossy(&body).into_owned();
    let has = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    let error = |kind| Err(opendal::Error::new(kind, text.clone()).with_context("status", status.to_string()));
    match status {
        StatusCode::OK => Ok(Answer::Document(body)),
        _ if has(&["NoSuchBucket"]) => error(ErrorKind::ConfigInvalid),
        _ if has(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound"]) => {
            error(ErrorKind::PermissionDenied)
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(Answer::Nothing),
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            error(ErrorKind::Unexpected).map_err(opendal::Error::set_temporary)
        }
        _ if status.is_client_error() => Ok(Answer::Untold),
        _ => error(ErrorKind::Unexpected),
    }
}

fn odd(problem: String) -> opendal::Error {
    opendal::Error::new(ErrorKind::Unexpected, format!("its answer cannot be read: {problem}"))
}

impl Locking {
    pub(super) fn new(asked: Lock, operator: Operator) -> Self {
        Self { asked, operator, how: OnceCell::new() }
    }
}

/// A bucket, and what writes locked objects there if a policy asks for that.
pub(super) struct Guard {
    pub(super) bucket: Bucket,
    pub(super) locking: Option<Locking>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_never_shorter_than_was_asked_for() {
        let lock = Lock { mode: LockMode::Compliance, lasts: Duration::from_secs(3600) };
        let now: Timestamp = "2026-11-29T01:02:03.9Z".parse().unwrap();
        let [(_, mode), (_, until)] = headers(lock, now);
        assert_eq!((mode.as_str(), until.as_str()), ("COMPLIANCE", "2026-11-29T02:02:04Z"));
        let forever = Lock { lasts: Duration::MAX, ..lock };
        assert!(headers(forever, now)[1].1.starts_with("9999-"));
    }

    #[test]
    fn a_bucket_that_may_not_be_asked_is_not_one_that_protects_nothing() {
        let judged = |status: u16, body: &str| judge(StatusCode::from_u16(status).unwrap(), body.as_bytes().to_vec());
        assert!(matches!(judged(403, "<Error><Code>AccessDenied</Code></Error>"), Ok(Answer::Untold)));
        let none = "<Error><Code>ObjectLockConfigurationNotFoundError</Code></Error>";
        assert!(matches!(judged(404, none), Ok(Answer::Nothing)));
        assert!(matches!(judged(501, ""), Ok(Answer::Nothing)));
        let error = |status, body| judged(status, body).err().unwrap();
        assert_eq!(error(403, "<Code>InvalidAccessKeyId</Code>").kind(), ErrorKind::PermissionDenied);
        assert_eq!(error(404, "<Code>NoSuchBucket</Code>").kind(), ErrorKind::ConfigInvalid);
        assert!(matches!(judged(400, "<Code>InvalidRequest</Code>"), Ok(Answer::Untold)));
        assert!(error(503, "").is_temporary() && !error(302, "").is_temporary());
    }
}
