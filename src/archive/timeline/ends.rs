//! Where a server's logs end, from names alone: for whoever only goes on, and so reads few of the files.

use super::history::{add, filled};
use super::logs::number;
use crate::archive::binlog_index::{FileId, FileSummary};
use crate::model::CommitTime;

/// One server's files as runs of rising numbers and stamps. Every log ends where a run ends; a stamp that jumped splits a log into several
/// runs, so [`newest`] compares their ends by what they hold.
pub fn runs(mut files: Vec<FileId>) -> Vec<Vec<FileId>> {
    files.sort_by_cached_key(|file| (number(&file.name), file.created_unix, file.name.clone()));
    let mut runs: Vec<Vec<FileId>> = Vec::new();
    for file in files {
        let goes_on = |last: &FileId| {
            number(&last.name).checked_add(1) == Some(number(&file.name)) && last.created_unix <= file.created_unix
        };
        let fitting = runs.iter_mut().filter(|run| run.last().is_some_and(goes_on));
        match fitting.max_by_key(|run| run.last().map(|last| last.created_unix)) {
            Some(run) => run.push(file),
            None => runs.push(vec![file]),
        }
    }
    runs
}

/// The index of the file that one server wrote last: which has a higher number and knows all that the other ends with; where numbers
/// began anew, which committed last.
pub fn newest<'a>(files: impl IntoIterator<Item = (&'a FileId, &'a FileSummary)>) -> Option<usize> {
    let newer = |best: (usize, (&'a FileId, &'a FileSummary)), next: (usize, (&'a FileId, &'a FileSummary))| {
        let (ours, theirs) = (best.1, next.1);
        match (follows(ours, theirs), follows(theirs, ours)) {
            (true, false) => next,
            (false, true) => best,
            _ if ended(theirs) >= ended(ours) => next,
            _ => best,
        }
    };
    files.into_iter().enumerate().reduce(newer).map(|(index, _)| index)
}

/// Whether `next` goes on with the log that `last` is of. A log begun anew by a reset looks like the beginning of the one before; so unless
/// the one begins exactly where the other ends, the times must not speak against it.
fn follows((last, before): (&FileId, &FileSummary), (next, after): (&FileId, &FileSummary)) -> bool {
    let mut executed = before.previous_gtids.clone();
    if executed.flavor() != after.previous_gtids.flavor() || number(&next.name) <= number(&last.name) {
        return false;
    }
    add(&mut executed, &before.gtids);
    let (executed, previous) = (filled(&executed), filled(&after.previous_gtids));
    // Without GTIDs only the times tell.
    let knows = !executed.is_empty() && executed.is_subset(&previous);
    let adjacent = number(&last.name).checked_add(1) == Some(number(&next.name)) && previous.is_subset(&executed);
    let in_time = before.last_commit.zip(after.last_commit).is_none_or(|(before, after)| before <= after);
    knows && (adjacent || in_time)
}

/// The newest commit; the stamp, which MariaDB lets clients choose, only where nothing was committed.
fn ended((file, summary): (&FileId, &FileSummary)) -> (CommitTime, u64) {
    (summary.last_commit.unwrap_or(file.created()), number(&file.name))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{file, maria, set};
    use super::*;
    use crate::archive::catalog::ArchivedFile;

    const FUTURE: u32 = 4_000_000_000;

    /// The server's newest file, as a stream finds it: from the names, and the summaries of the runs' ends.
    fn found(files: &[ArchivedFile]) -> (String, u32, usize) {
        let ends: Vec<&ArchivedFile> = runs(files.iter().map(|file| file.id.clone()).collect())
            .iter()
            .map(|run| files.iter().find(|file| Some(&file.id) == run.last()).unwrap())
            .collect();
        let newest = ends[newest(ends.iter().map(|file| (&file.id, &file.summary))).unwrap()];
        (newest.id.name.clone(), newest.id.created_unix, ends.len())
    }

    #[test]
    fn the_newest_file_is_found_by_number_and_gtids_whatever_the_stamps_say() {
        for stamp in [FUTURE, 1] {
            for strange in 1..=4_u32 {
                let stamps = (1..=4).map(|number| if number == strange { stamp } else { number * 10 });
                let files: Vec<ArchivedFile> = (1..)
                    .zip(stamps)
                    .map(|(number, created)| {
                        let previous = if number == 1 { String::new() } else { format!("0-1-{}", number * 5 - 5) };
                        // The file with the strange stamp has no transaction (unless it is the first), and so no other time.
                        let own = match number == strange && number > 1 {
                            true => String::new(),
                            false => format!("0-1-{}..{}", number * 5 - 4, number * 5),
                        };
                        let mut file = file("mariadb-1", number, created, maria(&previous), maria(&own));
                        // Stamps in the future count as none.
                        file.summary.last_commit = file.summary.last_commit.filter(|_| created != FUTURE);
                        file
                    })
                    .collect();
                let last = if strange == 4 { stamp } else { 40 };
                let (name, created, ends) = found(&files);
                assert_eq!((name.as_str(), created), ("binlog.000004", last), "{stamp} at {strange}");
                assert!(ends <= 2, "few files are read");
            }
        }
    }

    #[test]
    fn after_a_reset_the_newest_file_is_of_the_log_that_committed_last() {
        let mut files: Vec<ArchivedFile> =
            (3..=7).map(|n| file("A", n, n * 10, set("A:1-9"), set("A:10-12"))).collect();
        files.push(file("A", 1, 100, set(""), set("A:1-2")));
        files.push(file("A", 2, 110, set("A:1-2"), set("A:3")));
        assert_eq!(found(&files), ("binlog.000002".to_owned(), 110, 2));
        // The log of before had got less far than the one of now.
        let files = [
            file("A", 1, 10, set(""), set("A:1-9")),
            file("A", 1, 100, set(""), set("A:1-2")),
            file("A", 2, 110, set("A:1-2"), set("A:3-20")),
        ];
        assert_eq!(found(&files), ("binlog.000002".to_owned(), 110, 2));
        // Without GTIDs only numbers and times tell.
        let files = [
            file("A", 1, 10, set(""), set("")),
            file("A", 2, 20, set(""), set("")),
            file("A", 1, 30, set(""), set("")),
        ];
        assert_eq!(found(&files), ("binlog.000001".to_owned(), 30, 2));
    }
}
