//! What a target must be before anything is done to it.

use super::error::RestoreError;
use super::plan::{Coordinates, Plan};
use super::state::SCHEMA;
use crate::model::Flavor;
use crate::mysql::flavor::{ServerVersion, Verb, missing_grants};
use crate::mysql::sql::Session;

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetFacts {
    pub version: Option<ServerVersion>,
    pub version_text: String,
    pub server_id: u32,
    pub gtid_mode: Option<String>,
    pub enforce_gtid_consistency: Option<String>,
    /// User schemas, our own left out.
    pub schemas: Vec<String>,
    /// Whether not even an administrator may write.
    pub super_read_only: bool,
    /// Whether replication is configured.
    pub replicates: bool,
    /// The GRANT that is missing.
    pub missing_grant: Option<String>,
}

impl TargetFacts {
    pub async fn read(session: &mut Session) -> Result<Self, RestoreError> {
        let dialect = session.dialect();
        let info = session.info().clone();
        let schemas: Vec<String> = session
            .rows(&format!(
                "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN \
                 ('mysql', 'sys', 'information_schema', 'performance_schema', '{SCHEMA}') ORDER BY 1"
            ))
            .await?;
        let facts = session.facts().await?;
        Ok(Self {
            version: Some(info.version),
            version_text: info.version_text,
            server_id: info.server_id,
            gtid_mode: session.variable("gtid_mode").await?,
            enforce_gtid_consistency: session.variable("enforce_gtid_consistency").await?,
            schemas,
            super_read_only: session
                .variable("super_read_only")
                .await?
                .is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("ON")),
            replicates: !session.named_rows(dialect.show_replica_status()).await?.is_empty(),
            missing_grant: missing_grants(facts.version, Verb::Restore, &facts.account, &facts.grants),
        })
    }

    /// Everything that stands in the way of `plan`, each with its way out. Pure.
    pub fn problems(&self, plan: &Plan, allow_non_empty: bool) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(version) = self.version {
            if version.flavor != plan.flavor {
                problems.push(format!(
                    "it is {}, the archive is of {}: restore into a {} server",
                    version.flavor, plan.flavor, plan.flavor
                ));
                return problems;
            }
            if let Some(source) = ServerVersion::parse(&plan.server_version) {
                let older = (version.major, version.minor) < (source.major, source.minor);
                if older {
                    problems.push(format!(
                        "its version {} is older than the source's {}: use {}.{} or later",
                        self.version_text, plan.server_version, source.major, source.minor
                    ));
                }
            }
        }
        if self.server_id == 0 {
            problems
                .push("its server_id is 0, so it cannot replicate: start it with --server-id=N, N unique".to_owned());
        }
        let on = |value: &Option<String>| value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case("ON"));
        if plan.flavor == Flavor::Mysql && plan.coordinates == Coordinates::Gtid && !on(&self.gtid_mode) {
            problems.push(
                "its gtid_mode is not ON, and the restore is proved by GTID: start it with --gtid-mode=ON --enforce-gtid-consistency=ON"
                    .to_owned(),
            );
        }
        if !self.schemas.is_empty() && !allow_non_empty {
            let some: Vec<&str> = self.schemas.iter().take(5).map(String::as_str).collect();
            problems.push(format!(
                "it is not empty ({} schemas: {}…): restore into a fresh server",
                self.schemas.len(),
                some.join(", ")
            ));
        }
        if self.super_read_only {
            problems
                .push("its super_read_only is ON, so nobody may write: SET GLOBAL super_read_only = OFF".to_owned());
        }
        if self.replicates {
            problems.push(
                "it is configured as a replica: stop it and run RESET REPLICA ALL, or use a fresh server".to_owned(),
            );
        }
        if let Some(grant) = &self.missing_grant {
            problems.push(format!("the account lacks privileges: {grant}"));
        }
        problems
    }
}
