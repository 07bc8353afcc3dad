//! What goes wrong in a world, decided before it begins: so that a run can be repeated with less of it.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use manager::fault::Moment;
use parking_lot::Mutex;

use crate::chance::Chance;

/// What happens to one call, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFault {
    /// It is lost on its way; nothing was done.
    LoseRequest,
    /// It was carried out, and the answer is lost.
    LoseAnswer,
    /// It is refused: overloaded, broken, busy, by this number.
    Refuse(u8),
    /// It takes this long.
    Slow(Duration),
    /// Whoever asked gives up, and then it is carried out all the same.
    Late(Duration),
    /// Somebody else writes the same object right before.
    Overtake,
}

/// What happens to one event of a watch, whichever it is. What the API promises stays so: events of one watch come in their
/// order, and one that was lost comes again when its watch is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFault {
    /// It comes twice.
    Twice,
    /// It is lost, and its watch ends.
    Lost,
    /// It comes this much later, and so does what follows it in its watch: the events of others overtake them.
    Late(Duration),
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimedFault {
    /// An instance is killed wherever it is.
    Kill(usize),
    /// An instance reaches nobody for a while.
    Isolate(usize, Duration),
    /// The instance that leads reaches nobody for a while: another takes its lease, whatever it is about.
    Depose(Duration),
    /// An instance hears of changes late for a while: its caches are stale.
    Lag(usize, Duration),
    /// All watches end.
    CutWatches,
    /// The API server forgets its history, and all watches end: they cannot be resumed.
    Compact,
    /// What is at the far end (the adapter, a workload cluster) starts anew: it forgets sessions, its connections break.
    RestartFarEnd,
    /// What is at the far end does not answer for a while.
    SilenceFarEnd(Duration),
}

/// Something that goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// At the call of this number, counted over the whole world.
    Call(u64, CallFault),
    /// At the event of this number, counted likewise.
    Event(u64, EventFault),
    /// An instance dies at this side of this effect, when anybody comes there for the time of this number.
    Crash(&'static str, Moment, u64),
    /// At this time since the world began.
    Timed(Duration, TimedFault),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(number, fault) => write!(formatter, "call {number}: {fault:?}"),
            Self::Event(number, fault) => write!(formatter, "event {number}: {fault:?}"),
            Self::Crash(effect, moment, time) => {
                write!(formatter, "crash at {}, time {time}", moment.file_name(effect))
            }
            Self::Timed(at, fault) => write!(formatter, "at {:.3} s: {fault:?}", at.as_secs_f64()),
        }
    }
}

/// How long a scenario's longer lives are, so that faults fall into all of it.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// Calls of such a life.
    pub calls: u64,
    /// Events of watches.
    pub events: u64,
    /// Its length, without the time in which it is watched being quiet.
    pub time: Duration,
    /// Instances that can be killed or cut off.
    pub instances: usize,
}

/// Everything that goes wrong in a world, and how far the world has come.
#[derive(Debug, Default)]
pub struct Plan {
    faults: Vec<Fault>,
    calls: AtomicU64,
    events: AtomicU64,
    /// How often anybody came to each crash point.
    points: Mutex<HashMap<(&'static str, Moment), u64>>,
    rests: AtomicBool,
}

/// What was counted in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Calls.
    pub calls: u64,
    /// Events of watches.
    pub events: u64,
    /// Crash points.
    pub points: u64,
}

/// Most faults in one world.
const MOST: u64 = 12;

