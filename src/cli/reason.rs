//! Errors → one stable word each. In a cluster it becomes a condition's reason and a metric's label; the exit code follows from it.

mod archive;

use std::error::Error;

use archive::{of_archive, of_compaction, of_copy, of_locked, of_rekey, of_retention, of_store, of_verify};

use super::exit::Exit;
use super::manifests::ManifestError;
use super::report::ReportError;
use crate::api::report::PodError;
use crate::archive::ArchiveError;
use crate::archive::store::StoreError;
use crate::backup::logical::LogicalError;
use crate::binlog;
use crate::compaction::CompactionError;
use crate::copies::CopyError;
use crate::mysql::{sql, wire};
use crate::rekey::RekeyError;
use crate::restore::RestoreError;
use crate::restore::base::BaseError;
use crate::restore::plan::PlanError;
use crate::retention::RetentionError;
use crate::serve::ServeError;
use crate::verify::VerifyError;

/// Makes the enum from the table, so that no word is without its meaning and exit code.
macro_rules! reasons {
    ($($meaning:literal $name:ident $exit:ident,)*) => {
        /// Why something failed. The names are words of the interface: they do not change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $name,)*
        }

        impl Reason {
            /// Every reason, with what it means.
            #[cfg(test)]
            pub const ALL: &[(Reason, &str)] = &[$((Reason::$name, $meaning),)*];

            /// Its word.
            pub fn word(self) -> &'static str {
                match self {
                    $(Reason::$name => stringify!($name),)*
                }
            }

            /// What the shell is told.
            pub fn exit(self) -> Exit {
                match self {
                    $(Reason::$name => Exit::$exit,)*
                }
            }
        }
    };
}

reasons! {
    "A manifest, an argument or a Secret is wrong or missing." InvalidManifest Usage,
    "The source does not answer." SourceUnreachable Unreachable,
    "The source refuses the login." SourceDenied Unreachable,
    "The connection to the source cannot be encrypted as asked." SourceTls Unreachable,
    "The account on the source lacks a privilege." MissingGrant Failed,
    "The source is set up so that it cannot be protected: its binary log is off, for example." SourceMisconfigured Failed,
    "The source is of a version, or holds something, that this version cannot back up." SourceUnsupported Failed,
    "The source had no quiet moment for a full: locks, long statements or DDL were in its way." SourceBusy Failed,
    "The source no longer has the binary log that comes next." BinlogPurged Failed,
    "The source sends other bytes than are archived of the same file." SourceDiverged Failed,
    "The source sends damaged binary log." SourceDamaged Failed,
    "The source refused a statement." SourceFailed Failed,
    "The folder of the spool cannot be used, or holds what is of another archive." SpoolUnusable Failed,
    "The store does not answer." StoreUnreachable Unreachable,
    "The store refuses the credentials, or they may not do what is needed." StoreDenied Unreachable,
    "The bucket, container or folder is not there." BucketMissing Unreachable,
    "The store has no room." StoreFull Unreachable,
    "The store is mounted read-only." StoreReadOnly Unreachable,
    "The store cannot be used as it is configured, or is not fit for an archive." StoreUnfit Unreachable,
    "There is no archive where one is expected." ArchiveMissing Failed,
    "Objects of the archive are missing." ArchiveIncomplete Damaged,
    "Objects of the archive are damaged." ArchiveDamaged Damaged,
    "A newer version wrote the archive." ArchiveNewer Damaged,
    "What is to be read of the archive is encrypted, and no identity was given." IdentityMissing Refused,
    "What is to be read of the archive is encrypted to others than the identity that was given." IdentityWrong Refused,
    "The archive is of the other flavor than the server." OtherFlavor Failed,
    "The archive is of another cluster than the server." OtherCluster Failed,
    "The archive holds no complete full." NoFull Refused,
    "The archive does not reach the target of the restore." OutsideWindow Refused,
    "The archive holds two lineages that nothing tells apart: the restore must say which." TwoLineages Refused,
    "The target of the restore, or what it skips, cannot be meant." InvalidTarget Refused,
    "The server to restore into does not answer." TargetUnreachable Unreachable,
    "The server to restore into refuses the login." TargetDenied Unreachable,
    "The connection to the server to restore into cannot be encrypted as asked." TargetTls Unreachable,
    "The server to restore into is not empty." TargetNotEmpty Refused,
    "The server to restore into is not fit: flavor, version, settings or privileges." TargetUnfit Refused,
    "The server to restore into holds another restore, unfinished." OtherRestore Refused,
    "The server to restore into refused a statement." TargetFailed Failed,
    "The server to restore into cannot read the log from the restoring process." LogUnreachable Failed,
    "A transaction could not be replayed." ReplayFailed Failed,
    "The replay stands still." ReplayStalled Failed,
    "What was restored is not what was planned." NotProved Failed,
    "The full must not be deleted: it is the last good one, or others need it." FullNeeded Refused,
    "A restore that reads the archive began meanwhile." Restoring Failed,
    "The store of a copy holds another archive." OtherArchive Failed,
    "An address to listen on cannot be had." ListenFailed Failed,
    "It was told to stop before it was done." Cancelled Failed,
    "Something else; the message says what." Failed Failed,
}

