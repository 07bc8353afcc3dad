//! What reads words and lines into variables: `read`, `getopts`, `mapfile`.

use super::{
    exec::{Run, Shell, Stop},
    state::Value,
};

impl Shell<'_> {
    pub(super) fn read(&mut self, args: &[String]) -> Run {
        let (mut raw, mut array, mut delimiter, mut names) = (false, None, b'\n', Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-r" => raw = true,
                "-a" => array = args.next(),
                "-d" => delimiter = args.next().and_then(|text| text.bytes().next()).unwrap_or_default(),
                "-p" | "-t" | "-n" | "-u" => {
                    args.next();
                }
                "-s" | "-e" => {}
                "-ra" => {
                    raw = true;
                    array = args.next();
                }
                arg if arg.starts_with('-') => {
                    let message = format!("read: {arg}: invalid option");
                    self.complain(&message);
                    return Ok(2);
                }
                name => names.push(name.to_owned()),
            }
        }
        let input = self.files.input(0);
        let found = input.and_then(|input| input.lock().line(delimiter));
        let Some((bytes, ended)) = found else {
            for name in &names {
                self.assign_text(name, String::new())?;
            }
            return Ok(1);
        };
        let mut line = String::from_utf8_lossy(&bytes).into_owned();
        if !raw {
            let mut chars = line.chars();
            let mut plain = String::new();
            while let Some(c) = chars.next() {
                if c == '\\' { plain.extend(chars.next()) } else { plain.push(c) }
            }
            line = plain;
        }
        let ifs = self.state.ifs();
        if let Some(array) = array {
            let words = split(&line, &ifs, usize::MAX);
            let elements = words.into_iter().enumerate().collect();
            self.state.replace(array, Value::Indexed(elements)).map_err(Stop::Fatal)?;
        } else if names.is_empty() {
            self.assign_text("REPLY", line)?;
        } else {
            let mut words = split(&line, &ifs, names.len()).into_iter();
            for name in &names {
                self.assign_text(name, words.next().unwrap_or_default())?;
            }
        }
        Ok(u8::from(!ended))
    }

    pub(super) fn getopts(&mut self, args: &[String]) -> Run {
        let [spec, name, rest @ ..] = args else {
            self.complain("getopts: usage: getopts optstring name [arg ...]");
            return Ok(2);
        };
        let words = if rest.is_empty() { self.state.positional.clone() } else { rest.to_vec() };
        let index: usize = self.state.scalar("OPTIND").and_then(|text| text.parse().ok()).unwrap_or(1);
        let place: usize = self.state.scalar("_OPTPLACE").and_then(|text| text.parse().ok()).unwrap_or(1);
        let word = words.get(index - 1).filter(|word| word.starts_with('-') && word.len() > 1 && *word != "--");
        let Some(letter) = word.and_then(|word| word.chars().nth(place)) else {
            self.assign_text(name, "?".to_owned())?;
            return Ok(1);
        };
        let word = word.cloned().unwrap_or_default();
        let known = spec.find(letter).filter(|_| letter != ':');
        let takes_value = known.is_some_and(|at| spec[at + 1..].starts_with(':'));
        let is_last = word.chars().count() == place + 1;
        // Of an option without a value nothing is left of the one before.
        let _ = self.state.unset("OPTARG");
        let (mut next, mut next_place) = if is_last { (index + 1, 1) } else { (index, place + 1) };
        let mut found = letter.to_string();
        if takes_value {
            let value = if is_last { words.get(index).cloned() } else { Some(word.chars().skip(place + 1).collect()) };
            (next, next_place) = (if is_last { index + 2 } else { index + 1 }, 1);
            match value {
                Some(value) => self.assign_text("OPTARG", value)?,
                None => found = if spec.starts_with(':') { ":" } else { "?" }.to_owned(),
            }
        } else if known.is_none() {
            if !spec.starts_with(':') {
                self.complain(&format!("illegal option -- {letter}"));
            }
            self.assign_text("OPTARG", letter.to_string())?;
            found = "?".to_owned();
        }
        self.assign_text("OPTIND", next.to_string())?;
        self.assign_text("_OPTPLACE", next_place.to_string())?;
        self.assign_text(name, found)?;
        Ok(0)
    }

    pub(super) fn mapfile(&mut self, args: &[String]) -> Run {
        let strip = args.iter().any(|arg| arg == "-t");
        let name = args.iter().rfind(|arg| !arg.starts_with('-')).map_or("MAPFILE", String::as_str).to_owned();
        let text = self.files.input(0).map(|input| input.lock().rest()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines = text.split_inclusive('\n');
        let lines = lines.map(|line| if strip { line.trim_end_matches('\n') } else { line }.to_owned());
        let elements = lines.enumerate().collect();
        self.state.replace(&name, Value::Indexed(elements)).map_err(Stop::Fatal)?;
        Ok(0)
    }
}

/// Splits a line into at most `most` words; the last one keeps what is left.
fn split(line: &str, ifs: &str, most: usize) -> Vec<String> {
    let is_space = |c: char| c.is_ascii_whitespace() && ifs.contains(c);
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(is_space);
    while !rest.is_empty() {
        if words.len() + 1 == most {
            words.push(rest.trim_end_matches(is_space).to_owned());
            break;
        }
        let end = rest.find(|c| ifs.contains(c)).unwrap_or(rest.len());
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches(is_space);
        if let Some(c) = rest.chars().next().filter(|c| ifs.contains(*c) && !is_space(*c)) {
            rest = rest[c.len_utf8()..].trim_start_matches(is_space);
        }
    }
    words
}
