//! In which file of a history a full's position is.

use super::history::History;
use crate::archive::catalog::{ArchivedFile, FullHead};

impl History<'_> {
    /// The index of the file a full's position is in.
    pub(super) fn position_of(&self, full: &FullHead) -> Option<usize> {
        let position = full.position.as_ref()?;
        (full.server == self.server()).then_some(())?;
        let is_it = |file: &ArchivedFile| match full.position_created_unix {
            Some(created) => file.id.created_unix == created,
            None => {
                let begun = i64::from(file.id.created_unix) <= full.consistent_at.as_second();
                file.summary.previous_gtids.is_subset(&full.gtids) && begun
            }
        };
        self.of_name(&position.file).iter().rev().copied().find(|&i| self.files.get(i).is_some_and(|file| is_it(file)))
    }

    /// The indexes of the files of a name, in order.
    fn of_name(&self, name: &str) -> &[usize] {
        let name_of = |i: &usize| self.files.get(*i).map_or("", |file| file.id.name.as_str());
        let by_name = self.by_name.get_or_init(|| {
            let mut by_name: Vec<usize> = (0..self.files.len()).collect();
            by_name.sort_by_key(name_of);
            by_name
        });
        let from = by_name.partition_point(|i| name_of(i) < name);
        let to = by_name.partition_point(|i| name_of(i) <= name);
        by_name.get(from..to).unwrap_or_default()
    }

    /// Whether the file of a full's position is of this name but another one.
    pub(super) fn has_other_file_of(&self, full: &FullHead) -> bool {
        let (Some(position), Some(_)) = (&full.position, full.position_created_unix) else { return false };
        let of_name = self.of_name(&position.file);
        full.server == self.server() && !of_name.is_empty() && self.position_of(full).is_none()
    }
}
