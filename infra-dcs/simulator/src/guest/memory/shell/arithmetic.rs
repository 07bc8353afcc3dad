//! Arithmetic of the shell (XCU 2.6.4): signed 64 bits, C's operators.

/// Parentheses and unary operators within one another, and names that name names.
const MAX_DEPTH: usize = 48;

/// Where names have their values.
pub(super) trait Names {
    /// Value of a variable; unset and empty are `0` to the caller.
    fn get(&self, name: &str) -> Result<String, String>;
    /// Assigns.
    fn set(&mut self, name: &str, value: i64) -> Result<(), String>;
}

/// Value of an expression; an empty one is 0.
pub(super) fn evaluate(text: &str, names: &mut dyn Names) -> Result<i64, String> {
    evaluate_at(text, names, 0)
}

fn evaluate_at(text: &str, names: &mut dyn Names, depth: usize) -> Result<i64, String> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(0);
    }
    let mut evaluation = Evaluation { tokens, at: 0, names, depth, skip: false };
    let value = evaluation.comma()?;
    match evaluation.tokens.get(evaluation.at) {
        None => Ok(value),
        Some(token) => {
            Err(format!("{}: syntax error in expression (error token is \"{}\")", text.trim(), token.text()))
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(i64),
    Name(String),
    Sign(&'static str),
}

impl Token {
    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name.clone(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Longest first.
const SIGNS: [&str; 37] = [
    "<<=", ">>=", "**", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "+=", "-=", "*=", "/=", "%=", "&=",
    "|=", "^=", "+", "-", "*", "/", "%", "<", ">", "!", "~", "&", "|", "^", "?", ":", "=", ",",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(c) = rest.chars().next() {
        if c == '(' || c == ')' {
            tokens.push(Token::Sign(if c == '(' { "(" } else { ")" }));
            rest = &rest[1..];
        } else if c.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '#').unwrap_or(rest.len());
            tokens.push(Token::Number(number(&rest[..end])?));
            rest = &rest[end..];
        } else if c.is_ascii_alphabetic() || c == '_' {
            let mut end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            // An element of an array.
            if rest[end..].starts_with('[')
                && let Some(close) = rest[end..].find(']')
            {
                end += close + 1;
            }
            tokens.push(Token::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else {
            return Err(format!("{}: syntax error: operand expected (error token is \"{rest}\")", text.trim()));
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn number(text: &str) -> Result<i64, String> {
    let parsed = if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        i64::from_str_radix(digits, 16)
    } else if let Some((base, digits)) = text.split_once('#') {
        let base = base.parse().ok().filter(|base| (2..=36).contains(base));
        i64::from_str_radix(digits, base.ok_or_else(|| format!("{text}: invalid arithmetic base"))?)
    } else if text.len() > 1 && text.starts_with('0') {
        i64::from_str_radix(text, 8)
    } else {
        text.parse()
    };
    parsed.map_err(|_| format!("{text}: value too great for base (error token is \"{text}\")"))
}

struct Evaluation<'a> {
    tokens: Vec<Token>,
    at: usize,
    names: &'a mut dyn Names,
    depth: usize,
    /// Within the branch that `&&`, `||` or `?` does not take.
    skip: bool,
}

type Value = Result<i64, String>;

impl Evaluation<'_> {
    fn sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        match self.tokens.get(self.at) {
            Some(Token::Sign(sign)) if signs.contains(sign) => {
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn skipping(&mut self, skip: bool, evaluate: impl FnOnce(&mut Self) -> Value) -> Value {
        let before = self.skip;
        self.skip |= skip;
        let value = evaluate(self);
        self.skip = before;
        value
    }

    fn comma(&mut self) -> Value {
        let mut value = self.assignment()?;
        while self.sign(&[","]).is_some() {
            value = self.assignment()?;
        }
        Ok(value)
    }

    fn assignment(&mut self) -> Value {
        const ASSIGN: [&str; 11] = ["=", "+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^="];
        if self.depth > MAX_DEPTH {
            return Err("expression recursion level exceeded".to_owned());
        }
        if let (Some(Token::Name(name)), Some(Token::Sign(sign))) =
            (self.tokens.get(self.at), self.tokens.get(self.at + 1))
            && ASSIGN.contains(sign)
        {
            let (name, sign) = (name.clone(), *sign);
            self.at += 2;
            self.depth += 1;
            let right = self.assignment();
            self.depth -= 1;
            let right = right?;
            let value = match sign.strip_suffix('=') {
                Some("") | None => right,
                Some(operator) => {
                    let left = self.value_of(&name)?;
                    self.operate(operator, left, right)?
                }
            };
            return self.store(&name, value);
        }
        self.conditional()
    }

    fn store(&mut self, name: &str, value: i64) -> Value {
        if !self.skip {
            self.names.set(name, value)?;
        }
        Ok(value)
    }

    fn conditional(&mut self) -> Value {
        let condition = self.binary(0)?;
        if self.sign(&["?"]).is_none() {
            return Ok(condition);
        }
        self.depth += 1;
        let yes = self.skipping(condition == 0, Self::assignment)?;
        if self.sign(&[":"]).is_none() {
            return Err("`:' expected for conditional expression".to_owned());
        }
        let no = self.skipping(condition != 0, Self::assignment)?;
        self.depth -= 1;
        Ok(if condition == 0 { no } else { yes })
    }

    fn binary(&mut self, level: usize) -> Value {
        const LEVELS: [&[&str]; 10] = [
            &["||"],
            &["&&"],
            &["|"],
            &["^"],
            &["&"],
            &["==", "!="],
            &["<", ">", "<=", ">="],
            &["<<", ">>"],
            &["+", "-"],
            &["*", "/", "%"],
        ];
        let Some(signs) = LEVELS.get(level) else { return self.power() };
        let mut left = self.binary(level + 1)?;
        while let Some(sign) = self.sign(signs) {
            left = match sign {
                "||" => {
                    let right = self.skipping(left != 0, |evaluation| evaluation.binary(level + 1))?;
                    i64::from(left != 0 || right != 0)
                }
                "&&" => {
                    let right = self.skipping(left == 0, |evaluation| evaluation.binary(level + 1))?;
                    i64::from(left != 0 && right != 0)
                }
                sign => {
                    let right = self.binary(level + 1)?;
                    self.operate(sign, left, right)?
                }
            };
        }
        Ok(left)
    }

    fn operate(&self, sign: &str, left: i64, right: i64) -> Value {
        Ok(match sign {
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            "/" | "%" if right == 0 => {
                return if self.skip { Ok(0) } else { Err("division by 0".to_owned()) };
            }
            "/" => left.wrapping_div(right),
            "%" => left.wrapping_rem(right),
            "<<" => left.wrapping_shl(u32::try_from(right & 63).unwrap_or_default()),
            ">>" => left.wrapping_shr(u32::try_from(right & 63).unwrap_or_default()),
            "&" => left & right,
            "|" => left | right,
            "^" => left ^ right,
            "==" => i64::from(left == right),
            "!=" => i64::from(left != right),
            "<" => i64::from(left < right),
            ">" => i64::from(left > right),
            "<=" => i64::from(left <= right),
            ">=" => i64::from(left >= right),
            sign => return Err(format!("syntax error in expression (error token is \"{sign}\")")),
        })
    }

    fn power(&mut self) -> Value {
        let base = self.unary()?;
        if self.sign(&["**"]).is_none() {
            return Ok(base);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression recursion level exceeded".to_owned());
        }
        let exponent = self.power()?;
        self.depth -= 1;
        let exponent = u32::try_from(exponent).map_err(|_| "exponent less than 0".to_owned())?;
        Ok(base.wrapping_pow(exponent))
    }

    fn unary(&mut self) -> Value {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("expression recursion level exceeded".to_owned());
        }
        let value = match self.sign(&["!", "~", "-", "+", "++", "--"]) {
            Some("!") => i64::from(self.unary()? == 0),
            Some("~") => !self.unary()?,
            Some("-") => self.unary()?.wrapping_neg(),
            Some("+") => self.unary()?,
            Some(sign) => match self.tokens.get(self.at).cloned() {
                Some(Token::Name(name)) => {
                    self.at += 1;
                    let value = self.value_of(&name)?.wrapping_add(if sign == "++" { 1 } else { -1 });
                    self.store(&name, value)?
                }
                // Two signs, after all.
                _ => self.unary()?,
            },
            None => self.primary()?,
        };
        self.depth -= 1;
        Ok(value)
    }

    fn primary(&mut self) -> Value {
        match self.tokens.get(self.at).cloned() {
            Some(Token::Number(number)) => {
                self.at += 1;
                Ok(number)
            }
            Some(Token::Name(name)) => {
                self.at += 1;
                let value = self.value_of(&name)?;
                match self.sign(&["++", "--"]) {
                    Some(sign) => {
                        self.store(&name, value.wrapping_add(if sign == "++" { 1 } else { -1 }))?;
                        Ok(value)
                    }
                    None => Ok(value),
                }
            }
            Some(Token::Sign("(")) => {
                self.at += 1;
                let value = self.comma()?;
                if self.sign(&[")"]).is_none() {
                    return Err("missing `)'".to_owned());
                }
                Ok(value)
            }
            Some(token) => Err(format!("syntax error: operand expected (error token is \"{}\")", token.text())),
            None => Err("syntax error: operand expected".to_owned()),
        }
    }

    /// A name's value is an expression of its own.
    fn value_of(&mut self, name: &str) -> Value {
        if self.skip {
            return Ok(0);
        }
        let text = self.names.get(name)?;
        match text.trim().parse() {
            Ok(number) if !text.trim().starts_with('0') || text.trim() == "0" => Ok(number),
            _ if self.depth >= MAX_DEPTH => Err(format!("{name}: expression recursion level exceeded")),
            _ => evaluate_at(&text, self.names, self.depth + 1),
        }
    }
}
