use std::io;

use opendal::ErrorKind;
use snafu::Snafu;

use super::root::is_gone;

/// What can go wrong between us and a store.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum StoreError {
    /// The configuration makes no sense to the store's client.
    #[snafu(display("cannot set up the store {store}: {}", describe(source)))]
    Open {
        /// The store, as a URL without secrets.
        store: String,
        /// Cause.
        #[snafu(source(from(opendal::Error, Box::new)))]
        source: Box<opendal::Error>,
    },
    /// The certificate authority given for the endpoint is unusable.
    #[snafu(display("cannot use the CA certificate given for the store {store}: it must be PEM text"))]
    Ca {
        /// The store.
        store: String,
        /// Cause.
        source: reqwest::Error,
    },
    /// An object could not be read.
    #[snafu(display("cannot read {key} in {store}: {}", describe(source)))]
    Read {
        /// The object.
        key: String,
        /// The store.
        store: String,
        /// Cause.
        #[snafu(source(from(opendal::Error, Box::new)))]
        source: Box<opendal::Error>,
    },
    /// An object could not be written.
    #[snafu(display("cannot write {key} in {store}: {}", describe(source)))]
    Write {
        /// The object.
        key: String,
        /// The store.
        store: String,
        /// Cause.
        #[snafu(source(from(opendal::Error, Box::new)))]
        source: Box<opendal::Error>,
    },
    /// A folder could not be listed.
    #[snafu(display("cannot list {key} in {store}: {}", describe(source)))]
    List {
        /// The prefix.
        key: String,
        /// The store.
        store: String,
        /// Cause.
        #[snafu(source(from(opendal::Error, Box::new)))]
        source: Box<opendal::Error>,
    },
    /// An object could not be deleted.
    #[snafu(display("cannot delete {key} in {store}: {}", describe(source)))]
    Delete {
        /// The object.
        key: String,
        /// The store.
        store: String,
        /// Cause.
        #[snafu(source(from(opendal::Error, Box::new)))]
        source: Box<opendal::Error>,
    },
    /// A store could not be asked how it protects what it holds.
    #[snafu(display("cannot ask {store} how it protects what it holds: {}", describe(source)))]
    Ask {
        /// The store.
        store: String,
        /// Cause.
        #[snafu(source(from(opendal::Error, Box::new)))]
        source: Box<opendal::Error>,
    },
    /// The store took a write and then showed something else.
    #[snafu(display("the store {store} is not fit for an archive: {problem}"))]
    Unfit {
        /// The store.
        store: String,
        /// What it did.
        problem: String,
    },
}

/// What keeps a store from working, in one word: for those who tell people and alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It did not answer, or failed on its side.
    Unreachable,
    /// It refused the credentials, or they may not do this.
    Denied,
    /// The bucket, container or folder is not there.
    NoBucket,
    /// It has no room.
    Full,
    /// It is mounted read-only.
    ReadOnly,
    /// The object is not there.
    NoObject,
    /// It cannot be used as it is configured.
    Unfit,
}

impl StoreError {
    /// What is wrong.
    pub fn trouble(&self) -> Trouble {
        let Some(e) = self.cause() else { return Trouble::Unfit };
        let absent = if matches!(self, StoreError::Read { .. }) { Trouble::NoObject } else { Trouble::NoBucket };
        if let Some(io) = io_cause(e) {
            return match io.kind() {
                _ if is_gone(io) => Trouble::NoBucket,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::Full,
                io::ErrorKind::PermissionDenied => Trouble::Denied,
                io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly,
                io::ErrorKind::NotFound => absent,
                _ if self.is_transient() => Trouble::Unreachable,
                _ => Trouble::Unfit,
            };
        }
        match e.kind() {
            _ if no_bucket(e) => Trouble::NoBucket,
            _ if bad_credentials(e) => Trouble::Denied,
            ErrorKind::PermissionDenied => Trouble::Denied,
            ErrorKind::NotFound => absent,
            ErrorKind::ConfigInvalid | ErrorKind::Unsupported => Trouble::Unfit,
            _ => Trouble::Unreachable,
        }
    }

