use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use snafu::ResultExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::PurgeLook;
use super::hold::{self, Hold, Holder};
use super::outlook::{Risk, Seen, needed, outlook};
use crate::binlog::error::SourceSnafu;
use crate::binlog::preflight::server_name;
use crate::binlog::status::StreamStatus;
use crate::binlog::{Error, files};
use crate::model::{BinlogPosition, CommitTime};
use crate::mysql::endpoint::Endpoint;
use crate::mysql::event::MAGIC;
use crate::mysql::flavor::ServerVersion;
use crate::mysql::flavor::purge::{PurgeHold, PurgeRules, VARIABLES};
use crate::mysql::wire::{self, Connection, DumpRequest};

/// How often the source is looked at; four times within its expiry where that is short.
const LOOK: Duration = Duration::from_secs(10);
/// But not more often than this.
const OFTEN: Duration = Duration::from_secs(1);
/// While its purging is held back: its disk fills.
const HELD: Duration = Duration::from_secs(5);
/// A source that does not answer within this is asked again later.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until the stream has found its place.
const SOON: Duration = Duration::from_millis(500);

/// Looks at the source now and then, over a connection of its own.
pub(in crate::binlog) struct Watch<'a> {
    source: &'a Endpoint,
    /// Of its own: the source ends the dump of a replica that comes again.
    server_id: u32,
    status: &'a StreamStatus,
    connection: Option<Connection>,
    /// When the named file ended.
    ended: Option<(String, CommitTime)>,
    seen: Option<Seen>,
    holder: Holder,
    /// Told when the source has less than the stream has read.
    reset: &'a Notify,
    /// What was logged.
    told: PurgeLook,
}

impl<'a> Watch<'a> {
    /// `hold`: whether it holds what it can. `reset` is told when the source has less than the stream has read.
    pub(in crate::binlog) fn new(
        source: &'a Endpoint,
        server_id: u32,
        status: &'a StreamStatus,
        hold: bool,
        reset: &'a Notify,
    ) -> Self {
        let holder = Holder::new(hold);
        let told = PurgeLook::NotYet;
        Self { source, server_id, status, connection: None, ended: None, seen: None, holder, reset, told }
    }

