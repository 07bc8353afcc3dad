//! Patterns of the shell (XCU 2.14): `*`, `?` and brackets, of which quoted characters are no part.

/// A character, and whether it was quoted and so stands for itself.
pub(super) type PatternChar = (char, bool);

/// Whether a pattern covers the whole text.
pub(super) fn matches(pattern: &[PatternChar], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star was, and from where it may take one more character.
    let mut star = None::<(usize, usize)>;
    while t < text.len() || p < pattern.len() {
        if p < pattern.len() {
            if pattern[p] == ('*', false) {
                star = Some((p, t));
                p += 1;
                continue;
            }
            if t < text.len()
                && let Some(length) = one(&pattern[p..], text[t])
            {
                p += length;
                t += 1;
                continue;
            }
        }
        match star {
            Some((at, from)) if from < text.len() => {
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
            _ => return false,
        }
    }
    true
}

/// Characters of the pattern that match this one character of the text; none where it does not match.
fn one(pattern: &[PatternChar], c: char) -> Option<usize> {
    match pattern[0] {
        ('?', false) => Some(1),
        ('[', false) => match bracket(pattern) {
            Some((length, negated, set)) => (set.iter().any(|range| range.holds(c)) != negated).then_some(length),
            None => (c == '[').then_some(1),
        },
        (literal, _) => (literal == c).then_some(1),
    }
}

enum Range {
    Between(char, char),
    Class(String),
}

impl Range {
    fn holds(&self, c: char) -> bool {
        match self {
            Self::Between(from, to) => (*from..=*to).contains(&c),
            Self::Class(name) => match name.as_str() {
                "alpha" => c.is_alphabetic(),
                "digit" => c.is_ascii_digit(),
                "alnum" => c.is_alphanumeric(),
                "upper" => c.is_uppercase(),
                "lower" => c.is_lowercase(),
                "space" => c.is_whitespace(),
                "blank" => c == ' ' || c == '\t',
                "punct" => c.is_ascii_punctuation(),
                "xdigit" => c.is_ascii_hexdigit(),
                "cntrl" => c.is_control(),
                "print" => !c.is_control(),
                "graph" => c.is_ascii_graphic(),
                _ => false,
            },
        }
    }
}

/// A bracket expression: its length, whether it is negated, its members. None where it is not closed.
fn bracket(pattern: &[PatternChar]) -> Option<(usize, bool, Vec<Range>)> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some(('!' | '^', false)));
    if negated {
        at += 1;
    }
    let mut set = Vec::new();
    let first = at;
    loop {
        let (c, quoted) = *pattern.get(at)?;
        if c == ']' && !quoted && at > first {
            return Some((at + 1, negated, set));
        }
        if c == '[' && !quoted && matches!(pattern.get(at + 1), Some((':', false))) {
            let end = (at + 2..pattern.len())
                .find(|end| pattern[*end] == (':', false) && matches!(pattern.get(end + 1), Some((']', false))))?;
            set.push(Range::Class(pattern[at + 2..end].iter().map(|(c, _)| *c).collect()));
            at = end + 2;
            continue;
        }
        let is_range = matches!(pattern.get(at + 1), Some(('-', false)))
            && pattern.get(at + 2).is_some_and(|(c, quoted)| *c != ']' || *quoted);
        if is_range {
            set.push(Range::Between(c, pattern[at + 2].0));
            at += 3;
        } else {
            set.push(Range::Between(c, c));
            at += 1;
        }
    }
}

/// Whether anything in it is a pattern at all.
pub(super) fn is_pattern(pattern: &[PatternChar]) -> bool {
    pattern.iter().enumerate().any(|(at, c)| match c {
        ('*' | '?', false) => true,
        ('[', false) => bracket(&pattern[at..]).is_some(),
        _ => false,
    })
}

/// The text of a pattern, taken literally.
pub(super) fn text(pattern: &[PatternChar]) -> String {
    pattern.iter().map(|(c, _)| *c).collect()
}

/// Takes away the shortest or longest begin or end that matches.
pub(super) fn remove(text: &str, pattern: &[PatternChar], from_end: bool, longest: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut cuts: Vec<usize> = (0..=chars.len()).collect();
    // The shortest begin is cut at 0 first, the shortest end at the end.
    if from_end != longest {
        cuts.reverse();
    }
    for cut in cuts {
        let (head, tail) = chars.split_at(cut);
        if from_end && matches(pattern, tail) {
            return head.iter().collect();
        }
        if !from_end && matches(pattern, head) {
            return tail.iter().collect();
        }
    }
    text.to_owned()
}

/// Replaces the first longest match, or all.
pub(super) fn replace(text: &str, pattern: &[PatternChar], with: &str, all: bool, anchor: Option<char>) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut result = String::new();
    let mut at = 0;
    if pattern.is_empty() && anchor.is_none() {
        return text.to_owned();
    }
    while at <= chars.len() {
        let fits = |end: &usize| {
            (*end > at || anchor.is_some())
                && (anchor != Some('%') || *end == chars.len())
                && matches(pattern, &chars[at..*end])
        };
        let found = (at..=chars.len()).rev().find(fits).filter(|_| anchor != Some('#') || at == 0);
        match found {
            Some(end) => {
                result.push_str(with);
                at = end;
                if !all || at >= chars.len() {
                    break;
                }
            }
            None if at < chars.len() => {
                result.push(chars[at]);
                at += 1;
            }
            None => break,
        }
    }
    result.extend(chars.get(at..).unwrap_or_default());
    result
}
