use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Link;

/// The files of a chain, in order. Chains of one log have most of them in common, and share them: else an archive of many fulls would be all of its
/// files times all of its fulls.
#[derive(Clone, Debug, Default)]
pub struct Links {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    links: Arc<Vec<Link>>,
    from: usize,
    to: usize,
}

impl Piece {
    fn links(&self) -> &[Link] {
        self.links.get(self.from..self.to).unwrap_or_default()
    }
}

/// Which of the links that chains share somebody has come by.
#[derive(Debug, Default)]
pub struct Seen(HashMap<*const Vec<Link>, Range<usize>>);

impl Links {
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Link> + Clone {
        self.pieces.iter().flat_map(Piece::links)
    }

    /// Those that `seen` has not come by, and does from then on: what living chains have in common is gone through once.
    pub fn unseen<'a>(&'a self, seen: &mut Seen) -> Vec<&'a Link> {
        let mut unseen = Vec::new();
        for piece in &self.pieces {
            let (from, to) = (piece.from, piece.to);
            let known = seen.0.entry(Arc::as_ptr(&piece.links)).or_insert(from..from);
            let apart = to < known.start || from > known.end;
            let (before, behind) =
                if apart { (from..to, to..to) } else { (from..to.min(known.start), from.max(known.end)..to) };
            unseen.extend([before, behind].into_iter().filter_map(|range| piece.links.get(range)).flatten());
            if !apart {
                *known = known.start.min(from)..known.end.max(to);
            }
        }
        unseen
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.links().len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.last().is_none()
    }

    /// The `index`-th, from 0.
    pub fn get(&self, mut index: usize) -> Option<&Link> {
        for piece in &self.pieces {
            match index.checked_sub(piece.links().len()) {
                Some(rest) => index = rest,
                None => return piece.links().get(index),
            }
        }
        None
    }

    /// The last one.
    pub fn last(&self) -> Option<&Link> {
        self.pieces.iter().rev().find_map(|piece| piece.links().last())
    }

    /// Whether it begins with all of `other`.
    pub fn starts_with(&self, other: &Self) -> bool {
        let mut own = self.iter();
        other.iter().all(|link| own.next() == Some(link))
    }

    pub(super) fn push(&mut self, link: Link) {
        if let Some(Piece { links, from: 0, to }) = self.pieces.last_mut()
            && let Some(own) = Arc::get_mut(links)
        {
            own.push(link);
            *to += 1;
            return;
        }
        self.pieces.push(Piece { links: Arc::new(vec![link]), from: 0, to: 1 });
    }

    pub(super) fn share(&mut self, links: &Arc<Vec<Link>>, from: usize, to: usize) {
        self.pieces.push(Piece { links: links.clone(), from, to });
    }
}

impl PartialEq for Links {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Links {}

impl<'a> IntoIterator for &'a Links {
    type Item = &'a Link;
    type IntoIter = Box<dyn Iterator<Item = &'a Link> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::set;
    use super::*;
    use crate::archive::binlog_index::FileId;

    fn link(number: u32) -> Link {
        let file = FileId { server: "s".into(), name: format!("b.{number}"), created_unix: number };
        Link { file, from: 0, to: 10, take: set(&format!("A:{number}")), last_commit: None }
    }

    #[test]
    fn what_was_seen_is_not_seen_again() {
        let shared = Arc::new((1..10).map(link).collect::<Vec<_>>());
        let of = |from: usize, to: usize| {
            let mut links = Links::default();
            links.push(link(20));
            links.share(&shared, from, to);
            links
        };
        let (chains, mut seen) = ([of(5, 7), of(6, 9), of(3, 9), of(4, 4), of(0, 1), of(0, 9)], Seen::default());
        let unseen: Vec<String> = chains
            .iter()
            .map(|chain| {
                chain
                    .unseen(&mut seen)
                    .iter()
                    .map(|link| link.file.created_unix.to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        assert_eq!(unseen, ["20 6 7", "20 8 9", "20 4 5", "20", "20 1", "20 1 2 3"]);
    }

    #[test]
    fn own_and_shared_links_are_one_list() {
        let shared = Arc::new((1..9).map(link).collect::<Vec<_>>());
        let mut links = Links::default();
        assert!(links.is_empty() && links.get(0).is_none() && links.last().is_none());
        links.push(link(20));
        links.push(link(21));
        links.share(&shared, 3, 3);
        links.share(&shared, 2, 5);
        links.push(link(22));
        let names: Vec<&str> = links.iter().map(|link| link.file.name.as_str()).collect();
        assert_eq!(names, ["b.20", "b.21", "b.3", "b.4", "b.5", "b.22"]);
        assert_eq!((links.len(), links.is_empty()), (6, false));
        for (i, name) in names.iter().enumerate() {
            assert_eq!(links.get(i).unwrap().file.name, *name);
        }
        assert_eq!((links.get(6), links.last()), (None, Some(&link(22))));
        let mut own = Links::default();
        links.iter().for_each(|link| own.push(link.clone()));
        assert!(own == links && links.starts_with(&own));
        own.push(link(23));
        assert!(own != links && own.starts_with(&links) && !links.starts_with(&own));
    }
}
