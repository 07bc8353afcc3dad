//! Jobs: pods that end, until enough of them ended well (`pkg/controller/job`). Finished pods are counted before they may
//! go: a finalizer keeps them until then. Indexed jobs, pod failure policies and success policies are not played.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Context, earliest, moment,
    workloads::{count, is_ready, pod_of, shown, write_status},
};
use crate::guest::memory::cluster::api::{Api, JOBS, PODS, is_controlled_by, is_deleting, name, namespace, uid};

/// Keeps a pod until its job has counted it.
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Pause after the first failure; it doubles with each.
const FIRST_PAUSE: i64 = 10;
const LONGEST_PAUSE: i64 = 600;

/// See the module. Answers when a job has to be looked at again.
pub fn pass(context: &Context<'_>, pods: &[Arc<Value>]) -> Option<Timestamp> {
    let jobs = context.api.list(JOBS, "");
    let mut due = None;
    for job in jobs.iter().filter(|job| !is_deleting(job)) {
        let own: Vec<&Arc<Value>> = pods.iter().filter(|pod| is_controlled_by(pod, uid(job))).collect();
        due = earliest(due, keep(context, job, &own));
    }
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        if !jobs.iter().any(|job| !is_deleting(job) && is_controlled_by(pod, uid(job))) {
            let_go(&context.api.by("kube-controller-manager"), pod);
        }
    }
    due
}

fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

fn is_over(pod: &Value) -> bool {
    is_deleting(pod) || ["Succeeded", "Failed"].contains(&phase(pod))
}

fn is_tracked(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].as_array().is_some_and(|all| all.iter().any(|finalizer| finalizer == TRACKING))
}

fn let_go(api: &Api<'_>, pod: &Value) {
    let all = pod["metadata"]["finalizers"].as_array().into_iter().flatten();
    let kept: Vec<&Value> = all.filter(|finalizer| **finalizer != TRACKING).collect();
    let kept = if kept.is_empty() { Value::Null } else { json!(kept) };
    let _ = api.merge(PODS, namespace(pod), name(pod), json!({"metadata": {"finalizers": kept}}));
}

/// Why a job is over, as its conditions say it.
struct End {
    well: bool,
    reason: &'static str,
    message: &'static str,
}

/// What has become of a job's pods.
struct Tally {
    succeeded: u64,
    failed: u64,
    /// Restarts of containers in pods that still run.
    restarts: u64,
    active: u64,
}

/// Whether that is the end of a job.
fn end(spec: &Value, tally: &Tally, is_late: bool) -> Option<End> {
    let limit = count(&spec["backoffLimit"], 6);
    // Of pods that start their containers again, the starts count.
    let is_given_up = tally.failed > limit || tally.restarts > 0 && tally.failed + tally.restarts > limit;
    let is_done = match spec["completions"].as_u64() {
        Some(wanted) => tally.succeeded >= wanted,
        None => tally.succeeded > 0 && tally.active == 0,
    };
    if is_given_up {
        let message = "Job has reached the specified backoff limit";
        return Some(End { well: false, reason: "BackoffLimitExceeded", message });
    }
    if is_late {
        let message = "Job was active longer than specified deadline";
        return Some(End { well: false, reason: "DeadlineExceeded", message });
    }
    let message = "Reached expected number of succeeded pods";
    is_done.then_some(End { well: true, reason: "CompletionsReached", message })
}

/// Pods that should be active.
fn wanted(spec: &Value, tally: &Tally) -> u64 {
    if spec["suspend"] == true {
        return 0;
    }
    let parallelism = count(&spec["parallelism"], 1);
    match spec["completions"].as_u64() {
        Some(completions) => parallelism.min(completions.saturating_sub(tally.succeeded)),
        // After the first success nothing new is begun.
        None if tally.succeeded > 0 => tally.active.min(parallelism),
        None => parallelism,
    }
}

fn keep(context: &Context<'_>, job: &Value, own: &[&Arc<Value>]) -> Option<Timestamp> {
    let api = context.api.by("kube-controller-manager");
    if let Some(ended) = finished(job) {
        own.iter().filter(|pod| is_tracked(pod)).for_each(|pod| let_go(&api, pod));
        let life = SignedDuration::from_secs(job["spec"]["ttlSecondsAfterFinished"].as_i64()?);
        let end = ended.checked_add(life).ok()?;
        if end > context.now {
            return Some(end);
        }
        api.delete(JOBS, namespace(job), name(job), None);
        return None;
    }
    let (spec, status) = (&job["spec"], &job["status"]);
    let counted: Vec<&&Arc<Value>> = own.iter().filter(|pod| is_over(pod) && is_tracked(pod)).collect();
    let number = |well: bool| {
        let found = counted.iter().filter(|pod| (phase(pod) == "Succeeded") == well).count();
        u64::try_from(found).unwrap_or(u64::MAX)
    };
    let active: Vec<&&Arc<Value>> = own.iter().filter(|pod| !is_over(pod)).collect();
    let starts = active.iter().flat_map(|pod| pod["status"]["containerStatuses"].as_array().into_iter().flatten());
    let tally = Tally {
        succeeded: count(&status["succeeded"], 0) + number(true),
        failed: count(&status["failed"], 0) + number(false),
        restarts: starts.map(|container| count(&container["restartCount"], 0)).sum(),
        active: u64::try_from(active.len()).unwrap_or(u64::MAX),
    };
    let started = moment(&status["startTime"]).unwrap_or(context.now);
    let deadline = spec["activeDeadlineSeconds"].as_i64().map(SignedDuration::from_secs);
    let deadline = deadline.and_then(|life| started.checked_add(life).ok());
    let end = end(spec, &tally, deadline.is_some_and(|deadline| deadline <= context.now));
    show(context, job, &tally, &active, end.as_ref());
    for pod in &counted {
        let_go(&api, pod);
    }
    let delete = |pod: &Value| api.delete(PODS, namespace(pod), name(pod), None);
    if end.is_some() {
        for pod in &active {
            delete(pod);
        }
        return None;
    }
    let wanted = wanted(spec, &tally);
    let surplus = usize::try_from(tally.active.saturating_sub(wanted)).unwrap_or(usize::MAX);
    active.iter().take(surplus).for_each(|pod| delete(pod));
    let resumes = pause_ends(own, tally.failed);
    if tally.active < wanted && resumes.is_none_or(|end| end <= context.now) {
        for _ in tally.active..wanted {
            let mut pod = pod_of(job, &spec["template"]);
            pod["metadata"]["finalizers"] = json!([TRACKING]);
            if api.create(PODS, namespace(job), pod).is_err() {
                break;
            }
        }
    }
    earliest(deadline, resumes.filter(|end| *end > context.now))
}

