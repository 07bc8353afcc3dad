//! What the shell does itself (XCU 2.14 and the bash manual).

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use super::{
    ast::{AssignedValue, Assignment},
    exec::{Run, Shell, Stop},
    programs,
    state::Value,
};

const BUILTINS: [&str; 44] = [
    ":",
    "true",
    "false",
    "echo",
    "printf",
    "cd",
    "pwd",
    "test",
    "[",
    "set",
    "unset",
    "export",
    "local",
    "declare",
    "typeset",
    "readonly",
    "shift",
    "return",
    "exit",
    "break",
    "continue",
    "read",
    "eval",
    "source",
    ".",
    "trap",
    "type",
    "command",
    "builtin",
    "wait",
    "exec",
    "let",
    "getopts",
    "umask",
    "ulimit",
    "hash",
    "shopt",
    "times",
    "jobs",
    "disown",
    "mapfile",
    "readarray",
    "alias",
    "unalias",
];
/// Those that are programs of their own as well.
const ALSO_PROGRAMS: [&str; 7] = ["true", "false", "echo", "printf", "pwd", "test", "["];

pub(super) fn is_builtin(name: &str) -> bool {
    BUILTINS.contains(&name)
}

pub(super) fn is_also_program(name: &str) -> bool {
    ALSO_PROGRAMS.contains(&name)
}

