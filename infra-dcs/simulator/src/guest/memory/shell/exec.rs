//! Runs what a script says (XCU 2.9).

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{
    Limits,
    ast::{AndOr, Argument, Assignment, Command, Join, Kind, List, Pipeline, Redirect, RedirectKind},
    command::Commands,
    files::{Files, Input, Stream},
    state::{State, Value, Variable},
};
use crate::guest::memory::machine::Machine;

/// Functions, subshells and compound commands within one another: deeper is a script that calls itself without end.
const MAX_DEPTH: usize = 40;
/// Steps between two chances for others.
const STEPS_PER_YIELD: u64 = 512;

/// Why a command list does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    Exit(u8),
    Return(u8),
    Break(usize),
    Continue(usize),
    /// The run as a whole is stopped.
    Fatal(String),
}

pub(super) type Run = Result<u8, Stop>;

/// What a subshell must not change.
pub(super) struct Outer {
    state: State,
    files: Files,
    depth: usize,
}

/// A shell at work.
pub(super) struct Shell<'m> {
    pub machine: &'m mut Machine,
    pub commands: &'m mut dyn Commands,
    pub state: State,
    pub files: Files,
    steps: u64,
    limit: u64,
    began: u64,
    deadline: u64,
    pub depth: usize,
    random: u32,
    yielded: u64,
    /// Depth of the outermost script, once one runs.
    pub outermost: Option<usize>,
    /// Line and status of the first command there that failed.
    pub first_failure: Option<(usize, u8)>,
}

impl<'m> Shell<'m> {
    pub(super) fn new(
        machine: &'m mut Machine,
        commands: &'m mut dyn Commands,
        state: State,
        files: Files,
        limits: Limits,
    ) -> Self {
        let began = machine.clock.now();
        let time = u64::try_from(limits.time.as_millis()).unwrap_or(u64::MAX);
        Self {
            machine,
            commands,
            state,
            files,
            steps: 0,
            limit: limits.steps,
            began,
            deadline: began.saturating_add(time),
            depth: 0,
            random: 1,
            yielded: 0,
            outermost: None,
            first_failure: None,
        }
    }

    // === bounds ===

