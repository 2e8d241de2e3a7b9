//! Figures as people read them in a status.

const BYTE_UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// `1.4GiB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = BYTE_UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    while value >= 1023.95
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" || value >= 99.95 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

/// `210MiB/s`; nothing where no time passed.
pub fn rate(total_bytes: u64, seconds: f64) -> Option<String> {
    (seconds > 0.0).then(|| format!("{}/s", bytes((total_bytes as f64 / seconds) as u64)))
}

/// `0.4s`, `42s`, `3m12s`, `5h7m`.
pub fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{}s", whole / 60, whole % 60),
        _ => format!("{}h{}m", whole / 3600, whole % 3600 / 60),
    }
}

/// `text`, or its beginning and an ellipsis where it is longer than `chars_max`.
pub fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some(_) => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_true() {
        for (number, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1_503_238_554, "1.4GiB"),
            (1_048_575, "1.0MiB"),
            (220_200_960, "210MiB"),
            (u64::MAX, "16384PiB"),
        ] {
            assert_eq!(bytes(number), shown);
        }
        assert_eq!(rate(2_202_009_600, 10.0).unwrap(), "210MiB/s");
        assert_eq!(rate(1, 0.0), None);
        for (seconds, shown) in [
            (0.0, "0.0s"),
            (0.44, "0.4s"),
            (9.96, "10s"),
            (59.6, "1m0s"),
            (192.0, "3m12s"),
            (18_420.0, "5h7m"),
            (f64::NAN, "0.0s"),
            (-1.0, "0.0s"),
        ] {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!((shortened("äöü", 3), shortened("äöüß", 3)), ("äöü".to_owned(), "äö…".to_owned()));
    }
}
