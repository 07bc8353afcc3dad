//! Brace expansion, which bash does before all others: `a{b,c}` and `{1..3}`.

use super::ast::{Part, Word};

/// Most words that braces may make of one.
const MAX_WORDS: usize = 1024;

/// An unquoted character, or a part that braces do not look into.
#[derive(Clone)]
enum Token {
    Char(char),
    Part(Part),
}

/// The words that a word stands for.
pub(super) fn expand(word: &Word) -> Vec<Word> {
    let has_braces = word.parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('{')));
    if !has_braces {
        return vec![word.clone()];
    }
    let mut tokens = Vec::new();
    for part in &word.parts {
        match part {
            Part::Text(text) => tokens.extend(text.chars().map(Token::Char)),
            part => tokens.push(Token::Part(part.clone())),
        }
    }
    // Each round opens one pair of braces of each word; braces within are opened in the next.
    let mut words = vec![tokens];
    loop {
        let mut changed = false;
        let mut next = Vec::new();
        for word in words {
            match open(&word) {
                Some(opened) => {
                    changed = true;
                    next.extend(opened);
                }
                None => next.push(word),
            }
            if next.len() > MAX_WORDS {
                next.truncate(MAX_WORDS);
                break;
            }
        }
        words = next;
        if !changed || words.len() >= MAX_WORDS {
            return words.into_iter().map(join).collect();
        }
    }
}

fn join(tokens: Vec<Token>) -> Word {
    let mut parts: Vec<Part> = Vec::new();
    for token in tokens {
        match (token, parts.last_mut()) {
            (Token::Char(c), Some(Part::Text(text))) => text.push(c),
            (Token::Char(c), _) => parts.push(Part::Text(c.to_string())),
            (Token::Part(part), _) => parts.push(part),
        }
    }
    Word { parts }
}

/// Opens the first pair of braces that is one.
fn open(tokens: &[Token]) -> Option<Vec<Vec<Token>>> {
    let is = |at: usize, c: char| matches!(tokens.get(at), Some(Token::Char(found)) if *found == c);
    for start in (0..tokens.len()).filter(|at| is(*at, '{')) {
        let (mut depth, mut commas, mut end) = (0, Vec::new(), None);
        for at in start + 1..tokens.len() {
            if is(at, '{') {
                depth += 1;
            } else if is(at, '}') && depth > 0 {
                depth -= 1;
            } else if is(at, '}') {
                end = Some(at);
                break;
            } else if is(at, ',') && depth == 0 {
                commas.push(at);
            }
        }
        let Some(end) = end else { continue };
        let inner = &tokens[start + 1..end];
        let choices = if commas.is_empty() {
            match range(inner) {
                Some(choices) => choices,
                None => continue,
            }
        } else {
            let mut from = start + 1;
            let mut choices = Vec::new();
            for to in commas.into_iter().chain([end]) {
                choices.push(tokens[from..to].to_vec());
                from = to + 1;
            }
            choices
        };
        let (head, tail) = (&tokens[..start], &tokens[end + 1..]);
        return Some(choices.into_iter().map(|choice| [head, &choice, tail].concat()).collect());
    }
    None
}

fn range(inner: &[Token]) -> Option<Vec<Vec<Token>>> {
    let text: String =
        inner.iter().map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect::<Option<_>>()?;
    let (from, to) = text.split_once("..")?;
    let (to, step) = to.split_once("..").map_or((to, 1), |(to, step)| (to, step.parse::<i64>().unwrap_or(1)));
    let step = usize::try_from(step.unsigned_abs().max(1)).ok()?;
    let width = if from.len() > 1 && from.starts_with('0') { from.len() } else { 0 };
    let words: Vec<String> = match (from.parse::<i64>(), to.parse::<i64>()) {
        (Ok(from), Ok(to)) if from.abs_diff(to) < 1 << 20 => {
            let numbers: Vec<i64> = if from <= to { (from..=to).collect() } else { (to..=from).rev().collect() };
            numbers.into_iter().step_by(step).take(MAX_WORDS).map(|number| format!("{number:0width$}")).collect()
        }
        _ => {
            let single = |text: &str| text.chars().next().filter(|c| text.len() == 1 && c.is_ascii_alphabetic());
            let (from, to) = (single(from)?, single(to)?);
            let letters: Vec<char> = if from <= to { (from..=to).collect() } else { (to..=from).rev().collect() };
            letters.into_iter().step_by(step).map(String::from).collect()
        }
    };
    Some(words.into_iter().map(|word| word.chars().map(Token::Char).collect()).collect())
}
