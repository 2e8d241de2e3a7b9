use snafu::Snafu;

/// What can go wrong while an object is reconciled. What is wrong with an *object* is no error but a condition.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum Error {
    /// The API server failed or refused.
    #[snafu(display("cannot {doing}"))]
    Api {
        /// A verb phrase.
        doing: String,
        /// Cause.
        source: kube::Error,
    },
    /// An object of ours could not be written as JSON.
    #[snafu(display("cannot describe {what}"))]
    Describe {
        /// The object.
        what: String,
        /// Cause.
        source: serde_json::Error,
    },
    /// A policy could not be written as its pods read it.
    #[snafu(display("cannot write the manifest of policy {policy}"))]
    Manifest {
        /// Its name.
        policy: String,
        /// Cause.
        source: serde_yaml::Error,
    },
    /// The HTTP server could not begin.
    #[snafu(display("cannot listen on {address}: is the port taken?"))]
    Listen {
        /// HOST:PORT.
        address: std::net::SocketAddr,
        /// Cause.
        source: std::io::Error,
    },
    /// Leadership ended: another operator may be at work.
    #[snafu(display("lost the lease {lease}: another operator leads now"))]
    LostLease {
        /// Its name.
        lease: String,
    },
    /// Pods cannot be asked.
    #[snafu(display("cannot ask pods how they are"))]
    Report {
        /// Cause.
        source: super::reports::ReportError,
    },
    /// A name is somebody else's.
    #[snafu(display(
        "there is a {what} already, which is not of this object: it is left alone; rename or remove it, or make this object by another name"
    ))]
    Taken {
        /// Kind and name.
        what: String,
    },
    /// A watch ended for good.
    #[snafu(display("a watch ended: the API server does not speak to us any more"))]
    WatchEnded,
}

impl Error {
    /// Whether the object changed under our hands: the next look will see the newer one.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.code == 409)
    }

    /// Whether the API server refused the object itself: it stays refused until somebody changes something.
    pub fn is_refusal(&self) -> bool {
        match self {
            Error::Api { source: kube::Error::Api(status), .. } => matches!(status.code, 400 | 403 | 422),
            Error::Taken { .. } => true,
            _ => false,
        }
    }

    /// Whether our account lacks a permission: the message names it.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.code == 403)
    }
}

/// An error with its causes, on one line.
pub(super) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}