impl Shell<'_> {
    /// Runs a builtin; none where the name is none.
    pub(super) fn builtin<'a>(&'a mut self, argv: &'a [String]) -> BoxFuture<'a, Result<Option<u8>, Stop>> {
        Box::pin(self.run_builtin(argv))
    }

    async fn run_builtin(&mut self, argv: &[String]) -> Result<Option<u8>, Stop> {
        let args = &argv[1..];
        let number = |text: Option<&String>, default: i64| -> Result<i64, String> {
            match text {
                None => Ok(default),
                Some(text) => text.trim().parse().map_err(|_| format!("{text}: numeric argument required")),
            }
        };
        let status = match argv[0].as_str() {
            ":" | "true" | "wait" | "ulimit" | "hash" | "shopt" | "times" | "jobs" | "disown" | "alias" | "unalias" => {
                0
            }
            "false" => 1,
            "echo" => {
                let text = programs::text::echo(args, self.state.options.posix);
                self.write(1, text.as_bytes())?;
                0
            }
            "printf" => self.printf(args)?,
            "umask" => {
                if args.is_empty() {
                    self.print("0022\n")?;
                }
                0
            }
            "cd" => self.cd(args)?,
            "pwd" => self.print(&format!("{}\n", self.state.directory))?,
            "test" => self.test(args),
            "[" => match args.split_last() {
                Some((last, rest)) if last == "]" => self.test(rest),
                _ => {
                    self.complain("[: missing `]'");
                    2
                }
            },
            "set" => self.set_options(args)?,
            "unset" => self.unset(args),
            "export" | "readonly" | "local" | "declare" | "typeset" => self.declare(argv, &[]).await?,
            "shift" => {
                let count = usize::try_from(number(args.first(), 1).unwrap_or(1)).unwrap_or(usize::MAX);
                if count > self.state.positional.len() {
                    1
                } else {
                    self.state.positional.drain(..count);
                    0
                }
            }
            "return" | "exit" => {
                let status = match number(args.first(), i64::from(self.state.status)) {
                    Ok(status) => u8::try_from(status & 0xff).unwrap_or_default(),
                    Err(reason) => {
                        self.complain(&format!("{}: {reason}", argv[0]));
                        2
                    }
                };
                return Err(if argv[0] == "exit" { Stop::Exit(status) } else { Stop::Return(status) });
            }
            "break" | "continue" => {
                let levels = usize::try_from(number(args.first(), 1).unwrap_or(1)).unwrap_or(1).max(1);
                return Err(if argv[0] == "break" { Stop::Break(levels) } else { Stop::Continue(levels) });
            }
            "read" => self.read(args)?,
            "eval" => self.source(&args.join(" ")).await?,
            "source" | "." => self.source_file(args).await?,
            "trap" => {
                self.trap(args);
                0
            }
            "type" => self.describe_all(args)?,
            "command" | "builtin" => return self.command_builtin(args).await.map(Some),
            "exec" => {
                if args.is_empty() {
                    0
                } else {
                    let status = self.without_builtins(args.to_vec()).await?;
                    return Err(Stop::Exit(status));
                }
            }
            "let" => {
                let mut last = 0;
                for arg in args {
                    last = self.compute(arg)?;
                }
                u8::from(last == 0)
            }
            "getopts" => self.getopts(args)?,
            "mapfile" | "readarray" => self.mapfile(args)?,
            _ => return Ok(None),
        };
        Ok(Some(status))
    }

    fn trap(&mut self, args: &[String]) {
        if let [action, signals @ ..] = args
            && signals.iter().any(|signal| signal == "EXIT" || signal == "0")
        {
            self.state.exit_trap = (action != "-").then(|| action.clone());
        }
    }

    fn describe_all(&mut self, args: &[String]) -> Run {
        let mut status = 0;
        for name in args.iter().filter(|name| !name.starts_with('-')) {
            if let Some(text) = self.describe(name) {
                self.print(&format!("{text}\n"))?;
            } else {
                self.complain(&format!("type: {name}: not found"));
                status = 1;
            }
        }
        Ok(status)
    }

    fn printf(&mut self, args: &[String]) -> Run {
        let (variable, args) = match args {
            [flag, name, rest @ ..] if flag == "-v" => (Some(name), rest),
            args => (None, args),
        };
        let args = if args.first().is_some_and(|arg| arg == "--") { &args[1..] } else { args };
        let Some((format, values)) = args.split_first() else {
            self.complain("printf: usage: printf [-v var] format [arguments]");
            return Ok(2);
        };
        let (text, complaint) = programs::printf::format(format, values);
        if let Some(name) = variable {
            self.assign_text(name, text)?;
        } else {
            self.write(1, text.as_bytes())?;
        }
        match complaint {
            Some(complaint) => {
                self.complain(&format!("printf: {complaint}"));
                Ok(1)
            }
            None => Ok(0),
        }
    }

    fn cd(&mut self, args: &[String]) -> Run {
        let wanted = match args.iter().find(|arg| !matches!(arg.as_str(), "--" | "-P" | "-L")) {
            Some(arg) if arg == "-" => self.state.scalar("OLDPWD").unwrap_or_else(|| "/".to_owned()),
            Some(arg) => arg.clone(),
            None => self.state.scalar("HOME").unwrap_or_else(|| "/root".to_owned()),
        };
        let path = self.absolute(&wanted);
        let root = &self.machine.root;
        match root.canonical(&path) {
            Ok(found) if root.is_directory(&found) => {
                let old = std::mem::replace(&mut self.state.directory, found.clone());
                self.assign_text("OLDPWD", old)?;
                self.assign_text("PWD", found)?;
                Ok(0)
            }
            Ok(_) => {
                self.complain(&format!("cd: {wanted}: Not a directory"));
                Ok(1)
            }
            Err(error) => {
                self.complain(&format!("cd: {wanted}: {error}"));
                Ok(1)
            }
        }
    }

    /// Sets one option as `set` and the command line of a shell do: `-e`, `-eu`, `pipefail` after `-o`.
    fn option(&mut self, flag: &str, on: bool) -> Result<(), Stop> {
        let on = on && !flag.starts_with('+');
        for letter in flag.trim_start_matches(['-', '+']).chars() {
            let options = &mut self.state.options;
            match letter {
                'e' => options.errexit = on,
                'u' => options.nounset = on,
                'x' => options.xtrace = on,
                'f' => options.noglob = on,
                'n' => options.noexec = on,
                'a' | 'b' | 'h' | 'm' | 'v' | 'B' | 'C' | 'E' | 'H' | 'T' | 'P' | 'o' => {}
                letter => {
                    self.complain(&format!("set: -{letter}: invalid option"));
                    return Err(Stop::Exit(2));
                }
            }
        }
        Ok(())
    }

    pub(super) fn set_options(&mut self, args: &[String]) -> Run {
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--" => {
                    self.state.positional = args.cloned().collect();
                    return Ok(0);
                }
                arg if arg.len() > 1 && (arg.starts_with('-') || arg.starts_with('+')) => {
                    let on = arg.starts_with('-');
                    self.option(arg, on)?;
                    if arg.ends_with('o') {
                        let Some(name) = args.next() else { return Ok(0) };
                        let options = &mut self.state.options;
                        match name.as_str() {
                            "errexit" => options.errexit = on,
                            "nounset" => options.nounset = on,
                            "pipefail" => options.pipefail = on,
                            "xtrace" => options.xtrace = on,
                            "noglob" => options.noglob = on,
                            "noexec" => options.noexec = on,
                            "posix" | "errtrace" | "functrace" | "monitor" | "noclobber" | "allexport" | "verbose" => {}
                            name => {
                                let message = format!("set: {name}: invalid option name");
                                self.complain(&message);
                                return Ok(2);
                            }
                        }
                    }
                }
                arg => {
                    self.state.positional = [arg.to_owned()].into_iter().chain(args.cloned()).collect();
                    return Ok(0);
                }
            }
        }
        Ok(0)
    }

    fn unset(&mut self, args: &[String]) -> u8 {
        let functions = args.iter().any(|arg| arg == "-f");
        let mut status = 0;
        for name in args.iter().filter(|arg| !arg.starts_with('-')) {
            if functions {
                self.state.functions.remove(name);
            } else if let Some((array, index)) = name.split_once('[') {
                let key = index.trim_end_matches(']').to_owned();
                let mut elements = self.state.elements(array);
                elements.retain(|(present, _)| *present != key);
                let value = if self.state.is_associative(array) {
                    Value::Associative(elements.into_iter().collect())
                } else {
                    Value::Indexed(
                        elements.into_iter().filter_map(|(key, text)| Some((key.parse().ok()?, text))).collect(),
                    )
                };
                if let Err(reason) = self.state.replace(array, value) {
                    self.complain(&format!("unset: {reason}"));
                    status = 1;
                }
            } else if let Err(reason) = self.state.unset(name) {
                self.complain(&format!("unset: {reason}"));
                status = 1;
            }
        }
        status
    }

    /// `export`, `readonly`, `local`, `declare`.
    pub(super) async fn declare(&mut self, argv: &[String], assignments: &[&Assignment]) -> Run {
        let command = argv[0].as_str();
        let flags: String = argv[1..].iter().filter(|arg| arg.starts_with('-')).map(|arg| &arg[1..]).collect();
        if flags.contains('p') || (argv.len() == 1 && assignments.is_empty()) {
            let text: String = self
                .state
                .environment()
                .iter()
                .map(|(name, value)| format!("declare -x {name}=\"{value}\"\n"))
                .collect();
            return self.print(&text);
        }
        let local = matches!(command, "local" | "declare" | "typeset")
            && !flags.contains('g')
            && (command == "local" || !self.state.locals.is_empty());
        let plain = argv[1..].iter().filter(|arg| !arg.starts_with('-'));
        // What expanded to `name=value` is an assignment as well.
        let plain: Vec<(String, Option<String>)> = plain
            .map(|arg| match arg.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (arg.clone(), None),
            })
            .collect();
        let names: Vec<String> = assignments
            .iter()
            .map(|assignment| assignment.name.clone())
            .chain(plain.iter().map(|(name, _)| name.clone()))
            .collect();
        for name in &names {
            let is_name = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_name {
                self.complain(&format!("{command}: `{name}': not a valid identifier"));
                return Ok(1);
            }
        }
        // Values are expanded before the names are hidden.
        for assignment in assignments {
            let before = match (&assignment.value, local) {
                (AssignedValue::Scalar(word), true) if !assignment.append && assignment.index.is_none() => {
                    Some(self.text(word).await?)
                }
                _ => None,
            };
            if local {
                self.localize(&assignment.name)?;
            }
            self.shape(&assignment.name, &flags)?;
            match before {
                Some(text) => self.assign_text(&assignment.name, text)?,
                None => self.assign(assignment).await?,
            }
        }
        for (name, value) in &plain {
            if local {
                self.localize(name)?;
            }
            self.shape(name, &flags)?;
            if let Some(value) = value {
                self.assign_text(name, value.clone())?;
            }
        }
        for name in &names {
            if command == "export" || flags.contains('x') {
                self.state.export(name, !flags.contains('n'));
            }
            if (command == "readonly" || flags.contains('r'))
                && let Some(variable) = self.state.variables.get_mut(name)
            {
                variable.read_only = true;
            }
        }
        Ok(0)
    }

    fn localize(&mut self, name: &str) -> Result<(), Stop> {
        self.state.localize(name).map_err(|reason| {
            self.complain(&format!("local: {reason}"));
            Stop::Exit(1)
        })
    }

    fn shape(&mut self, name: &str, flags: &str) -> Result<(), Stop> {
        let value = if flags.contains('A') {
            Value::Associative(BTreeMap::new())
        } else if flags.contains('a') {
            Value::Indexed(BTreeMap::new())
        } else {
            return Ok(());
        };
        self.state.replace(name, value).map_err(|reason| {
            self.complain(&reason);
            Stop::Exit(1)
        })
    }

    async fn source_file(&mut self, args: &[String]) -> Run {
        let Some(name) = args.first() else {
            self.complain(".: filename argument required");
            return Ok(2);
        };
        let path = self.absolute(name);
        match self.machine.root.read_text(&path) {
            Ok(text) => {
                let positional =
                    (args.len() > 1).then(|| std::mem::replace(&mut self.state.positional, args[1..].to_vec()));
                let result = self.source(&text).await;
                if let Some(positional) = positional {
                    self.state.positional = positional;
                }
                match result {
                    Err(Stop::Return(status)) => Ok(status),
                    result => result,
                }
            }
            Err(error) => {
                self.complain(&format!("{name}: {error}"));
                Ok(1)
            }
        }
    }

    async fn command_builtin(&mut self, args: &[String]) -> Run {
        match args {
            [flag, names @ ..] if flag == "-v" || flag == "-V" => {
                let mut status = u8::from(names.is_empty());
                for name in names {
                    let known = self.state.functions.contains_key(name) || is_builtin(name);
                    match if known { Some(name.clone()) } else { self.path_of(name) } {
                        Some(text) => {
                            self.print(&format!("{text}\n"))?;
                        }
                        None => status = 1,
                    }
                }
                Ok(status)
            }
            args => {
                let args: Vec<String> = args.iter().skip_while(|arg| *arg == "-p" || *arg == "--").cloned().collect();
                if args.is_empty() {
                    return Ok(0);
                }
                // Functions are passed over.
                self.deeper()?;
                let depth = self.depth;
                let done = self.builtin(&args).await?;
                self.depth = depth - 1;
                match done {
                    Some(status) => Ok(status),
                    None => self.without_builtins(args).await,
                }
            }
        }
    }
}
