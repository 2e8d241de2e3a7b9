use jiff::Timestamp;

use super::Schedule;

/// What a schedule asks for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A full, for this reason.
    Now(&'static str),
    /// Nothing before this moment.
    At(Timestamp),
    /// Nothing, ever.
    Never,
}

/// Decides by the schedule alone. `last` is when the newest full began (or one under way did), `started` when this process did.
pub fn due(schedule: Option<&Schedule>, last: Option<Timestamp>, started: Timestamp, now: Timestamp) -> Due {
    let Some(schedule) = schedule.filter(|schedule| !schedule.suspend) else { return Due::Never };
    if last.is_none() && schedule.immediate {
        return Due::Now("the archive holds no full yet");
    }
    let served = last.unwrap_or(started);
    if schedule.missed(served, now).is_some() {
        return Due::Now("due by schedule");
    }
    schedule.next_after(now).map_or(Due::Never, Due::At)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rest: &str) -> Schedule {
        Schedule::new(&serde_yaml::from_str(&format!("{{cron: '0 3 * * *'{rest}}}")).unwrap()).unwrap()
    }

    #[test]
    fn a_full_is_due_at_once_when_there_is_none_when_one_was_missed_and_else_at_its_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (started, now) = (at("2026-11-21T05:00:00Z"), at("2026-11-21T05:10:00Z"));
        let tomorrow = Due::At(at("2026-11-22T03:00:00Z"));
        let plain = schedule("");
        assert_eq!(due(Some(&plain), None, started, now), Due::Now("the archive holds no full yet"));
        assert_eq!(due(Some(&plain), Some(at("2026-11-20T03:00:01Z")), started, now), Due::Now("due by schedule"));
        assert_eq!(due(Some(&plain), Some(at("2026-11-21T03:00:01Z")), started, now), tomorrow);
        let late = schedule(", startingDeadlineSeconds: 600");
        assert_eq!(due(Some(&late), Some(at("2026-11-20T03:00:01Z")), started, now), tomorrow);
        let patient = schedule(", immediate: false");
        assert_eq!(due(Some(&patient), None, started, now), tomorrow);
        assert_eq!(due(Some(&schedule(", suspend: true")), None, started, now), Due::Never);
        assert_eq!(due(None, None, started, now), Due::Never);
    }
}
