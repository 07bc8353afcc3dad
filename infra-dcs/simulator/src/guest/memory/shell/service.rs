//! Units that a script starts by `systemctl`.

use super::{
    base_environment,
    command::Exit,
    exec::{Run, Shell},
    state::State as ShellState,
};
use crate::guest::memory::systemd::{
    self, State,
    start::{command_line, environment, make_directories, unmet},
};

impl Shell<'_> {
    /// Starts a service of a document and waits until its commands have ended, as `systemctl start` does with one-shots.
    pub(super) async fn start_unit(&mut self, name: &str) -> Run {
        let unit = match systemd::load(&self.machine.root, name) {
            Ok(Some(unit)) => unit,
            Ok(None) => return self.finish(Exit::fail(5, format!("Failed to start {name}: Unit {name} not found."))),
            Err(error) => return self.finish(Exit::fail(1, format!("Failed to start {name}: {error}"))),
        };
        if unmet(&unit.conditions, self.machine).is_some() {
            return Ok(0);
        }
        let env = match environment(&unit.service, &self.machine.root, &base_environment()) {
            Ok(env) => env,
            Err(reason) => return self.finish(Exit::fail(1, format!("Failed to start {name}: {reason}"))),
        };
        let service = &unit.service;
        if let Err(reason) = make_directories(service, &mut self.machine.root) {
            return self.finish(Exit::fail(1, format!("Failed to start {name}: {reason}")));
        }
        for exec in service.exec_start_pre.iter().chain(&service.exec_start).chain(&service.exec_start_post) {
            let line = command_line(exec, &unit, &self.machine.hostname, &env);
            let outer = self.enter()?;
            self.state = ShellState::new("systemd", &env, service.directory.as_deref().unwrap_or("/"));
            let result = self.without_builtins(line.argv).await;
            let status = self.leave(outer, result).await?;
            if status != 0 && !line.may_fail && !service.success.contains(&status) {
                self.machine.services.set(name, State::Failed);
                let message = format!("Job for {name} failed because the control process exited with error code.");
                return self.finish(Exit::fail(1, message));
            }
        }
        let stays = service.kind != "oneshot" || service.remain_after_exit;
        self.machine.services.set(name, if stays { State::Active } else { State::Done });
        Ok(0)
    }
}
