use std::net::SocketAddr;

use jiff::Timestamp;
use secrecy::SecretString;

use super::reference::{Resolver, tls_mode};
use super::source::CONNECT_TIMEOUT;
use super::{Archive, archive_of, choose, finish, refuse, storage_of};
use crate::api::{RestoreRequest, SecretKeyRef, TargetSpec, unsupported};
use crate::archive::crypt::Identities;
use crate::cli::args::RestoreArgs;
use crate::cli::manifests::{Document, Documents, ManifestError, Problem, load};
use crate::model::{BinlogPosition, parse_rfc3339};
use crate::mysql::endpoint::{Endpoint, Tls};

/// A restore that can be planned.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The archive to read.
    pub archive: Archive,
    /// Read it as its bucket held it at this moment.
    pub as_of: Option<Timestamp>,
    /// Where to end.
    pub target: Target,
    /// How to get there.
    pub flags: RestoreFlags,
    /// The server to restore into; a plan can be made without one.
    pub into: Option<Endpoint>,
    /// Where that server fetches the log.
    pub serve: ServeAt,
}

/// Where the log is offered to the server that replays it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServeAt {
    /// Where to listen; none: a free port of loopback.
    pub listen: Option<SocketAddr>,
    /// By what name or address the server reaches it; none: the one listened on.
    pub advertise: Option<String>,
}

/// Where a restore ends. GTIDs stay text until the archive's flavor is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything the archive holds.
    Latest,
    /// The last transaction committed at or before this moment.
    Time(Timestamp),
    /// Up to and with this set.
    Gtid(String),
    /// Up to this place in the source's binary log.
    Position(BinlogPosition),
}

/// How a restore gets to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreFlags {
    /// Stop before the target.
    pub exclusive: bool,
    /// Transactions to leave out.
    pub skip_gtids: Option<String>,
    /// Take the nearest earlier moment where the target cannot be reached.
    pub allow_nearest: bool,
    /// Plan only.
    pub dry_run: bool,
}

/// What decides where the server to restore into is logged in to, beside the arguments. A seam for tests.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Restore {
    /// Reads manifests and arguments.
    pub fn new(args: &RestoreArgs, environment: Environment<'_>) -> Result<Self, ManifestError> {
        let documents = load(&args.archive.policy.manifests)?;
        let restore = if args.to_time.is_some() || args.to_gtid.is_some() || args.to_position.is_some() || args.latest {
            from_arguments(args, &documents, environment)
        } else {
            from_document(args, &documents)
        }?;
        match &restore.serve {
            ServeAt { listen: Some(listen), advertise: None } if listen.ip().is_unspecified() => {
                let message = format!(
                    "no server can connect to {}: name this host as the server to restore into reaches it, by --serve-advertise \
                     (intoExisting.serveAdvertise), or listen on that address",
                    listen.ip()
                );
                Err(ManifestError::Choice { message })
            }
            _ => Ok(restore),
        }
    }
}

fn from_arguments(
    args: &RestoreArgs,
    documents: &Documents,
    environment: Environment<'_>,
) -> Result<Restore, ManifestError> {
    let choice = |message: String| ManifestError::Choice { message };
    let target = if let Some(text) = &args.to_time {
        Target::Time(parse_rfc3339(text).map_err(|error| choice(format!("--to-time: {error}")))?)
    } else if let Some(text) = &args.to_position {
        Target::Position(text.parse().map_err(|error| choice(format!("--to-position: {error}")))?)
    } else if let Some(text) = &args.to_gtid {
        Target::Gtid(text.clone())
    } else {
        Target::Latest
    };
    if args.exclusive && target == Target::Latest {
        return Err(choice("--exclusive: there is nothing to stop before with --latest".to_owned()));
    }
    let document = choose(documents, args.archive.policy.policy.as_deref())?;
    let mut problems = Vec::new();
    let archive = archive_of(document, args.archive.copy.as_deref(), documents, &mut problems);
    let mut resolver = Resolver::new(document, documents, &mut problems);
    let identities = resolver.identities_of_argument(args.identity_secret.as_deref());
    let archive = archive.map(|archive| Archive { identities, ..archive });
    let into = match &args.into {
        Some(address) => into_address(args, address, document, documents, environment, &mut problems)?,
        None if args.dry_run => None,
        None => {
            return Err(choice(
                "--into HOST:PORT: name the empty server to restore into, or pass --dry-run".to_owned(),
            ));
        }
    };
    let flags = RestoreFlags {
        exclusive: args.exclusive,
        skip_gtids: args.skip_gtid.clone(),
        allow_nearest: args.allow_nearest,
        dry_run: args.dry_run,
    };
    let serve = ServeAt { listen: args.serve_listen, advertise: args.serve_advertise.clone() };
    let as_of = args.as_of.at;
    let restore = archive.map(|archive| Restore { archive, as_of, target, flags, into, serve });
    finish(restore, problems)?.ok_or_else(|| choice("the archive is not named".to_owned()))
}

