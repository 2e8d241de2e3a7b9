//! MariaDB with `log_slave_updates = OFF`: what the archive cannot know to be there or not, in words.

use super::history::filled;
use crate::archive::catalog::FullHead;
use crate::model::GtidSet;
use crate::model::gtid::MariadbGtidSet;

/// What may be missing, without a trace in any archived log, from `full` taken forward by `taken` (server and transactions of each file, in
/// order): numbers that were passed over, unless the server that did is known to log what it replicates; and what a replica that logs nothing
/// of that executed after the full.
pub fn unlogged(fulls: &[FullHead], full: &FullHead, taken: &[(&str, &GtidSet)]) -> Vec<String> {
    let GtidSet::Mariadb(base) = &full.gtids else { return Vec::new() };
    let mut all = base.clone();
    let mut sets = Vec::new();
    for (server, set) in taken {
        if let GtidSet::Mariadb(set) = set {
            all.extend(set);
            sets.push((*server, set));
        }
    }
    let mut notes = Vec::new();
    let GtidSet::Mariadb(passed) = filled(&GtidSet::Mariadb(all.clone())).difference(&GtidSet::Mariadb(all)) else {
        return notes;
    };
    for domain in passed.domains() {
        for (first, last) in passed.numbers(domain).ranges() {
            let above = last.saturating_add(1);
            let Some((server, _)) = sets.iter().find(|(_, set)| set.contains_number(domain, above)) else { continue };
            let logs = log_slave_updates(fulls, server);
            if logs == Some(true) {
                continue;
            }
            let why = match logs {
                None => "of which no full says whether it logs what it replicates",
                Some(_) => "which ran with log_slave_updates = OFF",
            };
            notes.push(format!(
                "no archived log has {domain}-?-{first}..{last}, which the log of server {server} passes over: either nobody used these numbers, \
                 or {server}, {why}, replicated them from a server that was not archived, and what they did is missing"
            ));
        }
    }
    let own = |set: &MariadbGtidSet, domain: u32| {
        set.writers().any(|(of, by, _)| of == domain && full.server == format!("mariadb-{by}"))
    };
    let replicated = base.domains().filter_map(|domain| base.last(domain)).find(|last| {
        full.server != format!("mariadb-{}", last.server) && !sets.iter().any(|(_, set)| own(set, last.domain))
    });
    if let (Some(last), Some(false)) = (replicated, full.log_slave_updates) {
        notes.push(format!(
            "full {} was taken of server {}, which had replicated up to {last} and logs nothing of that (log_slave_updates = OFF): of what it \
             replicated afterwards the archive has only what was archived of the servers that wrote it",
            full.id, full.server
        ));
    }
    notes
}

/// What the fulls of a server say: that it did not log what it replicated if any does, that it did if all do.
fn log_slave_updates(fulls: &[FullHead], server: &str) -> Option<bool> {
    let said: Vec<Option<bool>> =
        fulls.iter().filter(|full| full.server == server).map(|full| full.log_slave_updates).collect();
    let all = !said.is_empty() && said.iter().all(|said| *said == Some(true));
    if said.contains(&Some(false)) { Some(false) } else { all.then_some(true) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{full, maria};
    use super::*;

    fn notes(full: &FullHead, log_slave_updates: &[Option<bool>], taken: &[(&str, &str)]) -> Vec<String> {
        let say = |said: &Option<bool>| FullHead { log_slave_updates: *said, ..full.clone() };
        let fulls: Vec<FullHead> = log_slave_updates.iter().map(say).collect();
        let sets: Vec<(&str, GtidSet)> = taken.iter().map(|(server, set)| (*server, maria(set))).collect();
        let taken: Vec<(&str, &GtidSet)> = sets.iter().map(|(server, set)| (*server, set)).collect();
        unlogged(&fulls, fulls.last().unwrap_or(full), &taken)
    }

    #[test]
    fn numbers_that_a_log_passes_over_are_told_unless_its_server_is_known_to_log_what_it_replicates() {
        let base = full("mariadb-1", 10, maria("0-1-3,7-1-4"));
        let passed = [("mariadb-1", "0-1-4..5,0-1-10..12,7-1-5")];
        for (said, expected) in [
            (&[Some(false)][..], Some("0-?-6..9, which the log of server mariadb-1 passes over")),
            (&[Some(false), Some(true)], Some("log_slave_updates = OFF")),
            (&[None, Some(true)], Some("no full says")),
            (&[None], Some("no full says")),
            (&[Some(true), Some(true)], None),
        ] {
            let told = notes(&base, said, &passed);
            assert_eq!(told.len(), usize::from(expected.is_some()), "{said:?}: {told:?}");
            assert!(expected.is_none_or(|expected| told[0].contains(expected)), "{said:?}: {told:?}");
        }
        // Of a server that no full was taken of nothing is known; and where no number is left out, nothing is missing.
        let from_another = [("mariadb-1", "0-1-4..5"), ("mariadb-2", "0-2-9..12")];
        assert!(notes(&base, &[Some(true)], &from_another)[0].contains("server mariadb-2 passes over"));
        let whole = [("mariadb-1", "0-1-4..9"), ("mariadb-2", "0-2-10..12")];
        assert_eq!(notes(&base, &[Some(false)], &whole), Vec::<String>::new());
    }

    #[test]
    fn a_full_of_a_replica_that_logs_nothing_of_what_it_replicates_says_so() {
        let replica = full("mariadb-2", 10, maria("0-1-100"));
        for (said, taken, told) in [
            (Some(false), vec![], true),
            (Some(false), vec![("mariadb-1", "0-1-101..110")], true),
            // It was promoted: from there on its log has everything.
            (Some(false), vec![("mariadb-2", "0-2-101..110")], false),
            (Some(true), vec![], false),
            (None, vec![], false),
        ] {
            let notes = notes(&replica, &[said], &taken);
            assert_eq!(notes.iter().any(|note| note.contains("had replicated up to 0-1-100")), told, "{notes:?}");
        }
        let lone = full("mariadb-1", 10, maria("0-1-100"));
        assert_eq!(notes(&lone, &[Some(false)], &[]), Vec::<String>::new(), "OFF is the default");
    }
}
