//! Keeps DDL waiting during a whole full, while writes go on.
//!
//! A full that DDL has ended before is taken under it. On MariaDB it is raised first of all. On MySQL it must be raised under the global read
//! lock: DDL that waits for it holds what the global read lock waits for.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::LogicalConfig;
use super::error::LogicalError;
use super::session::Session;
use crate::model::Flavor;
use crate::mysql::endpoint::Endpoint;
use crate::mysql::wire;

/// How often the connection is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// DDL waits as long as this lives. (Accounts may change on MariaDB.)
pub(super) struct Shield(Session);

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
        fail::fail_point!("backup::logical::shielded");
        Ok(Some(Self(session)))
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
            let answer = timeout(PATIENCE, self.0.connection.exec("DO 1")).await;
            let answer = answer.unwrap_or(Err(wire::Error::Silent { after: PATIENCE }));
            answer.map_err(|source| LogicalError::ShieldLost { source: Box::new(source) })?;
        }
        self.0.connection.close().await;
        Ok(())
    }
}