/// When a job may go on after a failure.
fn pause_ends(own: &[&Arc<Value>], failed: u64) -> Option<Timestamp> {
    let ends = own.iter().filter(|pod| phase(pod) == "Failed").flat_map(|pod| {
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        containers.filter_map(|container| moment(&container["state"]["terminated"]["finishedAt"]))
    });
    let doubled = u32::try_from(failed.saturating_sub(1)).ok().and_then(|times| 2_i64.checked_pow(times));
    let pause = doubled.and_then(|times| times.checked_mul(FIRST_PAUSE)).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
    ends.max()?.checked_add(SignedDuration::from_secs(pause)).ok()
}

/// When a job ended.
fn finished(job: &Value) -> Option<Timestamp> {
    let conditions = job["status"]["conditions"].as_array()?;
    let is_end = |condition: &&Value| {
        (condition["type"] == "Complete" || condition["type"] == "Failed") && condition["status"] == "True"
    };
    moment(&conditions.iter().find(is_end)?["lastTransitionTime"])
}

fn show(context: &Context<'_>, job: &Value, tally: &Tally, active: &[&&Arc<Value>], end: Option<&End>) {
    let now = context.time();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let mut same = conditions.filter(|known| known["type"] == kind && known["status"] == status);
        same.next().cloned().unwrap_or_else(|| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastProbeTime": now, "lastTransitionTime": now,
            })
        })
    };
    let mut conditions = Vec::new();
    let was_suspended = job["status"]["conditions"].as_array().is_some_and(|all| !all.is_empty());
    if job["spec"]["suspend"] == true {
        conditions.push(condition("Suspended", "True", "JobSuspended", "Job suspended"));
    } else if was_suspended {
        conditions.push(condition("Suspended", "False", "JobResumed", "Job resumed"));
    }
    let mut status = json!({
        "succeeded": shown(tally.succeeded), "failed": shown(tally.failed), "terminating": 0,
        "uncountedTerminatedPods": {},
    });
    if job["spec"]["suspend"] != true && !job["status"]["startTime"].is_string() {
        status["startTime"] = now.as_str().into();
    }
    let mut remaining = (tally.active, active.iter().filter(|pod| is_ready(pod)).count());
    if let Some(end) = end {
        remaining = (0, 0);
        let kinds = if end.well { ["SuccessCriteriaMet", "Complete"] } else { ["FailureTarget", "Failed"] };
        conditions.extend(kinds.map(|kind| condition(kind, "True", end.reason, end.message)));
        if end.well {
            status["completionTime"] = now.as_str().into();
        }
    }
    (status["active"], status["ready"]) = (shown(remaining.0), json!(remaining.1));
    if !conditions.is_empty() {
        status["conditions"] = conditions.into();
    }
    write_status(context, JOBS, job, status);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(succeeded: u64, failed: u64, restarts: u64, active: u64) -> Tally {
        Tally { succeeded, failed, restarts, active }
    }

    #[test]
    fn a_job_is_over_when_enough_ended_well_or_too_many_badly() {
        let spec = json!({"completions": 3, "parallelism": 2, "backoffLimit": 1});
        let reason = |tally: &Tally, late| end(&spec, tally, late).map(|end| end.reason);
        assert_eq!(reason(&tally(2, 1, 0, 1), false), None);
        assert_eq!(reason(&tally(3, 1, 0, 0), false), Some("CompletionsReached"));
        assert_eq!(reason(&tally(2, 2, 0, 1), false), Some("BackoffLimitExceeded"));
        assert_eq!(reason(&tally(0, 1, 1, 1), false), Some("BackoffLimitExceeded"));
        assert_eq!(reason(&tally(0, 0, 0, 1), true), Some("DeadlineExceeded"));
        let any = json!({"parallelism": 2});
        assert!(end(&any, &tally(1, 0, 0, 1), false).is_none(), "those that were begun may end");
        assert!(end(&any, &tally(1, 0, 0, 0), false).is_some_and(|end| end.well));
    }

    #[test]
    fn no_more_run_than_are_still_needed() {
        let spec = json!({"completions": 3, "parallelism": 2});
        assert_eq!(wanted(&spec, &tally(0, 0, 0, 0)), 2);
        assert_eq!(wanted(&spec, &tally(2, 0, 0, 0)), 1);
        assert_eq!(wanted(&json!({"parallelism": 2}), &tally(1, 0, 0, 1)), 1);
        assert_eq!(wanted(&json!({"suspend": true, "completions": 3}), &tally(0, 0, 0, 2)), 0);
    }
}
