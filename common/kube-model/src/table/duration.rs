//! Times as people read them: `apimachinery/pkg/util/duration` and what the printers put in place of a missing time.

use jiff::{SignedDuration, Timestamp};

/// What stands for a time that is not known.
pub(super) const UNKNOWN: &str = "<unknown>";

/// How long ago a time in RFC 3339 was; an empty one, or one that cannot be read, is not known.
pub(super) fn since(time: &str, now: Timestamp) -> String {
    time.parse::<Timestamp>().map_or_else(|_| UNKNOWN.to_owned(), |time| human(now.duration_since(time)))
}

/// A duration with at most two units, the coarser the longer it is.
pub(super) fn human(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    // Clocks of two machines may differ by a second.
    if seconds < -1 {
        return "<invalid>".into();
    }
    let (seconds, minutes, hours) = (seconds.max(0), seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |big: i64, unit: &str, small: i64, rest: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{rest}"),
    };
    if seconds < 120 {
        format!("{seconds}s")
    } else if minutes < 10 {
        two(minutes, "m", seconds % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two(days, "d", hours % 24, "h")
    } else if years < 2 {
        format!("{days}d")
    } else if years < 8 {
        two(years, "y", days % 365, "d")
    } else {
        format!("{years}y")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_coarse_as_they_are_long() {
        let day = 24 * 3600;
        for (seconds, shown) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (180 * 60, "3h"),
            (3 * 3600 + 300, "3h5m"),
            (47 * 3600, "47h"),
            (2 * day, "2d"),
            (2 * day + 3600, "2d1h"),
            (8 * day + 3600, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (731 * day, "2y1d"),
            (9 * 365 * day, "9y"),
        ] {
            assert_eq!(human(SignedDuration::from_secs(seconds)), shown, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_time_is_not_known() {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(since("2026-01-01T00:00:00Z", now), "60s");
        assert_eq!(since("2026-01-01T00:00:00.000000Z", now), "60s");
        assert_eq!(since("", now), UNKNOWN);
    }
}