impl Reason {
    /// What it is about, in the words the stream's engine counts its errors by.
    pub fn code(self) -> &'static str {
        match self.word() {
            "InvalidManifest" => "manifest",
            "OtherFlavor" | "OtherCluster" => "archive",
            word if word.starts_with("Store") || word.starts_with("Bucket") => "store",
            word if word.starts_with("Archive") => "archive",
            word if word.starts_with("Source") || word.starts_with("Binlog") => "source",
            "MissingGrant" => "privilege",
            _ => "other",
        }
    }
}

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The word.
    pub reason: Reason,
    /// Whether trying again may help, with nobody changing anything.
    pub transient: bool,
}

/// Whose fault a connection's error is.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn pick(self, source: Reason, target: Reason) -> Reason {
        match self {
            Side::Source => source,
            Side::Target => target,
        }
    }
}

/// The outermost cause that is known decides.
pub fn of(error: &anyhow::Error) -> Verdict {
    let unknown = Verdict { reason: Reason::Failed, transient: false };
    error.chain().find_map(of_cause).unwrap_or(unknown)
}

/// An error as a pod reports it.
pub fn pod_error(error: &anyhow::Error) -> PodError {
    told(of(error), super::exit::text(error))
}

/// An error of the stream's engine as a pod reports it.
pub fn stream_error(error: &binlog::Error) -> PodError {
    told(Verdict { reason: of_stream(error), transient: error.is_transient() }, error.to_string())
}

fn told(verdict: Verdict, message: String) -> PodError {
    PodError { reason: verdict.reason.word().to_owned(), message, transient: verdict.transient }
}

