use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::api::{ConcurrencyPolicy, ScheduleSpec};

/// When something is due again and again.
#[derive(Clone, Debug)]
pub struct Times {
    cron: Cron,
    zone: TimeZone,
}

/// When fulls are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    times: Times,
    /// No full is taken by schedule.
    pub suspend: bool,
    /// How old a missed run may be to be made up for; none: any age.
    pub deadline: Option<Duration>,
    /// What happens when a full is due while one is under way.
    pub concurrency: ConcurrencyPolicy,
    /// Take a full at once when the archive holds none.
    pub immediate: bool,
}

impl Times {
    /// Reads five crontab fields, in a time zone that is known. The error is what is wrong with them.
    pub fn new(cron: &str, zone: TimeZone) -> Result<Self, String> {
        Ok(Self { cron: parse(cron)?, zone })
    }

    /// The first moment after `moment` at which it is due; none when there never is one.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        let moment: Zoned = moment.to_zoned(self.zone.clone());
        self.cron.find_next_occurrence(&moment, false).ok().map(|next| next.timestamp())
    }

    /// The last moment up to `now` at which it was due.
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        let here: Zoned = now.to_zoned(self.zone.clone());
        Some(self.cron.find_previous_occurrence(&here, true).ok()?.timestamp())
    }
}

impl Schedule {
    /// Reads a manifest's schedule. The error is a field and what is wrong with it.
    pub fn new(spec: &ScheduleSpec) -> Result<Self, (&'static str, String)> {
        let cron = parse(&spec.cron).map_err(|message| ("spec.schedule.cron", message))?;
        let zone = TimeZone::get(&spec.time_zone).map_err(|_| {
            let message =
                format!("{:?} is not an IANA time zone: write for example UTC or Europe/Berlin", spec.time_zone);
            ("spec.schedule.timeZone", message)
        })?;
        Ok(Self {
            times: Times { cron, zone },
            suspend: spec.suspend,
            deadline: spec.starting_deadline_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            concurrency: spec.concurrency_policy,
            immediate: spec.immediate,
        })
    }

    /// The first moment after `moment` at which a full is due; none when there never is one.
    pub fn next_after(&self, moment: Timestamp) -> Option<Timestamp> {
        self.times.next_after(moment)
    }

    /// The last run that was due in `(last, now]`, when it is young enough to be made up for.
    ///
    /// `last` is the last moment known to have been served: the start of the newest full.
    pub fn missed(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let due = self.times.last_due(now)?;
        let age = Duration::try_from(now.duration_since(due)).unwrap_or_default();
        (due > last && self.deadline.is_none_or(|deadline| age <= deadline)).then_some(due)
    }
}

fn parse(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).map_err(|error| {
        format!(
            "{text:?} is not a schedule ({error}): write five fields (minute, hour, day of month, month, day of week) such as \
             \"30 2 * * *\" for every day at 02:30"
        )
    })?;
    let probe = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    match cron.find_next_occurrence(&probe, false) {
        Ok(_) => Ok(cron),
        Err(_) => Err(format!("{text:?} is never due: no such day exists")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule::new(&serde_yaml::from_str(&format!("{{cron: '{cron}', timeZone: {zone}}}")).unwrap()).unwrap()
    }

    /// The next `count` times due, in the schedule's own zone.
    fn next(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = schedule(cron, zone);
        let mut moment: Timestamp = from.parse().unwrap();
        (0..count)
            .map(|_| {
                moment = schedule.next_after(moment).unwrap();
                moment.to_zoned(schedule.times.zone.clone()).strftime("%a %F %H:%M%:z").to_string()
            })
            .collect()
    }

    #[test]
    fn weekdays_are_numbered_as_unix_does() {
        // 2026-11-21 is a Saturday.
        for (day, expected) in [
            ("0", "Sun 2026-11-22"),
            ("1", "Mon 2026-11-23"),
            ("2", "Tue 2026-11-24"),
            ("3", "Wed 2026-11-25"),
            ("4", "Thu 2026-11-26"),
            ("5", "Fri 2026-11-27"),
            ("6", "Sat 2026-11-21"),
            ("7", "Sun 2026-11-22"),
            ("SUN", "Sun 2026-11-22"),
            ("MON", "Mon 2026-11-23"),
            ("sat", "Sat 2026-11-21"),
            ("1-5", "Mon 2026-11-23"),
            ("5-7", "Sat 2026-11-21"),
        ] {
            let due = next(&format!("30 2 * * {day}"), "UTC", "2026-11-21T00:00:00Z", 1);
            assert_eq!(due, [format!("{expected} 02:30+00:00")], "day {day}");
        }
    }

    #[test]
    fn day_of_month_and_day_of_week_together_mean_either_as_in_crontab() {
        let due = next("0 0 13 * 5", "UTC", "2026-11-01T00:00:00Z", 3);
        assert_eq!(due, ["Fri 2026-11-06 00:00+00:00", "Fri 2026-11-13 00:00+00:00", "Fri 2026-11-20 00:00+00:00"]);
    }

    #[test]
    fn a_time_skipped_by_the_clock_runs_once_and_a_time_shown_twice_runs_once() {
        // Europe/Berlin: 02:00 to 03:00 does not exist on 2026-03-29 and exists twice on 2026-10-25.
        let spring = next("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(spring.len(), 2);
        assert!(spring[0].starts_with("Sun 2026-03-29 03:"), "{spring:?}");
        assert_eq!(spring[1], "Mon 2026-03-30 02:30+02:00");
        let autumn = next("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["Sun 2026-10-25 02:30+02:00", "Mon 2026-10-26 02:30+01:00"]);
    }

    #[test]
    fn a_missed_run_is_made_up_for_within_the_deadline_only() {
        let mut schedule = schedule("0 3 * * *", "UTC");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (yesterday, now) = (at("2026-11-20T03:00:00Z"), at("2026-11-21T05:00:00Z"));
        assert_eq!(schedule.missed(yesterday, now), Some(at("2026-11-21T03:00:00Z")));
        assert_eq!(schedule.missed(at("2026-11-21T03:00:02Z"), now), None);
        schedule.deadline = Some(Duration::from_secs(3600));
        assert_eq!(schedule.missed(yesterday, now), None);
        assert_eq!(schedule.missed(yesterday, at("2026-11-21T03:59:00Z")), Some(at("2026-11-21T03:00:00Z")));
    }

    #[test]
    fn schedules_that_cannot_be_kept_are_refused() {
        for cron in ["", "* * * *", "0 0 3 * * *", "61 * * * *", "0 0 30 2 *", "0 0 * * 8", "every day"] {
            assert!(parse(cron).is_err(), "{cron:?} was read");
        }
        assert!(parse("@daily").is_ok());
        let spec: ScheduleSpec = serde_yaml::from_str("{cron: '0 3 * * *', timeZone: Europe/Berlim}").unwrap();
        let (field, message) = Schedule::new(&spec).unwrap_err();
        assert_eq!(field, "spec.schedule.timeZone");
        assert!(message.contains("Europe/Berlim"), "{message}");
    }
}
