//! Types of flags: what values each takes, and what Go says of others.

use std::net::IpAddr;

use crate::guest::memory::kubeadm::config::duration;

/// Suffixes of quantities.
const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Booleans as Go reads them.
const YES: [&str; 6] = ["1", "t", "T", "TRUE", "true", "True"];
const NO: [&str; 6] = ["0", "f", "F", "FALSE", "false", "False"];
/// Effects of taints.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// A number between these two.
    Int(i64, i64),
    /// A number from 0 to this.
    Uint(u64),
    Float,
    Duration,
    /// An address, as the components read it.
    Ip,
    /// An address, as kubelet reads it.
    Address,
    Quantity,
    /// Numbers.
    Ints,
    /// `pattern=N` pairs.
    Patterns,
    /// `key=value` pairs.
    Pairs,
    /// `key<value` pairs.
    Thresholds,
    /// `key:value` pairs.
    Headers,
    /// `key=value` pairs of labels.
    Labels,
    /// `key=bool` pairs.
    Gates,
    /// `key=bool` pairs, each for a component that may be named.
    ComponentGates,
    /// A port or a range of them.
    Ports,
    Taints,
    /// Whatever it is.
    Text,
}

impl Kind {
    pub(super) fn named(name: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "int32" => Self::Int(i32::MIN.into(), i32::MAX.into()),
            "int" => Self::Int(i64::MIN, i64::MAX),
            "uint32" | "level" => Self::Uint(u32::MAX.into()),
            "uint" => Self::Uint(u64::MAX),
            "float" => Self::Float,
            "duration" => Self::Duration,
            "ip" => Self::Ip,
            "address" => Self::Address,
            "quantity" => Self::Quantity,
            "ints" => Self::Ints,
            "pattern" => Self::Patterns,
            "map" => Self::Pairs,
            "thresholds" => Self::Thresholds,
            "headers" => Self::Headers,
            "labels" => Self::Labels,
            "gates" => Self::Gates,
            "componentgates" => Self::ComponentGates,
            "ports" => Self::Ports,
            "taints" => Self::Taints,
            _ => Self::Text,
        }
    }

    /// Whether Go's `flag` reads it by itself, and says of what it cannot read only that.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Self::Bool | Self::Int(..) | Self::Uint(_) | Self::Float | Self::Duration)
    }

    /// Why this is no value; the words are Go's.
    pub(super) fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Bool => boolean(value),
            Self::Int(least, most) => {
                number("ParseInt", value, |number| (i128::from(least)..=i128::from(most)).contains(&number))
            }
            Self::Uint(most) => unsigned(value, most),
            Self::Float => match value.parse::<f64>() {
                Ok(_) => Ok(()),
                Err(_) => Err(syntax("ParseFloat", value)),
            },
            Self::Duration => go_duration(value),
            Self::Ip => is(value.parse::<IpAddr>().is_ok(), || format!("failed to parse IP: {value:?}")),
            Self::Address => is(value.parse::<IpAddr>().is_ok(), || format!("{value:?} is not a valid IP address")),
            Self::Quantity => is(is_quantity(value), || {
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
            }),
            Self::Ints => value.split(',').try_for_each(|one| Self::Int(i32::MIN.into(), i32::MAX.into()).check(one)),
            Self::Patterns => pairs(value, |pair| {
                let level = pair.split_once('=').map(|(_, level)| level);
                is(level.is_some_and(|level| level.parse::<u32>().is_ok()), || {
                    format!("{pair:?} does not have the pattern=N format")
                })
            }),
            Self::Pairs => separated(value, '=', "string=string"),
            Self::Thresholds => separated(value, '<', "string<string"),
            Self::Headers => separated(value, ':', "string:string"),
            Self::Labels => {
                pairs(value, |pair| is(pair.contains('='), || format!("{pair} must be formatted as key=value")))
            }
            Self::Gates => pairs(value, |pair| {
                let (name, on) = pair.split_once('=').ok_or("malformed pair, expect string=bool")?;
                boolean(on.trim()).map_err(|why| format!("invalid value of {}: {on}, err: {why}", name.trim()))
            }),
            Self::ComponentGates => pairs(value, |pair| {
                let gate = pair.split_once(':').map_or(pair, |(_, gate)| gate);
                let (name, on) = gate.split_once('=').ok_or_else(|| format!("missing bool value for {gate}"))?;
                boolean(on).map_err(|why| format!("invalid value of {name}={on}, err: {why}"))
            }),
            Self::Ports => ports(value),
            Self::Taints => pairs(value, taint),
            Self::Text => Ok(()),
        }
    }
}

fn is(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn syntax(function: &str, value: &str) -> String {
    format!("strconv.{function}: parsing {value:?}: invalid syntax")
}

fn boolean(value: &str) -> Result<(), String> {
    is(YES.contains(&value) || NO.contains(&value), || syntax("ParseBool", value))
}

/// A boolean in the form that all have in the end.
pub(super) fn canonical(value: &str) -> &'static str {
    if YES.contains(&value) { "true" } else { "false" }
}

/// A number as Go writes it in its sources; none where it is none, too large where it has too many digits.
fn integer(value: &str) -> Option<i128> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, value.strip_prefix('+').unwrap_or(value)),
    };
    let (radix, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| i128::from_str_radix(digits, radix).map_or(i128::MAX, |number| sign * number))
}

fn number(function: &str, value: &str, fits: impl FnOnce(i128) -> bool) -> Result<(), String> {
    match integer(value) {
        None => Err(syntax(function, value)),
        Some(number) if fits(number) => Ok(()),
        Some(_) => Err(format!("strconv.{function}: parsing {value:?}: value out of range")),
    }
}

