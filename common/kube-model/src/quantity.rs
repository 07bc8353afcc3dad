//! Amounts of resources, such as `500m` or `64Mi` (`apimachinery/pkg/api/resource`).

use serde_json::Value;

/// What decoding says of a text that is no amount.
pub const MALFORMED: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// An amount; none where there is none, or where it cannot be read. Good enough to compare by.
pub fn parse(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => parse_text(text),
        _ => None,
    }
}

fn parse_text(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-.".contains(c)).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 2_f64.powi(10),
        "Mi" => 2_f64.powi(20),
        "Gi" => 2_f64.powi(30),
        "Ti" => 2_f64.powi(40),
        "Pi" => 2_f64.powi(50),
        "Ei" => 2_f64.powi(60),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_with_all_kinds_of_suffixes() {
        for (text, wanted) in
            [("1", 1.0), ("500m", 0.5), ("64Mi", 67_108_864.0), ("1e3", 1e3), ("1E2", 1e2), ("2E", 2e18)]
        {
            assert_eq!(parse(&json!(text)), Some(wanted), "{text}");
        }
        assert_eq!(parse(&json!(2)), Some(2.0));
        for text in ["", "much", "1x", "Mi", "1e"] {
            assert_eq!(parse(&json!(text)), None, "{text}");
        }
    }
}