    /// Whether the same call may succeed later without anybody changing the configuration.
    pub fn is_transient(&self) -> bool {
        self.cause().is_some_and(|e| match io_cause(e) {
            Some(io) => {
                is_gone(io)
                    || matches!(
                        io.kind(),
                        io::ErrorKind::StorageFull
                            | io::ErrorKind::QuotaExceeded
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                            | io::ErrorKind::ResourceBusy
                            | io::ErrorKind::StaleNetworkFileHandle
                    )
            }
            // The retry layer marks whatever it gives up as persistent, so only the kind tells.
            None => match e.kind() {
                ErrorKind::RateLimited | ErrorKind::Conflict => true,
                ErrorKind::Unexpected => !e.is_permanent(),
                _ => false,
            },
        })
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::Read { source, .. } if source.kind() == ErrorKind::NotFound && !no_bucket(source) && !bad_credentials(source))
    }

    /// Whether the store turned us away: wrong or expired credentials, no permission, read-only, no such bucket. Only somebody who changes the
    /// store or the configuration mends that.
    pub fn is_refused(&self) -> bool {
        self.cause().is_some_and(|e| match io_cause(e) {
            Some(io) => matches!(io.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem),
            None => no_bucket(e) || bad_credentials(e) || e.kind() == ErrorKind::PermissionDenied,
        })
    }

    /// Whether a delete, or an overwrite, was refused because the store holds the object until a later time, whoever asks (a lock, a retention rule).
    pub fn is_held(&self) -> bool {
        matches!(self, StoreError::Delete { source, .. } | StoreError::Write { source, .. } if held(source))
    }

    fn cause(&self) -> Option<&opendal::Error> {
        match self {
            StoreError::Open { source, .. }
            | StoreError::Read { source, .. }
            | StoreError::Write { source, .. }
            | StoreError::List { source, .. }
            | StoreError::Ask { source, .. }
            | StoreError::Delete { source, .. } => Some(source),
            StoreError::Ca { .. } | StoreError::Unfit { .. } => None,
        }
    }
}

/// The cause in a word or two and what to do about it.
fn describe(e: &opendal::Error) -> String {
    if let Some(io) = io_cause(e) {
        let hint = match io.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space or move the archive",
            io::ErrorKind::PermissionDenied => "; give the user this runs as write access to the folder",
            io::ErrorKind::ReadOnlyFilesystem => "; mount it read-write, or name another folder",
            _ => "",
        };
        return format!("{io}{hint}");
    }
    let text = e.to_string();
    let has = |code: &str| text.contains(code);
    let hint = if has("x-amz-checksum") || has("Content-MD5 HTTP header is required") {
        "the bucket locks what is written (Object Lock), and wants a checksum with it: set immutability beside the storage in the policy"
    } else if held(e) {
        "the store holds it until its lock or retention rule ends; nothing but time changes that"
    } else if no_bucket(e) {
        "the bucket (or container) does not exist; create it, or correct its name or the endpoint"
    } else if expired(e) {
        "the credentials have expired; put new ones into the Secret"
    } else if bad_credentials(e) {
        "the store refused the credentials; correct the access key and the secret key"
    } else if e.kind() == ErrorKind::PermissionDenied {
        "the store denied access; these credentials need to get, put, list and delete objects under the prefix"
    } else if e.kind() == ErrorKind::NotFound {
        "no such object"
    } else if not_trusted(e) {
        "the certificate that the endpoint shows is not one for that address that an authority known here has signed: give the authority by caSecretRef"
    } else if has("send http request") || has("timeout reached") {
        "the store did not answer; check the endpoint and the network"
    } else {
        return format!("{} ({})", e.message(), e.kind());
    };
    hint.to_owned()
}

/// versitygw answers an unknown key with 404 and a code of its own, which must not pass for an absent object.
fn bad_credentials(e: &opendal::Error) -> bool {
    let text = e.to_string();
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthenticationFailed", "XAdminUserNotFound"]
        .iter()
        .any(|code| text.contains(code))
        || expired(e)
}

/// Of credentials that last for a while, which Amazon answers with 400.
fn expired(e: &opendal::Error) -> bool {
    let text = e.to_string();
    ["ExpiredToken", "TokenRefreshRequired"].iter().any(|code| text.contains(code))
}

fn not_trusted(e: &opendal::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(e);
    while let Some(cause) = next {
        if cause.to_string().contains("certificate") {
            return true;
        }
        next = cause.source();
    }
    false
}

/// What Amazon and MinIO, Google and Azure say of an object that must not go yet.
fn held(e: &opendal::Error) -> bool {
    let text = e.to_string();
    ["object lock", "WORM protected", "ObjectLocked", "etentionPolicyNotMet", "BlobImmutableDueToPolicy"]
        .iter()
        .any(|code| text.contains(code))
}

fn no_bucket(e: &opendal::Error) -> bool {
    let text = e.to_string();
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|code| text.contains(code))
}

fn io_cause(e: &opendal::Error) -> Option<&io::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(e);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io);
        }
        // Only the file system's own errors: below HTTP an io::Error means the network, which `describe` words itself.
        if cause.is::<reqwest::Error>() {
            return None;
        }
        next = cause.source();
    }
    None
}