    /// Looks until the stream is `over`; then what was held is given back.
    pub(in crate::binlog) async fn run(mut self, over: &CancellationToken) {
        while !over.is_cancelled() {
            let before = self.status.read().store_failing;
            let found = match self.holder.asked {
                // A statement that is under way is waited for: what it does must be known when the stream ends.
                true => self.look().await,
                false => match over.run_until_cancelled(self.look()).await {
                    Some(found) => found,
                    None => break,
                },
            };
            self.tell(&found);
            let after = self.seen.as_ref().and_then(|seen| seen.rules.after);
            let pause = match found {
                PurgeLook::NotYet => SOON,
                _ if self.seen.as_ref().is_some_and(|seen| seen.held) => HELD,
                _ => after.map_or(LOOK, |after| (after / 4).clamp(OFTEN, LOOK)),
            };
            self.status.update(|s| s.purge = found);
            let mut changes = self.status.subscribe();
            // A store that begins to fail, or ceases to, is a reason to look at once.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(_) = changes.wait_for(|s| s.store_failing != before) => {}
                () = over.cancelled() => {}
            }
        }
        if self.holder.asked
            && let Err(error) = self.release().await
        {
            tracing::error!(%error, "what held the source's purging back may be left there: the next stream gives it back");
        }
    }

    async fn release(&self) -> Result<(), Error> {
        let releasing = async {
            let connecting = Connection::connect(self.source).await;
            let mut connection = connecting.context(SourceSnafu { doing: "connect to the source" })?;
            hold::release(&mut connection).await?;
            connection.close().await;
            Ok(())
        };
        tokio::time::timeout(PATIENCE, releasing).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn look(&mut self) -> PurgeLook {
        let reading = self.status.read();
        let at = reading.kept_to().cloned();
        let (Some(server), Some(at)) = (reading.server, at) else { return PurgeLook::NotYet };
        let now = || CommitTime::from(Timestamp::now());
        let asked = tokio::time::timeout(PATIENCE, self.ask(&server, at)).await;
        let failure = match asked.unwrap_or_else(|_| Err(silent())) {
            Ok(Some(seen)) => {
                let found = outlook(&seen, now());
                // What was archived meanwhile may have gone by rights.
                let moved = self.status.read().kept_to() != Some(&seen.at);
                if found.risk == Risk::Gone && moved {
                    return PurgeLook::NotYet;
                }
                self.seen = Some(seen);
                return PurgeLook::Seen(found);
            }
            // The stream is about to go there, too.
            Ok(None) => {
                self.seen = None;
                return PurgeLook::NotYet;
            }
            Err(error) => error,
        };
        self.connection = None;
        match &self.seen {
            // A source that we cannot ask purges on.
            Some(seen) => PurgeLook::Seen(outlook(seen, now())),
            None => PurgeLook::Failed(failure.to_string()),
        }
    }

    /// None: it is another server than the stream has read.
    async fn ask(&mut self, server: &str, at: BinlogPosition) -> Result<Option<Seen>, Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connecting = Connection::connect(self.source).await;
                self.connection.insert(connecting.context(SourceSnafu { doing: "connect to the source" })?)
            }
        };
        let mut names = VARIABLES.to_vec();
        names.extend(["server_id", "server_uuid"]);
        let variables: BTreeMap<String, String> = files::variables(connection, &names).await?;
        if server_name(connection.flavor(), &variables) != server {
            return Ok(None);
        }
        let Some(version) = ServerVersion::parse(connection.server_version()) else {
            let answer = connection.server_version().to_owned();
            return Err(Error::Answer { question: "what version it is", answer });
        };
        let rules = PurgeRules::read(version, &variables);
        let read_before = self.status.read().read;
        let files = files::list(connection, &self.source.user).await?;
        let reading = self.status.read();
        // Nothing tells those who wait for the next event that the logs were begun anew.
        if let Some(read) = read_before.filter(|read| reading.connected && !holds(&files, read)) {
            tracing::error!(%read, "the source's logs were reset: it has less than was read; its new ones are read from their beginning");
            self.reset.notify_one();
        }
        let archived_to = reading.archived_to.unwrap_or_else(|| at.clone());
        let found = PurgeHold::read(version, &variables);
        let hold = self.holder.look(connection, found, reading.store_failing, &files, &archived_to).await?;
        let held = matches!(hold, Hold::Held | Hold::Left(_));
        self.status.update(|s| s.hold = hold);
        let looked_at = CommitTime::from(Timestamp::now());
        let next = needed(&files, &at).and_then(|place| files.get(place + 1)).map(|(name, _)| name.clone());
        let ended = match next.filter(|_| rules.after.is_some()) {
            Some(next) => Some(self.begun(next).await?.min(looked_at)),
            None => None,
        };
        Ok(Some(Seen { rules, held, files, at, ended, looked_at }))
    }

    /// When a file was begun, which is when the one before it was changed for the last time.
    async fn begun(&mut self, file: String) -> Result<CommitTime, Error> {
        if let Some((known, begun)) = &self.ended
            && *known == file
        {
            return Ok(*begun);
        }
        let request = DumpRequest {
            start: BinlogPosition { file: file.clone(), offset: MAGIC.len() as u64 },
            server_id: self.server_id,
            replica_uuid: Uuid::new_v4().to_string(),
            heartbeat: LOOK,
            semi_sync: false,
            follow: false,
        };
        let grant = format!("GRANT REPLICATION SLAVE ON *.* TO '{}'@'…'", self.source.user);
        let head = files::head(self.source, &request, &grant).await?;
        let begun = CommitTime(i64::from(head.created_unix) * 1_000_000);
        self.ended = Some((file, begun));
        Ok(begun)
    }

    /// Logs what has changed.
    fn tell(&mut self, found: &PurgeLook) {
        let known = |look: &PurgeLook| look.outlook().map(|outlook| outlook.risk);
        match found {
            PurgeLook::Seen(outlook) if known(&self.told) != Some(outlook.risk) => {
                let was = self.told.outlook().is_some_and(|outlook| outlook.is_risk());
                if outlook.is_risk() {
                    tracing::error!("PURGE RISK: {outlook}");
                } else if was {
                    tracing::info!("the risk of a purge has passed: {outlook}");
                }
            }
            PurgeLook::Failed(why) if !matches!(self.told, PurgeLook::Failed(_)) => {
                tracing::warn!("cannot see what the source would purge: {why}");
            }
            _ => {}
        }
        if *found != PurgeLook::NotYet {
            self.told = found.clone();
        }
    }
}

/// Whether a server that has these files can have sent everything before `read`.
fn holds(files: &[(String, u64)], read: &BinlogPosition) -> bool {
    files.iter().any(|(name, size)| *name == read.file && *size >= read.offset)
}

fn silent() -> Error {
    let source = wire::Error::ConnectionLost {
        doing: "looking at what the source would purge".to_owned(),
        source: std::io::ErrorKind::TimedOut.into(),
    };
    Error::Source { doing: "look at what the source would purge", source }
}
