//! Keeps DDL waiting during a whole full, while writes go on.
//!
//! A full that DDL has ended before is taken under it. On MariaDB it is raised first of all. On MySQL it must be raised under the global read
//! lock: DDL that waits for it holds what the global read lock waits for.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::LogicalConfig;
use super::error::LogicalError;
use super::look::Look;
use super::session::{Session, number, text};
use crate::model::Flavor;
use crate::mysql::endpoint::Endpoint;
use crate::mysql::wire;

/// How often the connection is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// MariaDB: the statements that wait for nothing that this holds, by number.
const AT_WORK: &str =
    "SELECT QUERY_ID FROM information_schema.PROCESSLIST WHERE INFO IS NOT NULL AND STATE <> 'Waiting for backup lock'";
/// MariaDB: the statements that wait for it or for a table: number, whether for it, and seconds.
const WAITING: &str = "SELECT QUERY_ID, STATE = 'Waiting for backup lock', TIME FROM information_schema.PROCESSLIST \
    WHERE STATE IN ('Waiting for backup lock', 'Waiting for table metadata lock')";
/// How long others may wait for a table whose ALTER waits for this.
const STUCK_S: u64 = 5;

/// How often it is raised in a row where it meets an ALTER midway.
const RAISES: u32 = 20;
/// How long the first look under it waits for a lock in seconds.
const LOOK_WAIT_S: u64 = 1;

/// Whether DDL is to be kept waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    No,
    Yes,
    /// The account may not.
    Denied,
}

impl Wanted {
    pub(super) async fn raise(
        &mut self,
        source: &Endpoint,
        config: &LogicalConfig,
    ) -> Result<Option<Shield>, LogicalError> {
        if *self != Self::Yes {
            return Ok(None);
        }
        let raised = Shield::raise(source, config).await?;
        if raised.is_none() {
            *self = Self::Denied;
        }
        Ok(raised)
    }

    /// Raises it and looks at what there is. MariaDB lets an ALTER that has begun keep its table locked until this is lowered, so nobody can
    /// read that table meanwhile: then it is lowered for a moment.
    pub(super) async fn raise_and_look(
        &mut self,
        source: &Endpoint,
        config: &LogicalConfig,
        session: &mut Session,
    ) -> Result<(Option<Shield>, Look), LogicalError> {
        for _ in 1..RAISES {
            let Some(shield) = self.raise(source, config).await? else { break };
            session.wait_for_locks(LOOK_WAIT_S).await?;
            let look = Look::read(session).await;
            session.wait_for_locks(config.lock_wait.as_secs()).await?;
            match look {
                Err(e) if e.is_definition_change() => {
                    tracing::debug!(error = %e, "DDL stands still midway; letting it end first");
                    shield.lower().await?;
                }
                look => return Ok((Some(shield), look?)),
            }
        }
        Ok((self.raise(source, config).await?, Look::read(session).await?))
    }
}

/// DDL waits as long as this lives. (Accounts may change on MariaDB.)
pub(super) struct Shield {
    session: Session,
    /// MariaDB: the statements that were at work when it was raised, by number. An ALTER among them goes on, takes its table for itself when
    /// it is done, and only then waits.
    at_work: BTreeSet<u64>,
}

impl Shield {
    /// None where the account may not.
    pub(super) async fn raise(endpoint: &Endpoint, config: &LogicalConfig) -> Result<Option<Self>, LogicalError> {
        let mut session = Session::open(endpoint, config.lock_wait).await?;
        let statements: &[&str] = match session.flavor {
            Flavor::Mysql => &["LOCK INSTANCE FOR BACKUP"],
            Flavor::Mariadb => &["BACKUP STAGE START", "BACKUP STAGE FLUSH", "BACKUP STAGE BLOCK_DDL"],
        };
        for sql in statements {
            match session.exec(sql).await {
                Err(LogicalError::Sql { source, doing }) => match source.server_error().map(|e| e.code) {
                    Some(1044 | 1045 | 1142 | 1227) => {
                        tracing::warn!(error = %source, "the account may not keep DDL waiting during the backup");
                        return Ok(None);
                    }
                    // DDL that has begun and does not end.
                    Some(1205 | 1213) => {
                        return Err(LogicalError::Changed {
                            what: "a definition (a long DDL is under way)".to_owned(),
                        });
                    }
                    _ => return Err(LogicalError::Sql { source, doing }),
                },
                other => drop(other?),
            }
        }
        let at_work = match session.flavor {
            Flavor::Mysql => BTreeSet::new(),
            Flavor::Mariadb => session.query(AT_WORK).await?.iter().map(|row| number(row, 0)).collect(),
        };
        fail::fail_point!("backup::logical::shielded");
        Ok(Some(Self { session, at_work }))
    }

    /// MariaDB: lets DDL go on.
    async fn lower(mut self) -> Result<(), LogicalError> {
        self.session.exec("BACKUP STAGE END").await?;
        self.session.connection.close().await;
        Ok(())
    }

    /// Does `work` while DDL waits, and lets it go on afterwards. Fails as soon as DDL may have gone on before.
    pub(super) async fn over<T>(self, work: impl Future<Output = Result<T, LogicalError>>) -> Result<T, LogicalError> {
        let done = CancellationToken::new();
        let work = async {
            let outcome = work.await;
            done.cancel();
            outcome
        };
        let (outcome, ()) = futures::future::try_join(work, self.hold(&done)).await?;
        Ok(outcome)
    }

    async fn hold(mut self, done: &CancellationToken) -> Result<(), LogicalError> {
        let mut over = false;
        while !over {
            over = timeout(KEEP_ALIVE, done.cancelled()).await.is_ok();
            // The server lets go of the lock with the connection, so that one which answers has held it until now.
            let stuck = timeout(PATIENCE, self.look()).await;
            let stuck = stuck.unwrap_or(Err(wire::Error::Silent { after: PATIENCE }));
            if stuck.map_err(|source| LogicalError::ShieldLost { source: Box::new(source) })? && !over {
                let what = "a definition (a long ALTER is done but for its end, and others wait for its table)";
                return Err(LogicalError::Changed { what: what.to_owned() });
            }
        }
        self.session.connection.close().await;
        Ok(())
    }

    /// Whether an ALTER that waits for this keeps others from a table.
    async fn look(&mut self) -> Result<bool, wire::Error> {
        if self.session.flavor == Flavor::Mysql {
            return self.session.connection.exec("DO 1").await.map(|_| false);
        }
        let waiting = self.session.connection.query(WAITING).await?;
        let (for_this, for_tables): (Vec<_>, Vec<_>) = waiting.iter().partition(|row| text(row, 1) == "1");
        Ok(for_this.iter().any(|row| self.at_work.contains(&number(row, 0)))
            && for_tables.iter().any(|row| number(row, 2) >= STUCK_S))
    }
}
