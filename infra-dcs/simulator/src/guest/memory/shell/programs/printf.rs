//! `printf` (XCU printf, with what bash adds: `%q`).

/// Longest field that a width may ask for.
const MAX_WIDTH: usize = 4096;

/// The text, and what was wrong with a value.
pub(in crate::guest::memory::shell) fn format(format: &str, values: &[String]) -> (String, Option<String>) {
    let mut text = String::new();
    let mut complaint = None;
    let mut values = values.iter();
    loop {
        let before = values.len();
        let stop = round(format, &mut values, &mut text, &mut complaint);
        // The format is used again as long as it takes values.
        if stop || values.len() == 0 || values.len() == before {
            return (text, complaint);
        }
    }
}

fn round(
    format: &str,
    values: &mut std::slice::Iter<'_, String>,
    text: &mut String,
    complaint: &mut Option<String>,
) -> bool {
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' {
            let (c, stop) = escape(&mut chars, false);
            text.push_str(&c);
            if stop {
                return true;
            }
            continue;
        }
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let (mut left, mut zero, mut plus, mut alternate) = (false, false, false, false);
        while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
            left |= flag == '-';
            zero |= flag == '0';
            plus |= flag == '+';
            alternate |= flag == '#';
        }
        let mut size = |values: &mut std::slice::Iter<'_, String>| {
            if chars.next_if_eq(&'*').is_some() {
                return values.next().and_then(|value| value.parse().ok()).unwrap_or(0);
            }
            let mut number = 0_usize;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                number = (number * 10 + digit as usize - '0' as usize).min(MAX_WIDTH);
            }
            number
        };
        let width = size(values).min(MAX_WIDTH);
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut number = 0_usize;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                number = (number * 10 + digit as usize - '0' as usize).min(MAX_WIDTH);
            }
            precision = Some(number);
        }
        let Some(conversion) = chars.next() else {
            *complaint = Some("`%': missing format character".to_owned());
            return true;
        };
        let value = values.next().map(String::as_str);
        let mut number = || {
            let text = value.unwrap_or("0");
            integer(text).unwrap_or_else(|| {
                *complaint = Some(format!("{text}: invalid number"));
                0
            })
        };
        let shown = match conversion {
            's' => {
                let value = value.unwrap_or_default();
                precision.map_or_else(|| value.to_owned(), |most| value.chars().take(most).collect())
            }
            'b' => {
                let (expanded, stop) = escapes(value.unwrap_or_default());
                text.push_str(&expanded);
                if stop {
                    return true;
                }
                continue;
            }
            'c' => value.unwrap_or_default().chars().take(1).collect(),
            'q' => quote(value.unwrap_or_default()),
            'd' | 'i' | 'u' => {
                let number = number();
                if plus && number >= 0 { format!("+{number}") } else { number.to_string() }
            }
            'x' => format!("{}{:x}", if alternate { "0x" } else { "" }, number()),
            'X' => format!("{}{:X}", if alternate { "0X" } else { "" }, number()),
            'o' => format!("{:o}", number()),
            'f' | 'g' | 'e' => {
                let value: f64 = value.unwrap_or("0").parse().unwrap_or_default();
                format!("{value:.*}", precision.unwrap_or(6))
            }
            other => {
                *complaint = Some(format!("`{other}': invalid format character"));
                return true;
            }
        };
        pad(&shown, width, left, zero && "diuxXofge".contains(conversion), text);
    }
    false
}

/// Fills a field up to its width, with zeros after the sign or with spaces.
fn pad(shown: &str, width: usize, left: bool, zero: bool, text: &mut String) {
    let missing = width.saturating_sub(shown.chars().count());
    if left {
        text.push_str(shown);
        text.push_str(&" ".repeat(missing));
    } else if zero {
        let (sign, digits) = shown.split_at(usize::from(shown.starts_with(['-', '+'])));
        text.push_str(sign);
        text.push_str(&"0".repeat(missing));
        text.push_str(digits);
    } else {
        text.push_str(&" ".repeat(missing));
        text.push_str(shown);
    }
}

/// A C integer, or a quote and the character whose code is meant.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix(['\'', '"']) {
        return rest.chars().next().map(|c| i64::from(u32::from(c)));
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let number = if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i64::from_str_radix(hexadecimal, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(digits, 8).ok()?
    } else if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -number } else { number })
}

/// Escapes of a text, as `%b` and `echo -e` read them; whether `\c` ended the output.
pub(super) fn escapes(text: &str) -> (String, bool) {
    let mut result = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        let (c, stop) = escape(&mut chars, true);
        result.push_str(&c);
        if stop {
            return (result, true);
        }
    }
    (result, false)
}

fn escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, leading_zero: bool) -> (String, bool) {
    fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, radix: u32, most: usize) -> String {
        let mut value = 0;
        for _ in 0..most {
            let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else { break };
            chars.next();
            value = value * radix + digit;
        }
        char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
    }
    if chars.peek().is_some_and(|c| c.is_digit(8)) {
        let most = if leading_zero && chars.peek() == Some(&'0') { 4 } else { 3 };
        return (digits(chars, 8, most), false);
    }
    let text = match chars.next() {
        Some('n') => "\n".to_owned(),
        Some('t') => "\t".to_owned(),
        Some('r') => "\r".to_owned(),
        Some('a') => "\x07".to_owned(),
        Some('b') => "\x08".to_owned(),
        Some('f') => "\x0c".to_owned(),
        Some('v') => "\x0b".to_owned(),
        Some('e') => "\x1b".to_owned(),
        Some('x') => digits(chars, 16, 2),
        Some('u') => digits(chars, 16, 4),
        Some('\\') => "\\".to_owned(),
        Some('"') => "\"".to_owned(),
        Some('c') => return (String::new(), true),
        Some(c) => format!("\\{c}"),
        None => "\\".to_owned(),
    };
    (text, false)
}

/// A text as one word of the shell.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if text.is_empty() {
        "''".to_owned()
    } else {
        text.chars().map(|c| if plain(c) { c.to_string() } else { format!("\\{c}") }).collect()
    }
}