impl Plan {
    /// The faults of a seed. One world in eight has none but its delays.
    pub fn of_seed(chance: &Chance, horizon: Horizon, effects: &[&'static str]) -> Self {
        let chance = chance.of("plan");
        let count = if chance.once_in(8) { 0 } else { 1 + chance.below(MOST) };
        Self::of((0..count).map(|_| fault(&chance, horizon, effects)).collect())
    }

    /// These faults.
    pub fn of(faults: Vec<Fault>) -> Self {
        Self { faults, ..Self::default() }
    }

    /// The same faults, but only those of these numbers.
    #[must_use]
    pub fn only(&self, numbers: &BTreeSet<usize>) -> Self {
        let kept = self.faults.iter().enumerate().filter(|(number, _)| numbers.contains(number));
        Self::of(kept.map(|(_, fault)| *fault).collect())
    }

    /// The faults in their order.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Nothing goes wrong from now on; or it does again. What rests is not counted.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Whether nothing goes wrong at present.
    pub fn is_resting(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// What happens to the next call.
    pub fn next_call(&self) -> Option<CallFault> {
        self.next(&self.calls, |fault, now| match fault {
            Fault::Call(number, fault) if *number == now => Some(*fault),
            _ => None,
        })
    }

    /// What happens to the next event of any watch.
    pub fn next_event(&self) -> Option<EventFault> {
        self.next(&self.events, |fault, now| match fault {
            Fault::Event(number, fault) if *number == now => Some(*fault),
            _ => None,
        })
    }

    /// Whether the instance that has come to this crash point dies there.
    pub fn next_point(&self, effect: &'static str, moment: Moment) -> bool {
        if self.is_resting() {
            return false;
        }
        let points = &mut *self.points.lock();
        let times = points.entry((effect, moment)).or_default();
        *times += 1;
        self.faults.contains(&Fault::Crash(effect, moment, *times))
    }

    /// Counts one more, and what happens to it.
    fn next<T>(&self, counter: &AtomicU64, find: impl Fn(&Fault, u64) -> Option<T>) -> Option<T> {
        if self.is_resting() {
            return None;
        }
        let now = counter.fetch_add(1, Ordering::Relaxed);
        self.faults.iter().find_map(|fault| find(fault, now))
    }

    /// How far the world has come.
    pub fn progress(&self) -> Progress {
        Progress {
            calls: self.calls.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
            points: self.points.lock().values().sum(),
        }
    }

    /// What happens at which time, the first first.
    pub fn timed(&self) -> Vec<(Duration, TimedFault)> {
        let timed = self.faults.iter().filter_map(|fault| match fault {
            Fault::Timed(at, fault) => Some((*at, *fault)),
            _ => None,
        });
        let mut timed: Vec<_> = timed.collect();
        timed.sort_by_key(|(at, _)| *at);
        timed
    }
}

/// A number below `most`; half of them are early, for lives are of very different lengths.
fn some_number(chance: &Chance, most: u64) -> u64 {
    chance.below(if chance.once_in(2) { most.div_ceil(4) } else { most })
}

fn fault(chance: &Chance, horizon: Horizon, effects: &[&'static str]) -> Fault {
    let seconds = |least: u64, most: u64| chance.between(Duration::from_secs(least), Duration::from_secs(most));
    match chance.below(12) {
        0..=4 => {
            let fault = match chance.below(12) {
                0 | 1 => CallFault::LoseRequest,
                2..=4 => CallFault::LoseAnswer,
                5..=7 => CallFault::Refuse(u8::try_from(chance.below(256)).unwrap_or_default()),
                8 => CallFault::Slow(seconds(1, 12)),
                9 => CallFault::Late(seconds(16, 60)),
                _ => CallFault::Overtake,
            };
            Fault::Call(some_number(chance, horizon.calls), fault)
        }
        5..=7 => {
            let effect = chance.pick(effects).copied().unwrap_or_default();
            let moment = *chance.pick(&Moment::ALL).unwrap_or(&Moment::Before);
            let time = if chance.once_in(2) { 1 } else { 1 + chance.below(8) };
            Fault::Crash(effect, moment, time)
        }
        8 | 9 => {
            let fault = match chance.below(3) {
                0 => EventFault::Twice,
                1 => EventFault::Lost,
                _ => EventFault::Late(seconds(1, 60)),
            };
            Fault::Event(some_number(chance, horizon.events), fault)
        }
        _ => {
            let instance = usize::try_from(chance.below(horizon.instances as u64)).unwrap_or_default();
            let fault = match chance.below(11) {
                0 | 1 => TimedFault::Kill(instance),
                2 => TimedFault::Isolate(instance, seconds(5, 120)),
                3 | 4 => TimedFault::Lag(instance, seconds(1, 60)),
                5 => TimedFault::CutWatches,
                6 => TimedFault::Compact,
                7 => TimedFault::RestartFarEnd,
                8 | 9 => TimedFault::Depose(seconds(90, 150)),
                _ => TimedFault::SilenceFarEnd(seconds(1, 90)),
            };
            Fault::Timed(chance.between(Duration::ZERO, horizon.time), fault)
        }
    }
}
