//! Holds the source's purging back while something is not archived, and gives back what was there before.

use std::time::Duration;

use serde::Serialize;
use snafu::ResultExt;
use tokio::time::Instant;

use super::outlook::needed;
use crate::binlog::error::SourceSnafu;
use crate::binlog::{Error, files};
use crate::model::BinlogPosition;
use crate::mysql::flavor::ServerVersion;
use crate::mysql::flavor::purge::{PurgeHold, VARIABLES};
use crate::mysql::wire::Connection;

/// Whether the source's purging is held back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Hold {
    /// Not asked for, or nothing is to be held.
    #[default]
    Off,
    /// By this stream.
    Held,
    /// By somebody who was killed, or by another stream: this one was not asked to. The statement gives back what was there before.
    Left(String),
    /// It cannot be held, or not be given back: why.
    Failed(String),
}

/// Holds.
#[derive(Debug, Default)]
pub(super) struct Holder {
    /// Whether it is asked for.
    pub asked: bool,
    /// Since when this process has held it.
    since: Option<Instant>,
    /// Somebody else has changed it since: it is theirs until everything is archived.
    theirs: bool,
    /// The file that was needed at the last look, and was over.
    waiting: Option<String>,
}

impl Holder {
    /// `asked`: whether to hold.
    pub fn new(asked: bool) -> Self {
        Self { asked, ..Self::default() }
    }

    /// Whether what is not archived is to be held; none: as it is. A file that is over, and was so at the last look, waits for too long; one
    /// that is written is not purged, but with a `failing` store it may be over, and gone, before the next look.
    fn wanted(&mut self, failing: bool, files: &[(String, u64)], archived_to: &BinlogPosition) -> Option<bool> {
        let place = needed(files, archived_to);
        let over = place.filter(|place| place + 1 < files.len());
        let over = over.and_then(|place| files.get(place)).map(|(name, _)| name.clone());
        let waits = over.is_some() && self.waiting == over;
        let nothing = over.is_none();
        self.waiting = over;
        match (failing || waits, nothing) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }

    /// Does what is to be done now; `found` is what the source says.
    pub async fn look(
        &mut self,
        connection: &mut Connection,
        found: PurgeHold,
        failing: bool,
        files: &[(String, u64)],
        archived_to: &BinlogPosition,
    ) -> Result<Hold, Error> {
        let wanted = self.wanted(failing, files, archived_to);
        if !self.asked {
            return Ok(match found {
                PurgeHold::Held { give_back, .. } => Hold::Left(give_back),
                _ => Hold::Off,
            });
        }
        if wanted == Some(false) {
            self.theirs = false;
        }
        match found {
            PurgeHold::Held { give_back, .. } if wanted == Some(false) => {
                tracing::info!("all but the newest file is archived: {give_back}");
                self.since = None;
                Ok(run(connection, &give_back, "give back what held the source's purging")
                    .await
                    .err()
                    .unwrap_or_default())
            }
            PurgeHold::Held { .. } => {
                self.since.get_or_insert_with(Instant::now);
                Ok(Hold::Held)
            }
            PurgeHold::Free { variable, hold } => {
                if let Some(since) = self.since.take() {
                    self.theirs = !restarted_since(connection, since).await?;
                    if self.theirs {
                        tracing::warn!(
                            variable,
                            "somebody changed what held the source's purging back: it is left as they want it until all is archived"
                        );
                    }
                }
                if self.theirs {
                    let why = format!("somebody has changed {variable} since: it is left alone until all is archived");
                    return Ok(Hold::Failed(why));
                }
                if wanted != Some(true) {
                    return Ok(Hold::Off);
                }
                tracing::warn!("holding the source's purging back: {hold}");
                if let Err(failed) = run(connection, &hold, "hold the source's purging back").await {
                    return Ok(failed);
                }
                match read(connection).await? {
                    PurgeHold::Held { .. } => {
                        self.since = Some(Instant::now());
                        Ok(Hold::Held)
                    }
                    _ => Ok(Hold::Failed(format!("the source took another value than it was given: {hold}"))),
                }
            }
            PurgeHold::Needless => {
                self.since = None;
                Ok(Hold::Off)
            }
            PurgeHold::Impossible(why) => Ok(Hold::Failed(why.to_owned())),
        }
    }
}

