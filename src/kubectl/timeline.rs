//! A policy's windows and fulls on a line of time. Pure.

use jiff::Timestamp;

/// What can be restored at a place of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Nothing,
    /// Every transaction.
    Window,
    /// The same, and it grows.
    Growing,
    /// One moment: that of a full without a stream.
    Moment,
    /// Something here was never archived.
    Gap,
}

impl Cell {
    /// How it is drawn.
    pub fn glyph(self) -> char {
        match self {
            Self::Nothing => '·',
            Self::Window => '━',
            Self::Growing => '▶',
            Self::Moment => '●',
            Self::Gap => '╳',
        }
    }
}

/// A stretch of time any moment of which can be restored.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Its first moment.
    pub from: Timestamp,
    /// Its last one.
    pub to: Timestamp,
    /// Whether something is missing behind it.
    pub gap: bool,
}

/// The line, from the first thing known to now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// A mark for each place that holds a full.
    pub fulls: Vec<bool>,
    /// What can be restored.
    pub cells: Vec<Cell>,
}

/// Draws it `width` places long; nothing where nothing is known. A gap is never hidden, however short it is.
pub fn draw(stretches: &[Stretch], fulls: &[Timestamp], now: Timestamp, width: usize) -> Option<Line> {
    let from = stretches.iter().map(|stretch| stretch.from).chain(fulls.iter().copied()).min()?;
    // A clock ahead of ours must not draw outside of the line.
    let to = stretches.iter().map(|stretch| stretch.to).chain(fulls.iter().copied()).chain([now]).max()?;
    let last = width.checked_sub(1)?;
    let length = to.duration_since(from).as_nanos().max(1);
    let at = |moment: Timestamp| -> usize {
        let passed = moment.duration_since(from).as_nanos().clamp(0, length);
        // To the nearest place: what is archived up to a second ago reaches the end of the line.
        usize::try_from((passed * last as i128 + length / 2) / length).unwrap_or(last).min(last)
    };
    let mut line = Line { from, to, fulls: vec![false; width], cells: vec![Cell::Nothing; width] };
    let mut paint = |from: usize, to: usize, cell: Cell| {
        for place in line.cells.iter_mut().take(to + 1).skip(from) {
            *place = cell;
        }
    };
    for stretch in stretches {
        let (first, end) = (at(stretch.from), at(stretch.to));
        let only_one = stretch.from == stretch.to;
        paint(first, end, if only_one { Cell::Moment } else { Cell::Window });
        if !only_one && !stretch.gap && end == last {
            paint(end, end, Cell::Growing);
        }
    }
    // After the windows, so that none covers a gap.
    for stretch in stretches.iter().filter(|stretch| stretch.gap) {
        let next = stretches.iter().map(|other| other.from).filter(|from| *from >= stretch.to).min();
        let (first, end) = (at(stretch.to), at(next.unwrap_or(to)));
        // The place where the next window begins is that window's, unless the gap has no other.
        paint(first, if next.is_some() && end > first { end - 1 } else { end }, Cell::Gap);
    }
    for full in fulls {
        if let Some(mark) = line.fulls.get_mut(at(*full)) {
            *mark = true;
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(hour: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap()
    }

    fn stretch(from: i64, to: i64, gap: bool) -> Stretch {
        Stretch { from: hour(from), to: hour(to), gap }
    }

    /// One place an hour.
    fn drawn(stretches: &[Stretch], fulls: &[i64], now: i64) -> [String; 2] {
        let fulls: Vec<Timestamp> = fulls.iter().map(|at| hour(*at)).collect();
        let line = draw(stretches, &fulls, hour(now), usize::try_from(now + 1).unwrap()).unwrap();
        let marks = line.fulls.iter().map(|full| if *full { '▼' } else { ' ' }).collect();
        [marks, line.cells.iter().map(|cell| cell.glyph()).collect()]
    }

    #[test]
    fn a_window_that_grows_reaches_now() {
        assert_eq!(drawn(&[stretch(0, 9, false)], &[0, 5], 9), ["▼    ▼    ", "━━━━━━━━━▶"]);
    }

    #[test]
    fn what_is_not_archived_yet_is_not_drawn_as_if_it_were() {
        assert_eq!(drawn(&[stretch(0, 6, false)], &[0], 9), ["▼         ", "━━━━━━━···"]);
    }

    #[test]
    fn a_gap_is_drawn_from_the_end_of_a_window_to_the_next_one_or_to_now() {
        assert_eq!(drawn(&[stretch(0, 3, true), stretch(6, 9, false)], &[0, 6], 9), ["▼     ▼   ", "━━━╳╳╳━━━▶"]);
        assert_eq!(drawn(&[stretch(0, 3, true)], &[0], 9), ["▼         ", "━━━╳╳╳╳╳╳╳"]);
    }

    #[test]
    fn a_gap_shorter_than_a_place_is_not_hidden() {
        let (mut before, after) = (stretch(0, 4, true), stretch(4, 9, false));
        for (seconds, shown) in [(2400, "━━━╳━━━━━▶"), (1, "━━━━╳━━━━▶"), (0, "━━━━╳━━━━▶")]
        {
            before.to = hour(4).checked_sub(jiff::SignedDuration::from_secs(seconds)).unwrap();
            assert_eq!(drawn(&[before, after], &[0, 4], 9)[1], shown, "a gap of {seconds} s");
        }
    }

    #[test]
    fn without_a_stream_only_the_moments_of_fulls_are_there() {
        let moments = [stretch(0, 0, false), stretch(4, 4, false)];
        assert_eq!(drawn(&moments, &[0, 4], 9), ["▼   ▼     ", "●···●·····"]);
    }

    #[test]
    fn nothing_known_is_no_line_and_a_clock_ahead_stays_on_it() {
        assert_eq!(draw(&[], &[], hour(0), 10), None);
        assert_eq!(draw(&[stretch(0, 1, false)], &[], hour(1), 0), None);
        let line = draw(&[stretch(0, 10, false)], &[hour(11)], hour(9), 12).unwrap();
        assert_eq!((line.to, line.fulls[11]), (hour(11), true));
    }
}
