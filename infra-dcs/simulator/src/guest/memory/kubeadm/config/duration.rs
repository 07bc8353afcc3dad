//! Durations as Go writes and reads them: `8760h0m0s`, `1m30s`, `500ms`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Reads a duration; none when Go would not.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, 0.0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += value * unit;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

/// Writes a duration of whole seconds or milliseconds.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, duration.subsec_millis()) {
        (0, 0, millis) if millis > 0 && rest == 0 => format!("{millis}ms"),
        (0, 0, 0) => format!("{rest}s"),
        (0, _, 0) => format!("{minutes}m{rest}s"),
        (_, _, 0) => format!("{hours}h{minutes}m{rest}s"),
        (0, 0, millis) => format!("{rest}.{millis:03}s"),
        (0, _, millis) => format!("{minutes}m{rest}.{millis:03}s"),
        (_, _, millis) => format!("{hours}h{minutes}m{rest}.{millis:03}s"),
    }
}

/// For `#[serde(with)]` on an optional field.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    /// See the module.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_str(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// See the module.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        super::parse(&text).map(Some).ok_or_else(|| D::Error::custom(format!("time: invalid duration {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, seconds) in [("8760h0m0s", 31_536_000), ("1m30s", 90), ("4m0s", 240), ("0s", 0)] {
            let duration = Duration::from_secs(seconds);
            assert_eq!((parse(text), format(duration)), (Some(duration), text.to_owned()));
        }
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("1.5h"), Some(Duration::from_secs(5400)));
        for wrong in ["", "5", "1d", "h", "-1s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
