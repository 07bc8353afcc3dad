//! Finds what a command's name means, and runs it: functions, what the shell does itself, programs, scripts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use super::{
    ast,
    command::{Call, Exit},
    exec::{Run, Shell, Stop},
    files::Input,
    programs::{self, Context},
    state::State,
};

/// Where the image has its programs.
const BIN_FOLDERS: [&str; 6] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Programs that run others, and the shells themselves.
const RUNNERS: [&str; 12] =
    ["bash", "sh", "dash", "env", "sudo", "nohup", "nice", "timeout", "xargs", "sleep", "time", "setsid"];

impl Shell<'_> {
    /// Runs a command whose words are expanded.
    pub(super) fn invoke(&mut self, argv: Vec<String>) -> BoxFuture<'_, Run> {
        Box::pin(async move {
            if argv.is_empty() {
                return Ok(0);
            }
            self.charge(argv.len() as u64 / 16)?;
            if let Some(body) = self.state.functions.get(&argv[0]).cloned() {
                return self.function(&body, argv).await;
            }
            if let Some(status) = self.builtin(&argv).await? {
                return Ok(status);
            }
            self.program(argv).await
        })
    }

    async fn function(&mut self, body: &Arc<ast::Command>, argv: Vec<String>) -> Run {
        self.deeper()?;
        let depth = self.depth;
        let positional = std::mem::replace(&mut self.state.positional, argv[1..].to_vec());
        self.state.locals.push(BTreeMap::new());
        let result = self.command(body).await;
        self.state.leave_function();
        self.state.positional = positional;
        self.depth = depth - 1;
        match result {
            Err(Stop::Return(status)) => Ok(status),
            result => result,
        }
    }

    /// Whether a name is known, and as what, in the words of `type`.
    pub(super) fn describe(&self, name: &str) -> Option<String> {
        if self.state.functions.contains_key(name) {
            return Some(format!("{name} is a function"));
        }
        if super::builtins::is_builtin(name) {
            return Some(format!("{name} is a shell builtin"));
        }
        self.path_of(name).map(|path| format!("{name} is {path}"))
    }

    /// Path of a program.
    pub(super) fn path_of(&self, name: &str) -> Option<String> {
        if name.contains('/') {
            let (folder, base) = name.rsplit_once('/')?;
            let known = BIN_FOLDERS.contains(&folder) && self.is_program(base);
            let path = self.absolute(name);
            return (known || self.machine.root.is_file(&path)).then(|| name.to_owned());
        }
        let script = self.script_in_path(name);
        script.or_else(|| self.is_program(name).then(|| format!("/usr/bin/{name}")))
    }

    fn is_program(&self, name: &str) -> bool {
        RUNNERS.contains(&name)
            || super::builtins::is_also_program(name)
            || programs::find(name).is_some()
            || self.commands.has(name)
    }

    /// A file of this name in the folders of `PATH`.
    fn script_in_path(&self, name: &str) -> Option<String> {
        let path = self.state.scalar("PATH").unwrap_or_default();
        path.split(':').map(|folder| format!("{folder}/{name}")).find(|path| self.machine.root.is_file(path))
    }

    async fn program(&mut self, argv: Vec<String>) -> Run {
        let name = argv[0].clone();
        let mut base = name.clone();
        if let Some((folder, last)) = name.rsplit_once('/') {
            let path = self.absolute(&name);
            match self.machine.root.metadata(&path) {
                Ok(_) if self.machine.root.is_directory(&path) => {
                    self.complain(&format!("{name}: Is a directory"));
                    return Ok(126);
                }
                Ok(metadata) if metadata.mode & 0o111 == 0 => {
                    self.complain(&format!("{name}: Permission denied"));
                    return Ok(126);
                }
                Ok(_) => return self.file(&path, argv).await,
                Err(_) if BIN_FOLDERS.contains(&folder) && self.is_program(last) => last.clone_into(&mut base),
                Err(error) => {
                    self.complain(&format!("{name}: {error}"));
                    return Ok(127);
                }
            }
        } else if let Some(path) = self.script_in_path(&name) {
            return self.file(&path, argv).await;
        }
        if super::builtins::is_also_program(&base) {
            let argv: Vec<String> = [base].into_iter().chain(argv.into_iter().skip(1)).collect();
            return self.builtin(&argv).await.map(Option::unwrap_or_default);
        }
        if RUNNERS.contains(&base.as_str()) {
            return self.runner(&base, argv).await;
        }
        if let Some(program) = programs::find(&base) {
            let stdin = self.files.input(0).unwrap_or_else(|| Input::new(Vec::new()));
            let exit = program(&mut Context {
                name: &base,
                args: &argv[1..],
                directory: &self.state.directory,
                machine: self.machine,
                stdin,
            });
            let status = self.finish(exit)?;
            // What systemctl was told to start runs here, within the bounds of this run.
            while let Some(unit) = self.machine.services.requested() {
                let started = self.start_unit(&unit).await?;
                if started != 0 {
                    return Ok(started);
                }
            }
            return Ok(status);
        }
        if self.commands.has(&base) {
            return self.external(argv).await;
        }
        self.complain(&format!("{name}: command not found"));
        Ok(127)
    }

    pub(super) fn finish(&mut self, exit: Exit) -> Run {
        self.charge((exit.stdout.len() + exit.stderr.len()) as u64 / 4096)?;
        if !exit.stdout.is_empty() {
            self.write(1, &exit.stdout)?;
        }
        if !exit.stderr.is_empty() {
            self.write(2, &exit.stderr)?;
        }
        Ok(exit.code)
    }

    async fn external(&mut self, argv: Vec<String>) -> Run {
        let stdin = self.files.input(0).map(|input| input.lock().rest()).unwrap_or_default();
        let left = Duration::from_millis(self.left());
        let env = self.state.environment();
        let directory = self.state.directory.clone();
        let clock = Arc::clone(&self.machine.clock);
        let call = Call { argv: &argv, stdin: &stdin, env: &env, directory: &directory, machine: self.machine };
        let program = self.commands.run(call);
        let limit = clock.sleep(left);
        // The program is asked first, so that a clock that jumps does not overtake it.
        let exit = match futures::future::select(program, limit).await {
            futures::future::Either::Left((exit, _)) => exit,
            futures::future::Either::Right(_) => {
                return Err(Stop::Fatal(format!("{} did not end within {} s", argv[0], left.as_secs())));
            }
        };
        self.finish(exit)
    }

    /// A file that is run as a program: a script with its interpreter.
    async fn file(&mut self, path: &str, argv: Vec<String>) -> Run {
        let content = match self.machine.root.read(path) {
            Ok(content) => content,
            Err(error) => {
                self.complain(&format!("{path}: {error}"));
                return Ok(126);
            }
        };
        let text = String::from_utf8_lossy(&content).into_owned();
        let first = text.lines().next().unwrap_or_default();
        let Some(line) = first.strip_prefix("#!") else {
            if content.contains(&0) {
                self.complain(&format!("{path}: cannot execute binary file: Exec format error"));
                return Ok(126);
            }
            return self.run_script(path, &text, argv[1..].to_vec(), true, &[]).await;
        };
        let mut words = line.split_whitespace();
        let mut interpreter = words.next().unwrap_or_default();
        if interpreter.ends_with("/env") {
            interpreter = words.next().unwrap_or_default();
        }
        let flags: Vec<String> = words.map(str::to_owned).collect();
        match interpreter.rsplit('/').next().unwrap_or_default() {
            "bash" => self.run_script(path, &text, argv[1..].to_vec(), false, &flags).await,
            "sh" | "dash" => self.run_script(path, &text, argv[1..].to_vec(), true, &flags).await,
            _ => {
                self.complain(&format!("{path}: {interpreter}: bad interpreter: this image has none"));
                Ok(126)
            }
        }
    }

    /// Runs a script in a shell of its own.
    async fn run_script(&mut self, name: &str, text: &str, args: Vec<String>, posix: bool, flags: &[String]) -> Run {
        let outer = self.enter()?;
        let mut state = State::new(name, &self.state.environment(), &self.state.directory);
        state.positional = args;
        state.options.posix = posix;
        self.state = state;
        let mut result = if flags.is_empty() { Ok(0) } else { self.set_options(flags) };
        if matches!(result, Ok(0)) {
            // A list of a script is one deeper than its shell.
            self.outermost.get_or_insert(self.depth + 1);
            result = self.source(text).await;
        }
        self.leave(outer, result).await
    }

    async fn runner(&mut self, base: &str, argv: Vec<String>) -> Run {
        match base {
            "bash" | "sh" | "dash" => self.shell_program(base, argv).await,
            "sleep" => self.sleep(&argv[1..]).await,
            "env" => self.env(argv).await,
            "timeout" => self.timeout(argv).await,
            "xargs" => self.xargs(argv).await,
            // Everything runs as root already, and alone.
            name => {
                let mut words = argv[1..].iter().peekable();
                while let Some(word) = words.peek().filter(|word| word.starts_with('-')) {
                    let takes_value = (name == "sudo" && matches!(word.as_str(), "-u" | "-g"))
                        || (name == "nice" && word.as_str() == "-n");
                    words.next();
                    if takes_value {
                        words.next();
                    }
                }
                let rest: Vec<String> = words.cloned().collect();
                self.without_builtins(rest).await
            }
        }
    }

    /// Runs a program; names of functions mean nothing to it.
    pub(super) fn without_builtins(&mut self, argv: Vec<String>) -> BoxFuture<'_, Run> {
        Box::pin(async move {
            let Some(name) = argv.first() else { return Ok(0) };
            // Programs that run programs that run programs.
            self.deeper()?;
            let depth = self.depth;
            let result = if super::builtins::is_also_program(name) {
                self.builtin(&argv).await.map(Option::unwrap_or_default)
            } else {
                self.program(argv).await
            };
            self.depth = depth - 1;
            result
        })
    }

    async fn shell_program(&mut self, base: &str, argv: Vec<String>) -> Run {
        let posix = base != "bash";
        let mut flags = Vec::new();
        let mut rest = argv[1..].iter();
        let mut command = None;
        let mut from_input = false;
        let file = loop {
            match rest.next() {
                Some(word) if word == "--" => break rest.next().cloned(),
                Some(word) if word == "--login" || word == "-l" || word == "-i" || word == "--norc" => {}
                Some(word) if word == "-s" => from_input = true,
                Some(word) if word == "-o" || word == "+o" => {
                    flags.push(word.clone());
                    flags.extend(rest.next().cloned());
                }
                Some(word) if word.starts_with('-') && word.len() > 1 => {
                    let letters: String = word[1..].chars().filter(|c| !matches!(c, 'c' | 'l' | 'i')).collect();
                    if let Some(letters) = letters.strip_suffix('o') {
                        flags.push(format!("-{letters}"));
                        flags.push("-o".to_owned());
                        flags.extend(rest.next().cloned());
                    } else if !letters.is_empty() {
                        flags.push(format!("-{letters}"));
                    }
                    if word.contains('c') {
                        command = rest.next().cloned();
                        if command.is_none() {
                            return self.finish(Exit::fail(2, format!("{base}: -c: option requires an argument")));
                        }
                        break None;
                    }
                }
                other => break other.cloned(),
            }
        };
        flags.retain(|flag| flag != "-");
        if let Some(text) = command {
            let name = rest.next().cloned().unwrap_or_else(|| base.to_owned());
            return self.run_script(&name, &text, rest.cloned().collect(), posix, &flags).await;
        }
        match file {
            Some(file) if !from_input => {
                let path = self.absolute(&file);
                match self.machine.root.read_text(&path) {
                    Ok(text) => self.run_script(&file, &text, rest.cloned().collect(), posix, &flags).await,
                    Err(error) => self.finish(Exit::fail(127, format!("{base}: {file}: {error}"))),
                }
            }
            file => {
                let text = self.files.input(0).map(|input| input.lock().rest()).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                let args = file.into_iter().chain(rest.cloned()).collect();
                self.run_script(base, &text, args, posix, &flags).await
            }
        }
    }

    async fn sleep(&mut self, args: &[String]) -> Run {
        let mut total = 0.0;
        for arg in args {
            match programs::seconds(arg) {
                Some(seconds) => total += seconds,
                None => return self.finish(Exit::fail(1, format!("sleep: invalid time interval '{arg}'"))),
            }
        }
        if args.is_empty() {
            return self.finish(Exit::fail(1, "sleep: missing operand"));
        }
        // Longer than the run may take is as good as for ever.
        let most = Duration::from_millis(self.left().saturating_add(1));
        let wanted = Duration::try_from_secs_f64(total).unwrap_or(most).min(most);
        let clock = Arc::clone(&self.machine.clock);
        clock.sleep(wanted).await;
        self.charge(1)?;
        Ok(0)
    }

    async fn env(&mut self, argv: Vec<String>) -> Run {
        let mut words = argv[1..].iter().peekable();
        let variables = self.state.variables.clone();
        while let Some(word) = words.peek() {
            if word.as_str() == "-i" {
                self.state.variables.retain(|_, variable| !variable.exported);
            } else if word.as_str() == "-u" {
                words.next();
                if let Some(name) = words.peek() {
                    // A read-only variable stays, as it is nobody's to take away.
                    let _ = self.state.unset(name);
                }
            } else if let Some((name, value)) = word.split_once('=') {
                self.assign_text(name, value.to_owned())?;
                self.state.export(name, true);
            } else {
                break;
            }
            words.next();
        }
        let rest: Vec<String> = words.cloned().collect();
        let result = if rest.is_empty() {
            let text: String =
                self.state.environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
            self.print(&text)
        } else {
            self.without_builtins(rest).await
        };
        self.state.variables = variables;
        result
    }

    async fn timeout(&mut self, argv: Vec<String>) -> Run {
        let mut words = argv[1..].iter().peekable();
        while let Some(word) = words.peek().filter(|word| word.starts_with('-')) {
            let takes_value = matches!(word.as_str(), "-k" | "-s");
            words.next();
            if takes_value {
                words.next();
            }
        }
        let Some(seconds) = words.next().and_then(|word| programs::seconds(word)) else {
            return self.finish(Exit::fail(125, "timeout: invalid time interval"));
        };
        let rest: Vec<String> = words.cloned().collect();
        let milliseconds = Duration::try_from_secs_f64(seconds)
            .map_or(u64::MAX, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let outer = self.shorten(milliseconds);
        let result = self.without_builtins(rest).await;
        let over = self.left() == 0;
        let run_is_over = self.restore(outer);
        match result {
            Err(Stop::Fatal(_)) if over && !run_is_over => Ok(124),
            result => result,
        }
    }

    async fn xargs(&mut self, argv: Vec<String>) -> Run {
        let mut words = argv[1..].iter().peekable();
        let (mut per_call, mut replace, mut skips_empty, mut by_zero) = (usize::MAX, None, false, false);
        while let Some(word) = words.peek().filter(|word| word.starts_with('-')).map(|word| (*word).clone()) {
            words.next();
            match word.as_str() {
                "-r" | "--no-run-if-empty" => skips_empty = true,
                "-0" | "--null" => by_zero = true,
                "-n" => per_call = words.next().and_then(|count| count.parse().ok()).unwrap_or(1),
                "-I" => replace = words.next().cloned(),
                _ if word.starts_with("-n") => per_call = word[2..].parse().unwrap_or(1),
                _ if word.starts_with("-I") => replace = Some(word[2..].to_owned()),
                _ => return self.finish(Exit::fail(1, format!("xargs: unknown option '{word}'"))),
            }
        }
        let mut base: Vec<String> = words.cloned().collect();
        if base.is_empty() {
            base.push("echo".to_owned());
        }
        let input = self.files.input(0).map(|input| input.lock().rest()).unwrap_or_default();
        let text = String::from_utf8_lossy(&input).into_owned();
        let items: Vec<&str> = if by_zero {
            text.split('\0').filter(|item| !item.is_empty()).collect()
        } else if replace.is_some() {
            text.lines().map(str::trim).filter(|item| !item.is_empty()).collect()
        } else {
            text.split_whitespace().collect()
        };
        let calls: Vec<Vec<String>> = match &replace {
            Some(mark) => {
                items.iter().map(|item| base.iter().map(|word| word.replace(mark.as_str(), item)).collect()).collect()
            }
            None if items.is_empty() && skips_empty => Vec::new(),
            None if items.is_empty() => vec![base],
            None => items
                .chunks(per_call.max(1))
                .map(|chunk| base.iter().cloned().chain(chunk.iter().map(|item| (*item).to_owned())).collect())
                .collect(),
        };
        let mut status = 0;
        for call in calls {
            self.charge(1)?;
            let one = self.without_builtins(call).await?;
            status = match one {
                0 => status,
                126 | 127 => return Ok(one),
                _ => 123,
            };
        }
        Ok(status)
    }
}
