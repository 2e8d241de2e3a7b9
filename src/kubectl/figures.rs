//! Lengths of time and moments as people read them.

use jiff::{SignedDuration, Timestamp};

/// `4s`, `3m 12s`, `7h 19m`, `2d 14h`.
pub fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs().unsigned_abs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `3m 12s ago`, or `in 3m 12s`.
pub fn distance(moment: Timestamp, now: Timestamp) -> String {
    let length = now.duration_since(moment);
    if length.is_negative() { format!("in {}", span(length)) } else { format!("{} ago", span(length)) }
}

/// The text of a status, and how far from now it is; the text alone if it is no moment.
pub fn moment(text: &str, now: Timestamp) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => format!("{text} ({})", distance(moment, now)),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_and_moments_say_how_far_they_are() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (192, "3m 12s"), (26_340, "7h 19m"), (86_400, "1d 0h"), (223_200, "2d 14h")]
        {
            assert_eq!(span(SignedDuration::from_secs(seconds)), shown);
        }
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        assert_eq!(moment("2026-11-25T11:59:00Z", now), "2026-11-25T11:59:00Z (1m 0s ago)");
        assert_eq!(moment("2026-11-26T01:30:00Z", now), "2026-11-26T01:30:00Z (in 13h 30m)");
        assert_eq!(moment("soon", now), "soon");
    }
}
