//! Keeps DDL waiting during a whole full, while writes go on.
//!
//! A full that DDL has ended before is taken under it. On MariaDB it is raised first of all. On MySQL it must be raised under the global read
//! lock: DDL that waits for it holds what the global read lock waits for.

use super::config::LogicalConfig;
use super::error::LogicalError;
use super::session::Session;
use crate::model::Flavor;
use crate::mysql::endpoint::Endpoint;

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

    /// Lets DDL go on.
    pub(super) async fn lower(self) {
        // The server lets go of it with the connection, however that ends.
        self.0.connection.close().await;
    }
}