fn into_address<T>(
    args: &RestoreArgs,
    address: &str,
    document: &Document<T>,
    documents: &Documents,
    environment: Environment<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Endpoint>, ManifestError> {
    let choice = |message: String| ManifestError::Choice { message };
    let (host, port) = split_address(address).ok_or_else(|| {
        choice(format!("--into: {address:?} is not HOST:PORT: write for example 127.0.0.1:3307 or [::1]:3307"))
    })?;
    let login = match &args.into_secret {
        Some(name) => Resolver::new(document, documents, problems).login("--into-secret", name),
        None => {
            let user = environment("TIDEMARK_TARGET_USERNAME").unwrap_or_else(|| "root".to_owned());
            let password = environment("TIDEMARK_TARGET_PASSWORD").ok_or_else(|| {
                choice(format!(
                    "no login for {address}: set TIDEMARK_TARGET_PASSWORD (and TIDEMARK_TARGET_USERNAME, root when unset; an \
                     empty password must be set too), or name a Secret of the files given by --into-secret"
                ))
            })?;
            Some((user, SecretString::from(password)))
        }
    };
    let ca_pem = match &args.into_ca {
        Some(path) => {
            let read = std::fs::read_to_string(path);
            Some(read.map_err(|source| ManifestError::ReadFile { path: path.clone(), source })?)
        }
        None => None,
    };
    let tls = Tls { mode: tls_mode(args.into_tls), ca_pem };
    Ok(login.map(|(user, password)| Endpoint {
        host,
        at: None,
        port,
        user,
        password,
        tls,
        connect_timeout: CONNECT_TIMEOUT,
    }))
}

/// `host:port` or `[address]:port`.
fn split_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty() && !host.contains(['/', '@', ' '])).then(|| (host.to_owned(), port))
}

