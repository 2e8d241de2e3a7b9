//! One server's files as the logs they make up, by their numbers and by what each says came before it.

use super::history::add;
use super::writers;
pub(super) use crate::archive::binlog_index::file_number as number;
use crate::archive::catalog::ArchivedFile;
use crate::model::{Flavor, GtidSet};

/// One server's files as the logs they make up: numbers rise, and each file knows what the one before it began with.
pub(super) fn logs(mut files: Vec<&ArchivedFile>) -> Vec<Vec<&ArchivedFile>> {
    files.sort_by_key(|file| (number(&file.id.name), file.id.created_unix, &file.id.name));
    let mut logs: Vec<Vec<&ArchivedFile>> = Vec::new();
    for file in files {
        let fit = |log: &Vec<&ArchivedFile>| {
            let last = *log.last()?;
            goes_on(last, file).then(|| {
                let mut executed = last.summary.previous_gtids.clone();
                add(&mut executed, &last.summary.gtids);
                let whole = executed.is_subset(&file.summary.previous_gtids);
                let stamps = (last.id.created_unix <= file.id.created_unix, last.id.created_unix);
                (whole, executed.count(), last.end().number, stamps)
            })
        };
        let fits = logs.iter_mut().filter_map(|log| Some((fit(log)?, log)));
        match fits.max_by_key(|(fit, _)| *fit) {
            Some((_, log)) => log.push(file),
            None => logs.push(vec![file]),
        }
    }
    logs
}

fn goes_on(last: &ArchivedFile, next: &ArchivedFile) -> bool {
    if next.id.number() <= last.end().number {
        return false;
    }
    match last.summary.gtids.flavor() {
        Flavor::Mysql => !is_reset(last, next),
        Flavor::Mariadb => !is_reset(last, next) && writers::goes_on(last, next),
    }
}

/// A file that knows less of what came before than the file before it knew: the server forgot, so it was reset.
pub(super) fn is_reset(last: &ArchivedFile, next: &ArchivedFile) -> bool {
    let last = last.end();
    let (before, now) = (last.previous_gtids, &next.summary.previous_gtids);
    if let GtidSet::Mariadb(_) = now {
        // A server that was built anew as a replica knows nothing either, but goes on counting where the others had got to.
        let forgot = writers::stated(next).is_empty();
        return forgot && (last.transactions > 0 || !before.is_empty());
    }
    if !before.is_subset(now) {
        return true;
    }
    // Both began with nothing: either nothing was committed in between, or it was forgotten. Without GTIDs only the number tells.
    let both_began_empty = now.is_empty() && last.transactions > 0;
    both_began_empty && (!last.gtids.is_empty() || next.id.number() <= last.number)
}
