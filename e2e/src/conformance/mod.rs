//! The same questions to clusters of sandbox guests, in which everything is real, and to clusters of memory guests.
//!
//! ```text
//!  checks ──► cluster ──► answers ──► canonical ──► differences to the records ──► excused? ──► report
//!    │                                                   ▲            (memory guests alone)
//!    └ what must be so whoever is asked                  └ e2e/conformance/*.json, recorded from a real cluster
//! ```
//!
//! A check asserts what its author knows of a cluster that kubeadm made, and returns what it heard. That is compared
//! with what a real cluster answered: memory guests are held to what nobody thought of, and sandbox guests show when the
//! records are old. Where the answers differ, the memory guest is wrong, or [`exceptions`] says why it may be.

mod access;
mod addons;
mod answer;
mod canonical;
mod certificates;
pub mod command;
mod defaults;
mod difference;
mod discovery;
mod disruption;
mod etcd;
mod exceptions;
mod kubeadm;
mod kubectl;
mod nodes;
mod objects;
mod patches;
mod reads;
mod records;
mod refusals;
mod static_pods;
mod subject;
mod system;
mod workloads;

use std::{
    collections::BTreeMap,
    ops::Deref,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream};
use serde_json::{Value, json};
use xtask::progress::Progress;

pub use self::subject::{Source, Subject};
use self::{answer::Speaker, exceptions::EXCEPTIONS, records::Answers};
use crate::ground::Guests;

/// How long a check may take; most of them wait for nobody.
const CHECK: Duration = Duration::from_secs(120);
/// Checks that run at a time.
const WIDTH: usize = 6;
/// Differences that a report shows of one check.
const SHOWN: usize = 12;

/// When a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// First: it only looks at what kubeadm and the controllers made.
    Look,
    /// Then: it makes objects in a namespace of its own.
    Use,
    /// Last, one after the other: it changes nodes, which others stand on.
    Alone,
}

/// A question and its name.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    phase: Phase,
    run: for<'a> fn(&'a Corner) -> LocalBoxFuture<'a, Result<Value>>,
}

/// Lists async functions as the checks of a theme.
macro_rules! checks {
    ($($phase:ident: $($name:ident),+ $(,)?;)+) => {
        /// The checks of this theme.
        pub(super) const CHECKS: &[$crate::conformance::Check] = &[$($($crate::conformance::Check {
            name: stringify!($name),
            phase: $crate::conformance::Phase::$phase,
            run: |corner| Box::pin($name(corner)),
        },)+)+];
    };
}
use checks;

/// Themes, by the names of their files.
const THEMES: &[(&str, &[Check])] = &[
    ("access", access::CHECKS),
    ("addons", addons::CHECKS),
    ("certificates", certificates::CHECKS),
    ("defaults", defaults::CHECKS),
    ("discovery", discovery::CHECKS),
    ("disruption", disruption::CHECKS),
    ("etcd", etcd::CHECKS),
    ("kubeadm", kubeadm::CHECKS),
    ("kubectl", kubectl::CHECKS),
    ("nodes", nodes::CHECKS),
    ("objects", objects::CHECKS),
    ("patches", patches::CHECKS),
    ("reads", reads::CHECKS),
    ("refusals", refusals::CHECKS),
    ("static_pods", static_pods::CHECKS),
    ("system", system::CHECKS),
    ("workloads", workloads::CHECKS),
];

/// A check's own corner of the cluster.
struct Corner {
    subject: Arc<Subject>,
    /// Its namespace; there is none for a check that only looks.
    namespace: String,
}

impl Deref for Corner {
    type Target = Speaker;

    fn deref(&self) -> &Speaker {
        &self.subject.admin
    }
}

