//! What goes wrong, with the way out.

use snafu::Snafu;

/// Why a verb failed.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum Error {
    /// The process cannot do its own work.
    #[snafu(display("cannot start the runtime: {source}"))]
    Runtime {
        /// Cause.
        source: std::io::Error,
    },
    /// There is no cluster to talk to.
    #[snafu(display("which cluster? {why}. Set KUBECONFIG, or name --kubeconfig FILE and --context NAME"))]
    NoCluster {
        /// In words.
        why: String,
    },
    /// The cluster refused or did not answer.
    #[snafu(display("cannot {doing}: {}", explain(source)))]
    Api {
        /// What was tried.
        doing: String,
        /// Cause.
        source: kube::Error,
    },
    /// The API group is unknown to the cluster.
    #[snafu(display(
        "this cluster does not know {}: install Tidemark (helm install tidemark charts/tidemark …), or name another cluster with --context",
        crate::api::GROUP
    ))]
    NotInstalled,
    /// No such object.
    #[snafu(display("there is no {kind} {name} in namespace {namespace}{}", others(kind, there)))]
    NotFound {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Names of those there are.
        there: Vec<String>,
    },
    /// The name is taken.
    #[snafu(display(
        "there is a {kind} {name} already, and it cannot be changed: choose another --name, or delete that one"
    ))]
    Exists {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// It ended badly.
    #[snafu(display("{object} failed ({reason}): {message}"))]
    Failed {
        /// KIND/NAME.
        object: String,
        /// A word.
        reason: String,
        /// In words.
        message: String,
    },
    /// An archive is not what was stored.
    #[snafu(display("the archive of {policy} is not what was stored: {findings} findings; affected: {affected}"))]
    Damaged {
        /// The policy.
        policy: String,
        /// How many.
        findings: u64,
        /// What cannot be restored, in words.
        affected: String,
    },
    /// Somebody deleted it.
    #[snafu(display("{object} was deleted meanwhile"))]
    Deleted {
        /// KIND/NAME.
        object: String,
    },
    /// It cannot be followed any further; it goes on.
    #[snafu(display("cannot follow {object} any further (it goes on without this command): {why}"))]
    Watch {
        /// KIND/NAME.
        object: String,
        /// In words.
        why: String,
    },
    /// Nothing works for it.
    #[snafu(display("no pod works for {object} now: {why}"))]
    NoPods {
        /// KIND/NAME.
        object: String,
        /// What the object says of itself.
        why: String,
    },
    /// A dry run was interrupted.
    #[snafu(display("interrupted"))]
    Interrupted,
    /// The result cannot be printed.
    #[snafu(display("cannot print the result: {source}"))]
    Print {
        /// Cause.
        source: serde_json::Error,
    },
}

/// What a cluster's answer means, without what only programs read.
pub(super) fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.trim().to_owned(),
        other => {
            let (mut text, mut cause) = (other.to_string(), std::error::Error::source(other));
            while let Some(next) = cause {
                let words = next.to_string();
                if !text.contains(&words) {
                    text.push_str(": ");
                    text.push_str(&words);
                }
                cause = next.source();
            }
            text
        }
    }
}

fn others(kind: &str, there: &[String]) -> String {
    if there.is_empty() {
        return format!(", nor any other {kind}: is it another namespace (-n)?");
    }
    format!("; there are: {}", there.join(", "))
}