/// Gives back what was there before, unless it is somebody else's by now.
pub(super) async fn release(connection: &mut Connection) -> Result<(), Error> {
    let PurgeHold::Held { give_back, .. } = read(connection).await? else { return Ok(()) };
    tracing::info!("the stream ends: {give_back}");
    let doing = "give back what held the source's purging";
    connection.exec(&give_back).await.map(drop).context(SourceSnafu { doing })
}

/// Tries whether the account may hold the source's purging, by a change that is none.
pub(in crate::binlog) async fn check(connection: &mut Connection, user: &str) -> Result<(), Error> {
    let variable = match read(connection).await? {
        PurgeHold::Needless => return Ok(()),
        PurgeHold::Impossible(why) => {
            return Err(Error::Unfit { problems: vec![format!("its purging cannot be held back: {why}")] });
        }
        PurgeHold::Free { variable, .. } | PurgeHold::Held { variable, .. } => variable,
    };
    let grant = format!("GRANT {} ON *.* TO '{user}'@'…'", PurgeHold::privilege(connection.flavor()));
    let tried = connection.exec(&format!("SET GLOBAL {variable} = @@GLOBAL.{variable}")).await;
    let denied = |e| files::denied(e, "hold the source's purging back (spec.binlog.purgeProtection: Hold)", &grant);
    tried.map(drop).map_err(denied)
}

/// How the source is held back now.
async fn read(connection: &mut Connection) -> Result<PurgeHold, Error> {
    let variables = files::variables(connection, &VARIABLES).await?;
    match ServerVersion::parse(connection.server_version()) {
        Some(version) => Ok(PurgeHold::read(version, &variables)),
        None => {
            let answer = connection.server_version().to_owned();
            Err(Error::Answer { question: "what version it is", answer })
        }
    }
}

/// A refusal is told, and no reason to look at nothing else.
async fn run(connection: &mut Connection, statement: &str, doing: &str) -> Result<(), Hold> {
    match connection.exec(statement).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let privilege = PurgeHold::privilege(connection.flavor());
            tracing::error!(%error, statement, "cannot {doing}");
            Err(Hold::Failed(format!("cannot {doing}: {error} ({statement}; it takes the privilege {privilege})")))
        }
    }
}

async fn restarted_since(connection: &mut Connection, since: Instant) -> Result<bool, Error> {
    let doing = "read how long the source has been up";
    let rows = connection.query("SHOW GLOBAL STATUS LIKE 'Uptime'").await.context(SourceSnafu { doing })?;
    let up =
        rows.first().and_then(|row| row.get(1)?.as_ref()).and_then(|up| std::str::from_utf8(up).ok()?.parse().ok());
    Ok(up.is_some_and(|up: u64| Duration::from_secs(up) <= since.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_begins_when_a_file_waits_or_the_store_fails_and_ends_when_no_file_waits() {
        let files: Vec<_> = ["b.1", "b.2", "b.3"].map(|name| (name.to_owned(), 100)).to_vec();
        let at = |file: &str, offset| BinlogPosition { file: file.to_owned(), offset };
        let mut holder = Holder::default();
        assert_eq!(holder.wanted(false, &files, &at("b.3", 4)), Some(false));
        assert_eq!(holder.wanted(true, &files, &at("b.3", 4)), Some(true), "it may be over soon");
        // Files that come and go are on their way; one that stays is not.
        assert_eq!(holder.wanted(false, &files, &at("b.1", 4)), None);
        assert_eq!(holder.wanted(false, &files, &at("b.2", 4)), None);
        assert_eq!(holder.wanted(false, &files, &at("b.2", 50)), Some(true));
        assert_eq!(holder.wanted(false, &files, &at("b.2", 100)), Some(false), "archived to its end");
        // What is gone can be held no more.
        assert_eq!(holder.wanted(false, &files, &at("b.0", 4)), Some(false));
    }
}