    /// Counts what is done; the run is stopped when it has done too much.
    pub(super) fn charge(&mut self, steps: u64) -> Result<(), Stop> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > self.limit {
            return Err(Stop::Fatal(format!("stopped after {} steps: a loop that does not end?", self.limit)));
        }
        if self.machine.clock.now() > self.deadline {
            let seconds = (self.deadline - self.began) / 1000;
            return Err(Stop::Fatal(format!("stopped after {seconds} s: what it waits for has not come")));
        }
        Ok(())
    }

    /// Milliseconds that the run has taken.
    pub(super) fn passed(&self) -> u64 {
        self.machine.clock.now().saturating_sub(self.began)
    }

    /// Milliseconds that are left to the run.
    pub(super) fn left(&self) -> u64 {
        self.deadline.saturating_sub(self.machine.clock.now())
    }

    /// Sets an earlier end; what it was.
    pub(super) fn shorten(&mut self, milliseconds: u64) -> u64 {
        let outer = self.deadline;
        self.deadline = outer.min(self.machine.clock.now().saturating_add(milliseconds));
        outer
    }

    /// Sets the end back; whether it has come.
    pub(super) fn restore(&mut self, outer: u64) -> bool {
        self.deadline = outer;
        self.left() == 0
    }

    /// The next number of a fixed sequence, for `$RANDOM`.
    pub(super) fn draw(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_103_515_245).wrapping_add(12345);
        self.random >> 16
    }

    /// A step of its own, now and then with a chance for others.
    pub(super) async fn step(&mut self) -> Result<(), Stop> {
        self.charge(1)?;
        if self.steps - self.yielded > STEPS_PER_YIELD {
            self.yielded = self.steps;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    // === words to the outside ===

    pub(super) fn write(&mut self, descriptor: u32, bytes: &[u8]) -> Result<(), Stop> {
        let cost = self.files.write(descriptor, bytes, self.machine).map_err(|reason| {
            // Nobody reads what a broken descriptor would say.
            Stop::Fatal(reason)
        })?;
        self.charge((bytes.len() as u64 + cost) / 4096)
    }

    pub(super) fn print(&mut self, text: &str) -> Run {
        self.write(1, text.as_bytes())?;
        Ok(0)
    }

    /// A message of the shell itself, with the place as bash gives it.
    pub(super) fn complain(&mut self, message: &str) {
        let line = format!("{}: line {}: {message}\n", self.state.name, self.state.line);
        // Where standard error is closed, nobody wants to know.
        let _ = self.files.write(2, line.as_bytes(), self.machine);
    }

    pub(super) fn flags(&self) -> String {
        let options = self.state.options;
        let all = [(options.errexit, 'e'), (options.noglob, 'f'), (options.nounset, 'u'), (options.xtrace, 'x')];
        all.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).chain(['h', 'B']).collect()
    }

    pub(super) fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.state.directory.trim_end_matches('/'))
        }
    }

    // === lists ===

    pub(super) fn list<'a>(&'a mut self, list: &'a List) -> BoxFuture<'a, Run> {
        Box::pin(async move {
            let mut status = 0;
            for item in list {
                self.state.line = item.line;
                let result = self.and_or(&item.chain).await;
                if let Ok(failed @ 1..) | Err(Stop::Exit(failed @ 1..)) = result
                    && self.outermost == Some(self.depth)
                {
                    self.first_failure.get_or_insert((item.line, failed));
                }
                status = result?;
                if item.background {
                    status = 0;
                    self.state.status = 0;
                }
            }
            Ok(status)
        })
    }

    async fn and_or(&mut self, chain: &AndOr) -> Run {
        let last = chain.rest.len();
        let mut status = self.pipeline(&chain.first, last > 0).await?;
        for (index, (join, pipeline)) in chain.rest.iter().enumerate() {
            if (*join == Join::And) == (status == 0) {
                status = self.pipeline(pipeline, index + 1 < last).await?;
            }
        }
        Ok(status)
    }

    /// Runs a pipeline; whether its failure is asked about, and so does not end the script.
    async fn pipeline(&mut self, pipeline: &Pipeline, is_asked: bool) -> Run {
        let forgives = is_asked || pipeline.negated;
        self.state.forgiving += usize::from(forgives);
        let result = match pipeline.commands.as_slice() {
            [command] => self.command(command).await,
            commands => self.piped(commands).await,
        };
        self.state.forgiving -= usize::from(forgives);
        let mut status = result?;
        if pipeline.negated {
            status = u8::from(status == 0);
        }
        self.state.status = status;
        let is_tested = matches!(pipeline.commands.as_slice(), [Command { kind, .. }]
            if !matches!(kind, Kind::Simple { .. } | Kind::Subshell(_) | Kind::Test(_) | Kind::Arithmetic(_)));
        // What a compound command could not end the script with, it does not end it with afterwards either.
        if status != 0 && self.state.options.errexit && self.state.forgiving == 0 && !forgives && !is_tested {
            return Err(Stop::Exit(status));
        }
        Ok(status)
    }

    async fn piped(&mut self, commands: &[Command]) -> Run {
        let mut statuses = Vec::new();
        let mut input = None;
        for (index, command) in commands.iter().enumerate() {
            let outer = self.enter()?;
            if let Some(bytes) = input.take() {
                self.files.set(0, Stream::Input(Input::new(bytes)));
            }
            let buffer = Arc::new(Mutex::new(Vec::new()));
            let is_last = index + 1 == commands.len();
            if !is_last {
                self.files.set(1, Stream::Buffer(Arc::clone(&buffer)));
            }
            let result = self.command(command).await;
            statuses.push(self.leave(outer, result).await?);
            if !is_last {
                input = Some(std::mem::take(&mut *buffer.lock()));
            }
        }
        let last = statuses.last().copied().unwrap_or_default();
        let failed = statuses.iter().rev().copied().find(|status| *status != 0);
        let texts: BTreeMap<usize, String> =
            statuses.iter().enumerate().map(|(index, status)| (index, status.to_string())).collect();
        // A name of bash's own, which nobody can make read-only.
        let _ = self.state.replace("PIPESTATUS", Value::Indexed(texts));
        Ok(if self.state.options.pipefail { failed.unwrap_or_default() } else { last })
    }

    /// Begins a subshell: what is done to the state from here on is undone by [`Shell::leave`].
    pub(super) fn enter(&mut self) -> Result<Outer, Stop> {
        let outer = Outer { state: self.state.clone(), files: self.files.clone(), depth: self.depth };
        self.state.exit_trap = None;
        self.deeper()?;
        Ok(outer)
    }

    /// Ends a subshell; what ended it ends only it.
    pub(super) async fn leave(&mut self, outer: Outer, result: Run) -> Run {
        let result = self.after_exit(result).await;
        let Outer { state, files, depth } = outer;
        (self.state, self.files, self.depth) = (state, files, depth);
        match result {
            Ok(status) | Err(Stop::Exit(status) | Stop::Return(status)) => Ok(status),
            Err(Stop::Break(_) | Stop::Continue(_)) => Ok(0),
            Err(fatal @ Stop::Fatal(_)) => Err(fatal),
        }
    }

    /// Runs the trap of a shell that ends.
    pub(super) async fn after_exit(&mut self, result: Run) -> Run {
        let Some(trap) = self.state.exit_trap.take() else { return result };
        let status = match &result {
            Ok(status) | Err(Stop::Exit(status) | Stop::Return(status)) => *status,
            Err(Stop::Fatal(_)) => return result,
            Err(_) => 0,
        };
        self.state.status = status;
        self.state.options.errexit = false;
        match self.source(&trap).await {
            Err(Stop::Exit(status)) => Err(Stop::Exit(status)),
            Err(fatal @ Stop::Fatal(_)) => Err(fatal),
            _ => result,
        }
    }

    pub(super) fn deeper(&mut self) -> Result<(), Stop> {
        if self.depth >= MAX_DEPTH {
            return Err(Stop::Fatal(format!(
                "more than {MAX_DEPTH} commands within one another: a recursion without end?"
            )));
        }
        self.depth += 1;
        Ok(())
    }

    /// The output of a command, without the newlines at its end.
    pub(super) async fn substitute(&mut self, list: &List) -> Result<String, Stop> {
        let outer = self.enter()?;
        let buffer = Arc::new(Mutex::new(Vec::new()));
        self.files.set(1, Stream::Buffer(Arc::clone(&buffer)));
        // bash's own rule; `sh` keeps it.
        self.state.options.errexit &= self.state.options.posix;
        let result = match read_only(list) {
            Some(redirect) => self.content(redirect).await,
            None => self.list(list).await,
        };
        let status = self.leave(outer, result).await?;
        self.state.substituted = Some(status);
        let bytes = std::mem::take(&mut *buffer.lock());
        self.charge(bytes.len() as u64 / 4096)?;
        let text: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
        Ok(String::from_utf8_lossy(&text).trim_end_matches('\n').to_owned())
    }

    /// `$(<file)`.
    async fn content(&mut self, redirect: &Redirect) -> Run {
        if !self.redirect(redirect).await? {
            return Ok(1);
        }
        let bytes = self.files.input(0).map(|input| input.lock().rest()).unwrap_or_default();
        self.write(1, &bytes)?;
        Ok(0)
    }

    /// Runs a text as part of this shell.
    pub(super) fn source<'a>(&'a mut self, text: &'a str) -> BoxFuture<'a, Run> {
        Box::pin(async move {
            self.deeper()?;
            let result = match super::parser::parse(text) {
                Ok(list) => self.list(&list).await,
                Err(error) => {
                    let message = format!("{}: {error}\n", self.state.name);
                    self.write(2, message.as_bytes())?;
                    Ok(2)
                }
            };
            self.depth -= 1;
            result
        })
    }

    // === commands ===

    pub(super) fn command<'a>(&'a mut self, command: &'a Command) -> BoxFuture<'a, Run> {
        Box::pin(async move {
            self.step().await?;
            self.state.line = command.line;
            if let Kind::Simple { assignments, arguments } = &command.kind {
                return self.simple(assignments, arguments, &command.redirects).await;
            }
            self.deeper()?;
            let files = self.files.clone();
            let mut result = Ok(1);
            if self.redirects(&command.redirects).await? {
                result = self.compound(&command.kind).await;
            }
            self.files = files;
            self.depth -= 1;
            result
        })
    }

    pub(super) fn assign_text(&mut self, name: &str, text: String) -> Result<(), Stop> {
        self.state.set(name, text).map_err(|reason| {
            self.complain(&reason);
            Stop::Exit(1)
        })
    }

    async fn simple(&mut self, assignments: &[Assignment], arguments: &[Argument], redirects: &[Redirect]) -> Run {
        self.state.substituted = None;
        let mut argv = Vec::new();
        let mut declared = Vec::new();
        for argument in arguments {
            match argument {
                Argument::Word(word) => argv.extend(self.fields(word).await?),
                Argument::Assignment(assignment) => declared.push(assignment),
            }
        }
        if self.state.options.xtrace {
            let line = format!("+ {}\n", argv.join(" "));
            self.write(2, line.as_bytes())?;
        }
        let files = self.files.clone();
        if argv.is_empty() {
            for assignment in assignments {
                self.assign(assignment).await?;
            }
            let opened = self.redirects(redirects).await?;
            self.files = files;
            return Ok(if opened { self.state.substituted.unwrap_or_default() } else { 1 });
        }
        let keeps_files = argv[0] == "exec" && argv.len() == 1;
        if !self.redirects(redirects).await? {
            self.files = files;
            return Ok(1);
        }
        // Assignments before a command hold for it alone.
        let mut hidden: Vec<(String, Option<Variable>)> = Vec::new();
        for assignment in assignments {
            let name = &assignment.name;
            hidden.push((name.clone(), self.state.variables.get(name).cloned()));
            self.assign(assignment).await?;
            self.state.export(name, true);
        }
        let result = if declared.is_empty() { self.invoke(argv).await } else { self.declare(&argv, &declared).await };
        for (name, variable) in hidden.into_iter().rev() {
            match variable {
                Some(variable) => self.state.variables.insert(name, variable),
                None => self.state.variables.remove(&name),
            };
        }
        if !keeps_files {
            self.files = files;
        }
        result
    }
}

/// The redirection of a list that is nothing else: `$(<file)`.
fn read_only(list: &List) -> Option<&Redirect> {
    let [item] = list.as_slice() else { return None };
    let [command] = item.chain.first.commands.as_slice() else { return None };
    match (&command.kind, command.redirects.as_slice()) {
        (Kind::Simple { assignments, arguments }, [redirect @ Redirect { kind: RedirectKind::Read(_), .. }])
            if assignments.is_empty() && arguments.is_empty() =>
        {
            Some(redirect)
        }
        _ => None,
    }
}
