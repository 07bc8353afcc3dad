//! `test`, `[` and `[[ ]]`.

use futures::future::BoxFuture;

use super::{
    ast::Test,
    exec::{Shell, Stop},
    pattern,
};
use crate::guest::memory::root::Kind;

impl Shell<'_> {
    /// `test` with its arguments; 2 where they make no sense.
    pub(super) fn test(&mut self, args: &[String]) -> u8 {
        let mut at = 0;
        let answer = self.test_or(args, &mut at, 0);
        let answer = match answer {
            Ok(_) if at < args.len() => Err(format!("{}: unexpected argument", args[at])),
            answer => answer,
        };
        match answer {
            Ok(holds) => u8::from(!holds),
            Err(reason) => {
                self.complain(&format!("[: {reason}"));
                2
            }
        }
    }

    fn test_or(&self, args: &[String], at: &mut usize, depth: usize) -> Result<bool, String> {
        let mut holds = self.test_and(args, at, depth)?;
        while args.get(*at).is_some_and(|arg| arg == "-o") {
            *at += 1;
            holds |= self.test_and(args, at, depth)?;
        }
        Ok(holds)
    }

    fn test_and(&self, args: &[String], at: &mut usize, depth: usize) -> Result<bool, String> {
        let mut holds = self.test_one(args, at, depth)?;
        while args.get(*at).is_some_and(|arg| arg == "-a") {
            *at += 1;
            holds &= self.test_one(args, at, depth)?;
        }
        Ok(holds)
    }

    fn test_one(&self, args: &[String], at: &mut usize, depth: usize) -> Result<bool, String> {
        if depth > 32 {
            return Err("too many parentheses and negations".to_owned());
        }
        let left = args.len() - *at;
        let Some(first) = args.get(*at) else { return Ok(false) };
        // A binary operator in the middle decides before all else (XCU test, the table by the number of arguments).
        if let Some(operator) = args.get(*at + 1).filter(|operator| left >= 3 && is_binary(operator)) {
            let holds = self.compare(first, operator, &args[*at + 2])?;
            *at += 3;
            return Ok(holds);
        }
        if first == "!" && left >= 2 {
            *at += 1;
            return Ok(!self.test_one(args, at, depth + 1)?);
        }
        if first == "(" && left >= 3 {
            *at += 1;
            let holds = self.test_or(args, at, depth + 1)?;
            if args.get(*at).is_none_or(|arg| arg != ")") {
                return Err("`)' expected".to_owned());
            }
            *at += 1;
            return Ok(holds);
        }
        if left >= 2 && first.len() == 2 && first.starts_with('-') && !matches!(args[*at + 1].as_str(), "-a" | "-o") {
            let holds = self.ask(first, &args[*at + 1])?;
            *at += 2;
            return Ok(holds);
        }
        *at += 1;
        Ok(!first.is_empty())
    }

    fn ask(&self, operator: &str, operand: &str) -> Result<bool, String> {
        let root = &self.machine.root;
        let path = self.absolute(operand);
        // Nothing has an empty name.
        let metadata = if operand.is_empty() { None } else { root.metadata(&path).ok() };
        let is = |kind| metadata.is_some_and(|metadata| metadata.kind == kind);
        let bit = |bit: u32| metadata.is_some_and(|metadata| metadata.mode & bit != 0);
        Ok(match operator {
            "-z" => operand.is_empty(),
            "-n" => !operand.is_empty(),
            "-e" | "-a" | "-r" | "-w" | "-O" | "-G" => metadata.is_some(),
            "-f" => is(Kind::File),
            "-d" => is(Kind::Directory),
            "-b" => is(Kind::Block),
            "-c" => is(Kind::Character),
            "-h" | "-L" => root.link_metadata(&path).is_ok_and(|metadata| metadata.kind == Kind::Link),
            "-s" => metadata.is_some_and(|metadata| metadata.size > 0),
            "-x" => is(Kind::Directory) || bit(0o111),
            "-u" => bit(0o4000),
            "-g" => bit(0o2000),
            "-k" => bit(0o1000),
            "-p" | "-S" | "-t" => false,
            "-v" => self.state.variables.get(operand).is_some_and(|variable| variable.value.is_some()),
            "-o" => self.flags().contains(operand) && operand.len() == 1,
            _ => return Err(format!("{operator}: unary operator expected")),
        })
    }

    fn compare(&self, left: &str, operator: &str, right: &str) -> Result<bool, String> {
        let number =
            |text: &str| text.trim().parse::<i64>().map_err(|_| format!("{text}: integer expression expected"));
        Ok(match operator {
            "=" | "==" => left == right,
            "!=" => left != right,
            "<" => left < right,
            ">" => left > right,
            "-eq" => number(left)? == number(right)?,
            "-ne" => number(left)? != number(right)?,
            "-lt" => number(left)? < number(right)?,
            "-le" => number(left)? <= number(right)?,
            "-gt" => number(left)? > number(right)?,
            "-ge" => number(left)? >= number(right)?,
            "-ef" => {
                let canonical = |path: &str| self.machine.root.canonical(&self.absolute(path)).ok();
                canonical(left).is_some_and(|path| Some(path) == canonical(right))
            }
            // Files have no times here: what is there is newer than what is not.
            "-nt" | "-ot" => {
                let there = |path: &str| self.machine.root.exists(&self.absolute(path));
                let (newer, older) = if operator == "-nt" { (left, right) } else { (right, left) };
                there(newer) && !there(older)
            }
            _ => return Err(format!("{operator}: binary operator expected")),
        })
    }

    /// `[[ ]]`.
    pub(super) fn conditional<'a>(&'a mut self, test: &'a Test) -> BoxFuture<'a, Result<bool, Stop>> {
        Box::pin(async move {
            let answer = match test {
                Test::Not(inner) => return Ok(!self.conditional(inner).await?),
                Test::And(left, right) => {
                    return Ok(self.conditional(left).await? && self.conditional(right).await?);
                }
                Test::Or(left, right) => {
                    return Ok(self.conditional(left).await? || self.conditional(right).await?);
                }
                Test::Unary(operator, word) => {
                    let operand = self.text(word).await?;
                    self.ask(operator, &operand)
                }
                Test::Binary(left, operator, right) => {
                    let left = self.text(left).await?;
                    match operator.as_str() {
                        "=" | "==" | "!=" => {
                            let pattern = self.pattern(right).await?;
                            let chars: Vec<char> = left.chars().collect();
                            Ok(pattern::matches(&pattern, &chars) == (operator != "!="))
                        }
                        "=~" => {
                            let pattern = self.pattern(right).await?;
                            self.matches_expression(&left, &pattern)
                        }
                        "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge" => {
                            let right = self.text(right).await?;
                            let (left, right) = (self.compute(&left)?, self.compute(&right)?);
                            self.compare(&left.to_string(), operator, &right.to_string())
                        }
                        operator => {
                            let right = self.text(right).await?;
                            self.compare(&left, operator, &right)
                        }
                    }
                }
            };
            answer.map_err(|reason| {
                self.complain(&reason);
                Stop::Exit(2)
            })
        })
    }

    fn matches_expression(&mut self, text: &str, pattern: &[pattern::PatternChar]) -> Result<bool, String> {
        // What was quoted stands for itself.
        let expression: String = pattern
            .iter()
            .map(|(c, quoted)| if *quoted { regex::escape(&c.to_string()) } else { c.to_string() })
            .collect();
        let expression =
            regex::Regex::new(&expression).map_err(|_| format!("{expression}: invalid regular expression"))?;
        let captures = expression.captures(text);
        let groups = captures.iter().flat_map(|captures| captures.iter());
        let groups = groups.map(|group| group.map_or_else(String::new, |group| group.as_str().to_owned()));
        let groups = groups.enumerate().collect();
        // A name of bash's own, which nobody can make read-only.
        let _ = self.state.replace("BASH_REMATCH", super::state::Value::Indexed(groups));
        Ok(captures.is_some())
    }
}

fn is_binary(operator: &str) -> bool {
    const OPERATORS: [&str; 14] =
        ["=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-nt", "-ot", "-ef"];
    OPERATORS.contains(&operator)
}