/// Errors that show themselves as their cause (`transparent`) or keep it in a box are no link, or another one, of the chain: they are
/// opened here.
fn of_cause(cause: &(dyn Error + 'static)) -> Option<Verdict> {
    let (reason, transient) = if cause.is::<ManifestError>() {
        (Reason::InvalidManifest, false)
    } else if cause.is::<ReportError>() {
        (Reason::ListenFailed, false)
    } else if let Some(e) = cause.downcast_ref::<binlog::Error>() {
        (of_stream(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<LogicalError>() {
        (of_logical(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<RestoreError>() {
        (of_restore(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<RetentionError>() {
        (of_retention(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<CompactionError>() {
        (of_compaction(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<RekeyError>() {
        (of_rekey(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<CopyError>() {
        (of_copy(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<VerifyError>() {
        (of_verify(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<ServeError>() {
        (of_serve(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<ArchiveError>() {
        (of_archive(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<StoreError>() {
        (of_store(e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<sql::Error>() {
        (of_sql(Side::Source, e), e.is_transient())
    } else if let Some(e) = cause.downcast_ref::<wire::Error>() {
        (of_wire(Side::Source, e), e.is_transient())
    } else {
        return None;
    };
    Some(Verdict { reason, transient: transient || reason == Reason::Cancelled })
}

fn of_stream(error: &binlog::Error) -> Reason {
    use binlog::Error as E;
    match error {
        E::Unfit { .. } => Reason::SourceMisconfigured,
        E::Privilege { .. } => Reason::MissingGrant,
        E::Source { source, .. } => of_wire(Side::Source, source),
        E::Archive { source, .. } => of_archive(source),
        E::Diverged { .. } => Reason::SourceDiverged,
        E::Corrupt { .. } | E::Event { .. } | E::OutOfOrder { .. } => Reason::SourceDamaged,
        E::Answer { .. } | E::Replaced { .. } => Reason::SourceFailed,
        E::Spool { .. } | E::OtherSpool { .. } => Reason::SpoolUnusable,
        E::Stage { .. } => Reason::Failed,
    }
}

fn of_logical(error: &LogicalError) -> Reason {
    use LogicalError as E;
    match error {
        E::Connect { source } | E::Sql { source, .. } => of_wire(Side::Source, source),
        E::ShieldLost { source } => of_wire(Side::Source, source),
        E::Store { source } => of_store(source),
        E::Archive { source } => of_archive(source),
        E::Privilege { .. } | E::XaPrivilege { .. } | E::NoLock { .. } | E::Unaligned { .. } => Reason::MissingGrant,
        E::LockWait { .. } | E::AtWork { .. } | E::Ddl { .. } | E::Changed { .. } => Reason::SourceBusy,
        E::NonTransactional { .. } | E::Unsupported { .. } => Reason::SourceUnsupported,
        E::Answer { .. } => Reason::SourceFailed,
        E::Cancelled => Reason::Cancelled,
        E::Compress { .. } | E::Describe { .. } | E::Worker { .. } => Reason::Failed,
    }
}

fn of_restore(error: &RestoreError) -> Reason {
    use RestoreError as E;
    match error {
        E::Plan { source } => of_plan(source),
        E::Archive { source } => of_archive(source),
        E::Serve { source } => of_serve(source),
        E::Sql { source } => of_sql(Side::Target, source),
        E::Base { source, .. } => of_base(source),
        E::Unreadable { .. } | E::Damaged { .. } => Reason::ArchiveDamaged,
        E::PlannedFileGone { .. } => Reason::ArchiveIncomplete,
        E::Preflight { occupied: true, .. } => Reason::TargetNotEmpty,
        E::Preflight { .. } => Reason::TargetUnfit,
        E::OtherRestore { .. } | E::State { .. } => Reason::OtherRestore,
        E::Applier { .. } => Reason::ReplayFailed,
        E::Stream { .. } => Reason::LogUnreachable,
        E::Stalled { .. } => Reason::ReplayStalled,
        E::Proof { .. } | E::Restarted { .. } => Reason::NotProved,
        E::AfterRestart { source } => of_restore(source),
        E::Cancelled => Reason::Cancelled,
    }
}

fn of_plan(error: &PlanError) -> Reason {
    use PlanError as E;
    match error {
        E::NoFull => Reason::NoFull,
        E::TooEarly { .. }
        | E::TooLate { .. }
        | E::InsideFull { .. }
        | E::MissingGtids { .. }
        | E::OffLineage { .. }
        | E::PreparedXa { .. }
        | E::MixedGtids { .. } => Reason::OutsideWindow,
        E::Contested { .. } => Reason::TwoLineages,
        E::InsideTransaction { .. }
        | E::NoSuchFile { .. }
        | E::AmbiguousFile { .. }
        | E::WrongCoordinates { .. }
        | E::SkipNotReplayed { .. }
        | E::SplitXa { .. } => Reason::InvalidTarget,
    }
}

fn of_base(error: &BaseError) -> Reason {
    use BaseError as E;
    match error {
        E::Connect { source } | E::Sql { source, .. } => of_wire(Side::Target, source),
        E::Store { source } => of_store(source),
        E::Locked { source } => of_locked(source),
        E::Damaged { .. } => Reason::ArchiveDamaged,
        E::NotEmpty { .. } => Reason::TargetNotEmpty,
        E::WrongServer { .. } | E::Names { .. } | E::Engines { .. } => Reason::TargetUnfit,
        E::Rows { .. } | E::Refused { .. } | E::Busy { .. } => Reason::TargetFailed,
        E::Differs { .. } => Reason::NotProved,
        E::Cancelled => Reason::Cancelled,
        E::Decompress { .. } | E::Worker { .. } => Reason::Failed,
    }
}

fn of_serve(error: &ServeError) -> Reason {
    match error {
        ServeError::Listen { .. } => Reason::ListenFailed,
        ServeError::Replica { .. } => Reason::LogUnreachable,
        ServeError::Archive { source } => of_archive(source),
        ServeError::Gone { .. } | ServeError::Short { .. } => Reason::ArchiveIncomplete,
        ServeError::Scan { .. } | ServeError::Track { .. } | ServeError::Parse { .. } => Reason::ArchiveDamaged,
        _ => Reason::ReplayFailed,
    }
}

fn of_sql(side: Side, error: &sql::Error) -> Reason {
    match error {
        sql::Error::Connect { source } => of_wire(side, source),
        sql::Error::Server { source, .. } => of_code(side, source.code),
        sql::Error::Client { .. } if error.is_transient() => {
            side.pick(Reason::SourceUnreachable, Reason::TargetUnreachable)
        }
        sql::Error::Version { .. } => side.pick(Reason::SourceUnsupported, Reason::TargetUnfit),
        sql::Error::Client { .. } | sql::Error::Shape { .. } => side.pick(Reason::SourceFailed, Reason::TargetFailed),
    }
}

fn of_wire(side: Side, error: &wire::Error) -> Reason {
    use wire::Error as E;
    let unreachable = side.pick(Reason::SourceUnreachable, Reason::TargetUnreachable);
    let denied = side.pick(Reason::SourceDenied, Reason::TargetDenied);
    let tls = side.pick(Reason::SourceTls, Reason::TargetTls);
    match error {
        E::Unreachable { .. }
        | E::ConnectTimeout { .. }
        | E::ConnectionLost { .. }
        | E::Silent { .. }
        | E::Abandoned => unreachable,
        E::AccessDenied { .. } | E::AuthPlugin { .. } | E::ReplicaDenied { .. } => denied,
        E::Refused { server, .. } => match server.code {
            3159 => tls,
            1040 | 1053 | 1129 | 1203 | 1226 => unreachable,
            _ => denied,
        },
        E::TlsNotOffered { .. }
        | E::BadCa { .. }
        | E::CertificateNotTrusted { .. }
        | E::CertificateName { .. }
        | E::Tls { .. } => tls,
        E::Server { source, .. } => of_code(side, source.code),
        E::DumpRefused { server } => of_code(side, server.code),
        E::DumpDenied { .. } => Reason::MissingGrant,
        E::BinlogOff { .. } | E::DuplicateReplica { .. } => Reason::SourceMisconfigured,
        E::Purged { .. } | E::BeyondEnd { .. } => Reason::BinlogPurged,
        E::OutOfStep { .. } | E::Malformed { .. } => side.pick(Reason::SourceDamaged, Reason::TargetFailed),
        E::LocalInfileOff { .. } => side.pick(Reason::SourceFailed, Reason::TargetUnfit),
        E::PacketTooLarge { .. } | E::LoadSource { .. } => side.pick(Reason::SourceFailed, Reason::TargetFailed),
    }
}

/// By the server's error number: access denied to a schema, table, routine or global thing is a missing privilege.
fn of_code(side: Side, code: u16) -> Reason {
    match code {
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1419 => side.pick(Reason::MissingGrant, Reason::TargetUnfit),
        _ => side.pick(Reason::SourceFailed, Reason::TargetFailed),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;
    use crate::model::Flavor;
    use crate::mysql::wire::ServerError;

    fn server(code: u16) -> ServerError {
        ServerError { code, sqlstate: "HY000".to_owned(), message: "no".to_owned() }
    }

    fn denied() -> wire::Error {
        wire::Error::AccessDenied { address: "db:3306".to_owned(), user: "u".to_owned(), server: server(1045) }
    }

    fn lost() -> wire::Error {
        wire::Error::Unreachable { address: "db:3306".to_owned(), source: std::io::ErrorKind::ConnectionRefused.into() }
    }

    fn missing() -> ArchiveError {
        ArchiveError::Missing { store: "s3://b".to_owned() }
    }

    #[test]
    fn every_way_to_the_same_cause_gives_its_word_its_exit_code_and_whether_it_passes() {
        let streaming = |source| binlog::Error::Source { doing: "connect to the source", source };
        let preflight = |occupied| RestoreError::Preflight { address: String::new(), problems: Vec::new(), occupied };
        let refused = |code| wire::Error::Refused { address: "db:3306".to_owned(), server: server(code) };
        let cases: Vec<(anyhow::Error, Reason, Exit, bool)> = vec![
            (denied().into(), Reason::SourceDenied, Exit::Unreachable, false),
            (sql::Error::from(denied()).into(), Reason::SourceDenied, Exit::Unreachable, false),
            (streaming(denied()).into(), Reason::SourceDenied, Exit::Unreachable, false),
            (streaming(lost()).into(), Reason::SourceUnreachable, Exit::Unreachable, true),
            (streaming(refused(3159)).into(), Reason::SourceTls, Exit::Unreachable, false),
            (streaming(refused(1040)).into(), Reason::SourceUnreachable, Exit::Unreachable, true),
            (streaming(refused(3118)).into(), Reason::SourceDenied, Exit::Unreachable, false),
            (
                streaming(wire::Error::BinlogOff { server: server(1236) }).into(),
                Reason::SourceMisconfigured,
                Exit::Failed,
                false,
            ),
            (binlog::Error::Unfit { problems: Vec::new() }.into(), Reason::SourceMisconfigured, Exit::Failed, false),
            (
                binlog::Error::Archive { doing: "open the archive", source: Box::new(missing()) }.into(),
                Reason::ArchiveMissing,
                Exit::Failed,
                false,
            ),
            (
                LogicalError::Connect { source: Box::new(lost()) }.into(),
                Reason::SourceUnreachable,
                Exit::Unreachable,
                true,
            ),
            (LogicalError::Cancelled.into(), Reason::Cancelled, Exit::Failed, true),
            (RestoreError::from(sql::Error::from(denied())).into(), Reason::TargetDenied, Exit::Unreachable, false),
            (RestoreError::from(PlanError::NoFull).into(), Reason::NoFull, Exit::Refused, false),
            (preflight(true).into(), Reason::TargetNotEmpty, Exit::Refused, false),
            (preflight(false).into(), Reason::TargetUnfit, Exit::Refused, false),
            (ArchiveError::Newer { key: String::new(), found: 9 }.into(), Reason::ArchiveNewer, Exit::Damaged, false),
            (
                ArchiveError::OtherFlavor { store: String::new(), archived: Flavor::Mysql, offered: Flavor::Mariadb }
                    .into(),
                Reason::OtherFlavor,
                Exit::Failed,
                false,
            ),
            (ManifestError::Choice { message: String::new() }.into(), Reason::InvalidManifest, Exit::Usage, false),
            (anyhow::anyhow!("who knows"), Reason::Failed, Exit::Failed, false),
        ];
        for (error, reason, exit, transient) in cases {
            let shown = format!("{error:?}");
            assert_eq!(of(&error), Verdict { reason, transient }, "{shown}");
            assert_eq!(reason.exit(), exit, "{shown}");
            let wrapped = Err::<(), _>(error).context("cannot use the source of policy p").unwrap_err();
            assert_eq!(of(&wrapped).reason, reason, "behind a context: {shown}");
        }
    }

    #[test]
    fn a_store_that_cannot_be_used_says_why_in_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("occupied");
        std::fs::write(&file, "a file, not a folder").unwrap();
        let open = crate::archive::store::Store::open(&crate::archive::store::StoreConfig::Fs { root: file });
        let error = anyhow::Error::from(open.unwrap_err());
        assert_eq!(of(&error).reason, Reason::StoreUnfit, "{error:?}");
        assert_eq!(of(&error).reason.exit(), Exit::Unreachable);
    }

    #[test]
    fn every_reason_is_documented() {
        let page = include_str!("../../docs/metrics.md");
        for (reason, meaning) in Reason::ALL {
            let row = format!("| `{}` | {meaning} |", reason.word());
            assert!(page.contains(&row), "docs/metrics.md lacks the row {row}");
        }
    }
}
