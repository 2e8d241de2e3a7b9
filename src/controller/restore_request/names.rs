//! Names and labels of what a RestoreRequest makes.

use std::collections::BTreeMap;

use crate::controller::names::{self, REQUEST_UID, RESTORE_REQUEST, suffixed_job};

/// What a pod does, as a label: it plans.
pub const PLAN: &str = "plan";
/// It restores into a server that exists.
pub const RESTORE: &str = "restore";
/// It is a server that is being restored, or was.
pub const SERVER: &str = "server";

/// The Job that plans, and its ConfigMap.
pub fn plan(request: &str) -> String {
    suffixed_job(request, PLAN)
}

/// The Job that restores into a server that exists; the ConfigMap of any restore; the Secret with its login at a fresh server.
pub fn restore(request: &str) -> String {
    suffixed_job(request, RESTORE)
}

/// The Secret with the login of root at a fresh server, for people.
pub fn root(request: &str) -> String {
    suffixed_job(request, "root")
}

/// Labels of everything of one request. Another one may have its name later.
pub fn labels(component: &str, request: &str, uid: &str) -> BTreeMap<String, String> {
    let mut labels = names::labels(component, RESTORE_REQUEST, request);
    labels.insert(REQUEST_UID.to_owned(), uid.to_owned());
    labels
}