fn from_document(args: &RestoreArgs, documents: &Documents) -> Result<Restore, ManifestError> {
    let document = choose_request(documents, args.request.as_deref())?;
    let spec = &document.object.spec;
    let mut problems = Vec::new();
    refuse(document, unsupported::of_restore(spec), &mut problems);
    let archive = match (&spec.policy_ref, &spec.storage) {
        (Some(reference), None) => match documents.policies.get(&reference.name) {
            Some(policy) => archive_of(policy, args.archive.copy.as_deref(), documents, &mut problems),
            None => {
                let message = format!(
                    "there is no BackupPolicy {:?} in the files given: add it, give its file by another -f, or name the archive by \
                     spec.storage",
                    reference.name
                );
                problems.push(document.problem("spec.policyRef.name", message));
                None
            }
        },
        (None, Some(storage)) => storage_of(document, "spec.storage", storage, documents, &mut problems).map(|store| {
            let name = document.object.metadata.name.clone().unwrap_or_default();
            Archive { name, store, sources: Vec::new(), identities: Identities::default(), warnings: Vec::new() }
        }),
        _ => {
            problems.push(document.problem("spec", "name the archive by exactly one of policyRef and storage"));
            None
        }
    };
    let identities = spec.decryption.as_ref().and_then(|decryption| {
        let SecretKeyRef { name, key } = &decryption.identity_secret_ref;
        let mut resolver = Resolver::new(document, documents, &mut problems);
        resolver.identities("spec.decryption.identitySecretRef", name, key.as_deref())
    });
    let archive = archive.map(|archive| Archive { identities: identities.unwrap_or_default(), ..archive });
    let target = target_of(document, &spec.target, &mut problems);
    let into = match (&spec.into, &spec.into_existing) {
        (None, Some(into)) => {
            let mut resolver = Resolver::new(document, documents, &mut problems);
            let login = resolver.login("spec.intoExisting.credentialsSecretRef", &into.credentials_secret_ref.name);
            let tls = resolver.tls("spec.intoExisting.tls", &into.tls);
            login.zip(tls).map(|((user, password), tls)| Endpoint {
                host: into.host.clone(),
                at: None,
                port: into.port,
                user,
                password,
                tls,
                connect_timeout: CONNECT_TIMEOUT,
            })
        }
        (Some(_), None) => {
            let message = "a server can be made in a cluster only: write intoExisting and name an empty server";
            problems.push(document.problem("spec.into", message));
            None
        }
        _ => {
            problems.push(document.problem("spec", "name the target by exactly one of into and intoExisting"));
            None
        }
    };
    let flags = RestoreFlags {
        exclusive: spec.target.exclusive,
        skip_gtids: spec.target.skip_gtids.clone(),
        allow_nearest: spec.target.allow_nearest,
        dry_run: spec.dry_run || args.dry_run,
    };
    let existing = spec.into_existing.as_ref();
    let listen = existing.and_then(|into| into.serve_listen.as_ref()).map(|text| text.parse::<SocketAddr>());
    if let Some(Err(_)) = listen {
        let message = "write an address and a port, for example 192.0.2.7:3310 or [::]:3310";
        problems.push(document.problem("spec.intoExisting.serveListen", message));
    }
    let serve = ServeAt {
        listen: args.serve_listen.or(listen.and_then(Result::ok)),
        advertise: args.serve_advertise.clone().or_else(|| existing.and_then(|into| into.serve_advertise.clone())),
    };
    let asked = spec.as_of.as_deref().map(parse_rfc3339);
    if let Some(Err(error)) = &asked {
        problems.push(document.problem("spec.asOf", error.to_string()));
    }
    let as_of = args.as_of.at.or(asked.and_then(Result::ok));
    let restore = archive.zip(target).map(|(archive, target)| Restore { archive, as_of, target, flags, into, serve });
    finish(restore, problems)?
        .ok_or_else(|| ManifestError::Choice { message: "the RestoreRequest is incomplete".to_owned() })
}

fn choose_request<'a>(
    documents: &'a Documents,
    name: Option<&str>,
) -> Result<&'a Document<RestoreRequest>, ManifestError> {
    let names = || documents.restores.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let message = match (name, documents.restores.values().next(), documents.restores.len()) {
        (Some(name), ..) => match documents.restores.get(name) {
            Some(document) => return Ok(document),
            None => format!("the manifests hold no RestoreRequest {name:?}; there are: {}", names()),
        },
        (None, Some(document), 1) => return Ok(document),
        (None, None, _) => {
            "no target: pass --to-time, --to-gtid, --to-position or --latest, or add a RestoreRequest to the \
                            manifests"
                .to_owned()
        }
        _ => format!("the manifests hold several RestoreRequests: say which by --request NAME: {}", names()),
    };
    Err(ManifestError::Choice { message })
}

fn target_of<T>(document: &Document<T>, spec: &TargetSpec, problems: &mut Vec<Problem>) -> Option<Target> {
    let named = [spec.time.is_some(), spec.gtid.is_some(), spec.position.is_some(), spec.latest];
    if named.iter().filter(|named| **named).count() != 1 {
        let message = "name exactly one target: time, gtid, position or latest: true";
        problems.push(document.problem("spec.target", message));
        return None;
    }
    if spec.latest && spec.exclusive {
        problems.push(
            document.problem("spec.target.exclusive", "there is nothing to stop before with latest: remove the field"),
        );
        return None;
    }
    let mut refuse = |field: &str, message: String| problems.push(document.problem(field, message));
    match spec {
        TargetSpec { time: Some(text), .. } => {
            parse_rfc3339(text).map_err(|error| refuse("spec.target.time", error.to_string())).ok().map(Target::Time)
        }
        TargetSpec { position: Some(text), .. } => text
            .parse::<BinlogPosition>()
            .map_err(|error| refuse("spec.target.position", error.to_string()))
            .ok()
            .map(Target::Position),
        TargetSpec { gtid: Some(text), .. } => Some(Target::Gtid(text.clone())),
        _ => Some(Target::Latest),
    }
}
