//! Which transactions a replica gets. Pure: decided once a transaction, at the event that begins it.

use snafu::Snafu;

use crate::model::gtid::MariadbGtidSet;
use crate::model::{Gtid, GtidSet};

/// What happens to the events of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are sent.
    Send,
    /// They are left out: the replica has them, or they are not in scope.
    Omit,
    /// An empty transaction of the same GTID is sent instead.
    Empty,
}

/// Why a replica cannot be served.
#[derive(Debug, PartialEq, Eq, Snafu)]
pub enum FilterError {
    /// The replica's last transaction and ours of the same number are by different servers.
    #[snafu(display("the replica executed {theirs}, the archive has {ours} in its place: their histories differ"))]
    Diverged {
        /// The replica's.
        theirs: String,
        /// The archive's.
        ours: String,
    },
}

/// Decides by GTID.
#[derive(Clone, Debug)]
pub struct Filter {
    /// What the replica has, and what was sent.
    have: GtidSet,
    /// MariaDB: where the replica says it is.
    asked: Option<MariadbGtidSet>,
    /// Sent as empty transactions.
    skip: Option<GtidSet>,
}

impl Filter {
    /// A filter for a replica that has `have`.
    pub fn new(have: GtidSet, skip: Option<GtidSet>) -> Self {
        let asked = match &have {
            GtidSet::Mariadb(set) => Some(set.clone()),
            GtidSet::Mysql(_) => None,
        };
        Self { have, asked, skip: skip.filter(|s| !s.is_empty()) }
    }

    /// What the replica has, counting what was sent to it.
    pub fn have(&self) -> &GtidSet {
        &self.have
    }

    /// Decides on the transaction that begins now; only those of `take` are sent, none: every one. (By file: on MariaDB two servers' files
    /// may hold different transactions of the same number.) An anonymous one is sent: it can only be asked for by position.
    pub fn begin(&mut self, gtid: Option<&Gtid>, take: Option<&GtidSet>) -> Result<Verdict, FilterError> {
        let Some(gtid) = gtid else { return Ok(Verdict::Send) };
        // Another server's transaction of the same number that nobody is to get is a fork, and no sign of anything.
        if let (Gtid::Mariadb(ours), Some(asked)) = (gtid, &self.asked)
            && take.is_none_or(|take| take.contains(gtid))
            && let Some(theirs) = asked.last(ours.domain)
            && theirs.seq == ours.seq
            && theirs.server != ours.server
        {
            return DivergedSnafu { theirs: theirs.to_string(), ours: ours.to_string() }.fail();
        }
        if self.has(gtid) || take.is_some_and(|take| !take.contains(gtid)) {
            return Ok(Verdict::Omit);
        }
        // Flavors never differ here: the archive has one, and the replica's set was read as that.
        _ = self.have.insert(gtid);
        let skipped = self.skip.as_ref().is_some_and(|skip| skip.contains(gtid));
        Ok(if skipped { Verdict::Empty } else { Verdict::Send })
    }

    fn has(&self, gtid: &Gtid) -> bool {
        match (&self.have, gtid) {
            // MariaDB: by number, whoever wrote it; within a domain numbers rise.
            (GtidSet::Mariadb(have), Gtid::Mariadb(gtid)) => have.contains_number(gtid.domain, gtid.seq),
            (have, gtid) => have.contains(gtid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Flavor;

    fn set(flavor: Flavor, text: &str) -> GtidSet {
        GtidSet::parse(flavor, text).unwrap()
    }

    fn gtid(text: &str) -> Gtid {
        text.parse().unwrap()
    }

    #[test]
    fn a_replica_gets_each_transaction_in_scope_once() {
        const U: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let of = |numbers: &str| set(Flavor::Mysql, &format!("{U}:{numbers}"));
        let (mut filter, take) = (Filter::new(of("1-5"), Some(of("7"))), of("6-9"));
        let verdicts: Vec<_> = [5, 6, 7, 8, 8, 10]
            .iter()
            .map(|n| filter.begin(Some(&gtid(&format!("{U}:{n}"))), Some(&take)).unwrap())
            .collect();
        use Verdict::{Empty, Omit, Send};
        assert_eq!(verdicts, [Omit, Send, Empty, Send, Omit, Omit]);
        assert_eq!(*filter.have(), of("1-8"));
    }

    #[test]
    fn a_mariadb_replica_of_another_history_is_refused() {
        let mut filter = Filter::new(set(Flavor::Mariadb, "0-2-100"), None);
        assert_eq!(filter.begin(Some(&gtid("0-1-99")), None), Ok(Verdict::Omit));
        assert!(filter.begin(Some(&gtid("0-1-100")), None).is_err());
        assert_eq!(filter.begin(Some(&gtid("0-1-101")), None), Ok(Verdict::Send));
        assert_eq!(filter.begin(Some(&gtid("1-1-7")), None), Ok(Verdict::Send));
    }
}
