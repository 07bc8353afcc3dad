//! Compound commands (XCU 2.9.4).

use std::sync::Arc;

use super::{
    ast::{Arm, ArmEnd, Kind, List, Word},
    exec::{Run, Shell, Stop},
    pattern,
};

impl Shell<'_> {
    pub(super) async fn compound(&mut self, kind: &Kind) -> Run {
        match kind {
            Kind::Simple { .. } => Ok(0),
            Kind::Group(list) => self.list(list).await,
            Kind::Subshell(list) => {
                let outer = self.enter()?;
                let result = self.list(list).await;
                self.leave(outer, result).await
            }
            Kind::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.condition(condition).await? == 0 {
                        return self.list(body).await;
                    }
                }
                match otherwise {
                    Some(body) => self.list(body).await,
                    None => Ok(0),
                }
            }
            Kind::Loop { until, condition, body } => {
                let mut status = 0;
                loop {
                    self.step().await?;
                    let holds = match self.condition(condition).await {
                        Err(stop) => match looped(Err(stop))? {
                            Looped::Leave => return Ok(status),
                            Looped::Next(_) => continue,
                        },
                        Ok(answer) => (answer == 0) != *until,
                    };
                    if !holds {
                        return Ok(status);
                    }
                    match looped(self.list(body).await)? {
                        Looped::Leave => return Ok(0),
                        Looped::Next(now) => status = now,
                    }
                }
            }
            Kind::For { name, words, body } => self.each(name, words.as_deref(), body).await,
            Kind::ForArithmetic { parts: [first, condition, step], body } => {
                self.arithmetic(first).await?;
                let mut status = 0;
                loop {
                    self.step().await?;
                    if !condition.parts.is_empty() && self.arithmetic(condition).await? == 0 {
                        return Ok(status);
                    }
                    match looped(self.list(body).await)? {
                        Looped::Leave => return Ok(0),
                        Looped::Next(now) => status = now,
                    }
                    self.arithmetic(step).await?;
                }
            }
            Kind::Case { word, arms } => self.choose(word, arms).await,
            Kind::Function { name, body } => {
                self.state.functions.insert(name.clone(), Arc::clone(body));
                Ok(0)
            }
            Kind::Test(test) => self.conditional(test).await.map(|holds| u8::from(!holds)),
            Kind::Arithmetic(word) => Ok(u8::from(self.arithmetic(word).await? == 0)),
        }
    }

    async fn each(&mut self, name: &str, words: Option<&[Word]>, body: &List) -> Run {
        let values = match words {
            None => self.state.positional.clone(),
            Some(words) => {
                let mut values = Vec::new();
                for word in words {
                    values.extend(self.fields(word).await?);
                }
                values
            }
        };
        let mut status = 0;
        for value in values {
            self.step().await?;
            self.assign_text(name, value)?;
            match looped(self.list(body).await)? {
                Looped::Leave => return Ok(0),
                Looped::Next(now) => status = now,
            }
        }
        Ok(status)
    }

    async fn choose(&mut self, word: &Word, arms: &[Arm]) -> Run {
        let text = self.text(word).await?;
        let chars: Vec<char> = text.chars().collect();
        let (mut status, mut falls) = (0, false);
        for arm in arms {
            let mut holds = falls;
            for word in arm.patterns.iter().take_while(|_| !falls) {
                let pattern = self.pattern(word).await?;
                if pattern::matches(&pattern, &chars) {
                    holds = true;
                    break;
                }
            }
            if !holds {
                continue;
            }
            status = self.list(&arm.body).await?;
            match arm.end {
                ArmEnd::Done => return Ok(status),
                ArmEnd::FallThrough => falls = true,
                ArmEnd::TestNext => falls = false,
            }
        }
        Ok(status)
    }

    /// A list that is asked about: its failures end nothing.
    async fn condition(&mut self, list: &List) -> Run {
        self.state.forgiving += 1;
        let result = self.list(list).await;
        self.state.forgiving -= 1;
        result
    }
}

enum Looped {
    Leave,
    Next(u8),
}

/// What the end of a loop's body means for the loop.
fn looped(result: Run) -> Result<Looped, Stop> {
    match result {
        Ok(status) => Ok(Looped::Next(status)),
        Err(Stop::Break(1)) => Ok(Looped::Leave),
        Err(Stop::Continue(1)) => Ok(Looped::Next(0)),
        Err(Stop::Break(levels)) => Err(Stop::Break(levels - 1)),
        Err(Stop::Continue(levels)) => Err(Stop::Continue(levels - 1)),
        Err(stop) => Err(stop),
    }
}