impl Corner {
    /// Path of a collection of core objects in the namespace, or of what is below it.
    fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.namespace)
    }

    /// The same of a group and version, such as `apps/v1`.
    fn group(&self, group: &str, rest: &str) -> String {
        format!("/apis/{group}/namespaces/{}/{rest}", self.namespace)
    }

    async fn prepare(&self) -> Result<()> {
        let namespace = json!({"metadata": {"name": self.namespace}});
        // One that an earlier run left is not yet gone.
        self.gone(&format!("/api/v1/namespaces/{}", self.namespace)).await?;
        self.post("/api/v1/namespaces", &namespace).await?.ok()?;
        // Pods are refused until their account is there.
        self.until(&self.core("serviceaccounts/default"), "made", |_| true).await.map(drop)
    }

    async fn clean(&self) -> Result<()> {
        self.delete(&format!("/api/v1/namespaces/{}", self.namespace), &json!({})).await.map(drop)
    }
}

/// What is done with the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// They are held against the records.
    Compare,
    /// They become the records.
    Record,
}

impl Purpose {
    /// From the flag `--record`.
    pub fn of(record: bool) -> Self {
        if record { Self::Record } else { Self::Compare }
    }
}

/// What a check said, or why it failed.
struct Outcome {
    theme: &'static str,
    name: &'static str,
    answer: Result<Value>,
}

/// Asks everything whose `theme/name` contains `filter`, and fails with a report of what is not as it should be.
pub async fn run(subject: &Arc<Subject>, purpose: Purpose, filter: Option<&str>, progress: &Progress) -> Result<()> {
    ensure!(
        purpose == Purpose::Compare || subject.guests == Guests::Sandbox,
        "only the answers of sandbox guests are recorded: those of memory guests are held against them"
    );
    ensure!(purpose == Purpose::Compare || filter.is_none(), "records are of all checks: leave out the filter");
    let stage = progress.stage("conformance");
    let started = Instant::now();
    let wanted: Vec<(&'static str, Check)> = THEMES
        .iter()
        .flat_map(|(theme, checks)| checks.iter().map(move |check| (*theme, *check)))
        .filter(|(theme, check)| filter.is_none_or(|text| format!("{theme}/{}", check.name).contains(text)))
        .collect();
    ensure!(!wanted.is_empty(), "no check's name contains {:?}", filter.unwrap_or_default());
    let mut outcomes = Vec::new();
    for (phase, width) in [(Phase::Look, WIDTH), (Phase::Use, WIDTH), (Phase::Alone, 1)] {
        let checks = wanted.iter().filter(|(_, check)| check.phase == phase);
        let mut running =
            stream::iter(checks).map(|(theme, check)| ask(Arc::clone(subject), theme, *check)).buffer_unordered(width);
        while let Some(outcome) = running.next().await {
            stage.detail(format!("{} of {}", outcomes.len(), wanted.len()));
            outcomes.push(outcome);
        }
    }
    let (answers, mut wrong) = sorted(outcomes, subject);
    for (theme, answers) in &answers {
        records::save(&subject.dir.join("answers"), theme, answers)?;
    }
    match purpose {
        Purpose::Compare => wrong.extend(compare(&answers, subject.guests, filter.is_none())),
        Purpose::Record if wrong.is_empty() => {
            for (theme, answers) in &answers {
                records::save(&records::folder(), theme, answers)?;
            }
        }
        Purpose::Record => {}
    }
    if !wrong.is_empty() {
        let answers = subject.dir.join("answers");
        bail!("{} do not conform (answers: {}):\n{}", wrong.len(), answers.display(), wrong.join("\n"));
    }
    let done = if purpose == Purpose::Record { "recorded" } else { "as recorded" };
    stage.done(format!("{} answers in {:.1} s, {done}", wanted.len(), started.elapsed().as_secs_f64()));
    Ok(())
}

async fn ask(subject: Arc<Subject>, theme: &'static str, check: Check) -> Outcome {
    let namespace = format!("conformance-{}-{}", theme, check.name).replace('_', "-");
    let corner = Corner { subject, namespace };
    let asking = async {
        if check.phase == Phase::Look {
            return (check.run)(&corner).await;
        }
        corner.prepare().await.context("cannot make its namespace")?;
        let answer = (check.run)(&corner).await;
        corner.clean().await?;
        answer
    };
    // A check that stumbles over what it hears is one check that failed.
    let asking = AssertUnwindSafe(asking).catch_unwind();
    let answer = match tokio::time::timeout(CHECK, asking).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(anyhow!("panicked")),
        Err(_) => Err(anyhow!("has not ended after {} s", CHECK.as_secs())),
    };
    let canonical = answer.map(|answer| {
        let answer = corner.subject.canonical(&answer);
        renamed(answer, &corner.namespace)
    });
    Outcome { theme, name: check.name, answer: canonical }
}