fn unsigned(value: &str, most: u64) -> Result<(), String> {
    if value.starts_with(['-', '+']) {
        return Err(syntax("ParseUint", value));
    }
    number("ParseUint", value, |number| number <= i128::from(most))
}

fn go_duration(value: &str) -> Result<(), String> {
    let bare = value.strip_prefix(['-', '+']).unwrap_or(value);
    if duration::parse(bare).is_some() {
        return Ok(());
    }
    let unit = bare.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let unit = unit.split(|c: char| c.is_ascii_digit() || c == '.').next().unwrap_or_default();
    Err(match (bare.starts_with(|c: char| c.is_ascii_digit()), unit) {
        (false, _) => format!("time: invalid duration {value:?}"),
        (true, "") => format!("time: missing unit in duration {value:?}"),
        (true, unit) => format!("time: unknown unit {unit:?} in duration {value:?}"),
    })
}

fn is_quantity(value: &str) -> bool {
    let bare = value.strip_prefix(['-', '+']).unwrap_or(value);
    let digits = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
    let (number, suffix) = bare.split_at(digits);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i32>().is_ok());
    number.parse::<f64>().is_ok() && (SUFFIXES.contains(&suffix) || exponent)
}

fn pairs(value: &str, check: impl Fn(&str) -> Result<(), String>) -> Result<(), String> {
    value.split(',').map(str::trim).filter(|pair| !pair.is_empty()).try_for_each(check)
}

fn separated(value: &str, separator: char, form: &str) -> Result<(), String> {
    pairs(value, |pair| is(pair.contains(separator), || format!("malformed pair, expect {form}")))
}

fn ports(value: &str) -> Result<(), String> {
    let ends: Vec<&str> = match (value.split_once('+'), value.split_once('-')) {
        (Some((base, size)), _) => vec![base, size],
        (None, Some((first, last))) => vec![first, last],
        (None, None) => vec![value],
    };
    for end in ends.iter().map(|end| end.trim()) {
        end.parse::<u16>().map_err(|_| syntax("Atoi", end))?;
    }
    Ok(())
}

fn taint(text: &str) -> Result<(), String> {
    let (key, effect) = text.rsplit_once(':').ok_or_else(|| format!("invalid taint spec: {text}"))?;
    is(EFFECTS.contains(&effect), || format!("invalid taint effect: {effect}, unsupported taint effect"))?;
    is(!key.is_empty() && !key.starts_with('='), || format!("invalid taint spec: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(kind: &str, value: &str) -> String {
        Kind::named(kind).check(value).err().unwrap_or_default()
    }

    #[test]
    fn what_fits_is_taken() {
        for (kind, values) in [
            ("bool", &["1", "TRUE", "f"][..]),
            ("int32", &["-1", "0x10", "2147483647"]),
            ("uint", &["0", "18446744073709551615"]),
            ("float", &["0.1", "1e3"]),
            ("duration", &["0", "1h30m", "-5s", "1.5s"]),
            ("ip", &["::", "127.0.0.1"]),
            ("quantity", &["0", "64Ki", "1.5G", "1e3"]),
            ("ints", &["1,2"]),
            ("pattern", &["", "a=1,b*=2"]),
            ("map", &["", "a=b,c="]),
            ("thresholds", &["memory.available<100Mi,nodefs.available<10%"]),
            ("gates", &["A=true,B=false"]),
            ("componentgates", &["A=true,kube:B=false"]),
            ("ports", &["30000-32767", "30000+100", "80"]),
            ("taints", &["", "a:NoSchedule,b=c:NoExecute"]),
            ("string", &["", "anything"]),
        ] {
            for value in values {
                assert_eq!(Kind::named(kind).check(value), Ok(()), "{kind}: {value}");
            }
        }
    }

    #[test]
    fn what_does_not_is_refused_as_go_refuses_it() {
        for (kind, value, expected) in [
            ("bool", "maybe", "strconv.ParseBool: parsing \"maybe\": invalid syntax"),
            ("bool", "", "strconv.ParseBool: parsing \"\": invalid syntax"),
            ("int", "1.5", "strconv.ParseInt: parsing \"1.5\": invalid syntax"),
            ("int32", "2147483648", "strconv.ParseInt: parsing \"2147483648\": value out of range"),
            ("int32", "08", "strconv.ParseInt: parsing \"08\": invalid syntax"),
            ("level", "-1", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("level", "99999999999", "strconv.ParseUint: parsing \"99999999999\": value out of range"),
            ("float", "x", "strconv.ParseFloat: parsing \"x\": invalid syntax"),
            ("duration", "1", "time: missing unit in duration \"1\""),
            ("duration", "1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("duration", "x", "time: invalid duration \"x\""),
            ("ip", "x", "failed to parse IP: \"x\""),
            ("address", "x", "\"x\" is not a valid IP address"),
            (
                "quantity",
                "x",
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            ("ints", "1,x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("pattern", "x", "\"x\" does not have the pattern=N format"),
            ("map", "a", "malformed pair, expect string=string"),
            ("thresholds", "x", "malformed pair, expect string<string"),
            ("headers", "x", "malformed pair, expect string:string"),
            ("labels", "x", "x must be formatted as key=value"),
            ("gates", "x", "malformed pair, expect string=bool"),
            ("componentgates", "kube:AllAlpha", "missing bool value for AllAlpha"),
            (
                "componentgates",
                "AllAlpha=x",
                "invalid value of AllAlpha=x, err: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            ("ports", "x", "strconv.Atoi: parsing \"x\": invalid syntax"),
            ("taints", "x", "invalid taint spec: x"),
            ("taints", "a=b:Foo", "invalid taint effect: Foo, unsupported taint effect"),
        ] {
            assert_eq!(why(kind, value), expected, "{kind}: {value}");
        }
    }
}
