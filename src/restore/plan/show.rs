//! A plan as people read it (`--dry-run`).

use std::fmt;

use super::{Coordinates, Plan, Request, Target, shown};

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.exclusive && self.target != Target::Latest {
            f.write_str("the last transaction before ")?;
        }
        match &self.target {
            Target::Latest => f.write_str("the end of the archive"),
            Target::Time(time) => time.fmt(f),
            Target::Gtid(set) => write!(f, "GTID {}", shown(set)),
            Target::Position(position) => write!(f, "position {position}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "restore plan ({} {})", self.flavor, self.server_version)?;
        writeln!(
            f,
            "  base      full {} of {}, {} bytes ({} uncompressed)",
            self.base.id, self.base.consistent_at, self.base.bytes, self.base.raw_bytes
        )?;
        match (self.files.first(), self.files.last()) {
            (Some(first), Some(last)) => writeln!(
                f,
                "  replay    {} file(s), {} bytes: {}:{} to {}:{}",
                self.files.len(),
                self.replay_bytes,
                first.file.name,
                first.start,
                last.file.name,
                last.end
            )?,
            _ => writeln!(f, "  replay    nothing")?,
        }
        if let Some(time) = self.restored_to {
            writeln!(f, "  newest    transaction committed {}", time.timestamp())?;
        }
        if self.coordinates == Coordinates::Gtid {
            writeln!(f, "  replayed  {} GTIDs: {}", self.replay_gtids.count(), self.replay_gtids)?;
            if !self.skipped.is_empty() {
                writeln!(f, "  skipped   {}", self.skipped)?;
            }
            writeln!(f, "  result    {}", shown(&self.expected_gtids))?;
        } else if let Some(end) = &self.end {
            writeln!(f, "  result    source position {end}")?;
        }
        writeln!(f, "  estimate  {} s", self.eta_s)?;
        for line in self.explanation.iter().chain(&self.forks) {
            writeln!(f, "  - {line}")?;
        }
        Ok(())
    }
}