/// The check's own namespace is one word wherever it is named.
fn renamed(value: Value, namespace: &str) -> Value {
    match value {
        Value::String(text) => text.replace(namespace, "{namespace}").into(),
        Value::Array(items) => items.into_iter().map(|item| renamed(item, namespace)).collect(),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            fields.map(|(key, value)| (key.replace(namespace, "{namespace}"), renamed(value, namespace))).collect()
        }
        other => other,
    }
}

/// Answers by theme and check, and a line for each check that failed by itself.
fn sorted(outcomes: Vec<Outcome>, subject: &Subject) -> (BTreeMap<&'static str, Answers>, Vec<String>) {
    let mut answers: BTreeMap<&'static str, Answers> = BTreeMap::new();
    let mut wrong = Vec::new();
    for Outcome { theme, name, answer } in outcomes {
        match answer {
            Ok(answer) => {
                answers.entry(theme).or_default().insert(name.to_owned(), answer);
            }
            Err(error) => {
                let why = subject.canonical(&json!(format!("{error:#}")));
                wrong.push(format!("{theme}/{name}: {}", why.as_str().unwrap_or_default()));
            }
        }
    }
    wrong.sort();
    (answers, wrong)
}

/// A line for each answer that is not as recorded, for each record without an answer, and for each exception that excuses
/// nothing.
fn compare(answers: &BTreeMap<&'static str, Answers>, guests: Guests, is_complete: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for (theme, answers) in answers {
        let recorded = match records::load(&records::folder(), theme) {
            Ok(recorded) => recorded,
            Err(error) => {
                wrong.push(format!("{error:#}"));
                continue;
            }
        };
        for (name, answer) in answers {
            match recorded.get(name) {
                Some(recorded) => {
                    found.extend(difference::differences(&format!("{theme}/{name}"), recorded, answer));
                }
                None => wrong.push(format!("{theme}/{name} is not recorded: {}", records::CURE)),
            }
        }
    }
    let exceptions = if guests == Guests::Memory { EXCEPTIONS } else { &[] };
    let (left, unused) = difference::excuse(found, exceptions);
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for difference in left {
        let check: String = difference.place.split('/').take(2).collect::<Vec<_>>().join("/");
        let count = shown.entry(check).or_default();
        *count += 1;
        if *count <= SHOWN {
            wrong.push(difference.to_string());
        }
    }
    let more = shown.into_iter().filter(|(_, count)| *count > SHOWN);
    wrong.extend(more.map(|(check, count)| format!("{check}: {} more differences", count - SHOWN)));
    if is_complete && wrong.is_empty() {
        let line = |unused: &exceptions::Exception| {
            format!("the exception {} excuses nothing any more ({}): take it off", unused.place, unused.why)
        };
        wrong.extend(unused.into_iter().map(line));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn checks_and_exceptions_are_told_apart_by_name() {
        let names: Vec<String> = THEMES
            .iter()
            .flat_map(|(theme, checks)| checks.iter().map(move |check| format!("{theme}/{}", check.name)))
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        // A namespace's name is a label: 63 characters at most.
        let too_long = names.iter().find(|name| name.len() + "conformance-".len() > 63);
        assert_eq!(too_long, None);
        for exception in EXCEPTIONS {
            let theme = exception.place.split('/').next().unwrap_or_default();
            assert!(THEMES.iter().any(|(known, _)| *known == theme), "{} is of no theme", exception.place);
            assert!(!exception.why.is_empty(), "{} has no reason", exception.place);
        }
    }

    #[test]
    fn a_checks_namespace_is_one_word() {
        let answer = json!({"conformance-a-b": ["pods in conformance-a-b"]});
        assert_eq!(renamed(answer, "conformance-a-b"), json!({"{namespace}": ["pods in {namespace}"]}));
    }
}
