//! What users do, end to end, on real guests: each scenario makes what it needs and leaves nothing.

mod bad_input;
mod crashes;
pub mod idle;
mod lifecycle;
pub mod steps;
pub mod used;

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use xtask::progress::Progress;

use crate::{
    cluster::{BootFormat, NAMESPACE, Shape},
    conformance::Purpose,
    demo,
    environment::{Environment, Inputs},
    ground::{Ground, Guests},
    process,
};

/// How long a failed scenario's clusters may take to go.
const CLEAR_LIMIT: Duration = Duration::from_secs(120);

/// Which scenarios run.
#[derive(Args, Clone)]
pub struct Options {
    /// What the machines are
    #[arg(long, value_enum, default_value = "sandbox")]
    pub guests: Guests,
    /// Run only the scenarios of this group
    #[arg(long, value_enum)]
    pub group: Option<Group>,
    /// Run only scenarios whose name contains this text
    #[arg(long)]
    pub filter: Option<String>,
    /// Also run what CI's budget cannot hold, and hold a second cluster against the conformance records
    #[arg(long)]
    pub soak: bool,
    /// Take the answers of the first cluster that is held against the conformance records as the new records
    #[arg(long)]
    pub record: bool,
    /// List the scenarios and stop
    #[arg(long)]
    pub list: bool,
}

/// Groups may run side by side, each in an environment of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Clusters that are made, used, scaled
    Growth,
    /// Clusters that meet bad input and crashes
    Trouble,
}

impl Options {
    /// Name of the environment in which these scenarios run.
    pub fn environment(&self) -> &'static str {
        match self.group {
            None => "test",
            Some(Group::Growth) => "test-growth",
            Some(Group::Trouble) => "test-trouble",
        }
    }
}

/// A scenario: its name, what it wants of its clusters, what is done with them, and whether it is left to `--soak` wherever it
/// runs.
struct Scenario {
    name: &'static str,
    clusters: &'static [(u8, u32, u32, BootFormat)],
    run: Run,
    soak: bool,
}

#[derive(Clone, Copy)]
enum Run {
    /// Create, use, delete; with `--soak`, hold against the conformance records before that.
    Whole,
    /// The same, look on while nothing is to do, and hold against the conformance records.
    LeftAlone,
    /// Create, scale workers and control plane up and down, delete.
    Scale,
    /// Everything that is referred to is missing at first.
    BadInput,
    /// The machines refuse the version at first.
    WrongVersion,
    /// Create and delete while every process dies at each of its effects.
    Crashes,
    /// The same with one crash a life, for each.
    EachCrash,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "three and two with Ignition: left alone, used, conformance",
        clusters: &[(1, 3, 2, BootFormat::Ignition)],
        run: Run::LeftAlone,
        soak: false,
    },
    Scenario {
        name: "three and two with cloud-init, beside one control plane machine without workers in another namespace",
        clusters: &[(2, 3, 2, BootFormat::CloudConfig), (3, 1, 0, BootFormat::Ignition)],
        run: Run::Whole,
        soak: false,
    },
    Scenario {
        name: "scale workers 2 to 4 to 1 and control plane 1 to 3 to 1",
        clusters: &[(4, 1, 2, BootFormat::Ignition)],
        run: Run::Scale,
        soak: false,
    },
    Scenario {
        name: "bad input is named and recovered from",
        clusters: &[(5, 1, 0, BootFormat::Ignition)],
        run: Run::BadInput,
        soak: false,
    },
    Scenario {
        name: "a version that machines refuse is named and recovered from",
        clusters: &[(6, 1, 0, BootFormat::Ignition)],
        run: Run::WrongVersion,
        soak: false,
    },
    Scenario {
        name: "killed before and after every effect",
        clusters: &[(7, 1, 1, BootFormat::Ignition)],
        run: Run::Crashes,
        soak: false,
    },
    Scenario {
        name: "killed at one effect a life, for each",
        clusters: &[(8, 1, 1, BootFormat::Ignition)],
        run: Run::EachCrash,
        soak: true,
    },
];

/// Runs the chosen scenarios in one environment; returns how many passed, failed and were skipped.
pub async fn run(inputs: &Inputs, options: &Options, progress: &Progress) -> Result<(usize, usize, usize)> {
    let version = demo::pinned_version()?;
    let wanted = |scenario: &&Scenario| {
        options.group.is_none_or(|group| scenario.group(options.guests) == group)
            && options.filter.as_ref().is_none_or(|text| scenario.name.contains(text.as_str()))
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(wanted).collect();
    if options.list {
        for scenario in &chosen {
            println!("{}{}", scenario.name, if scenario.is_left_to_soak(options.guests) { "  (--soak)" } else { "" });
        }
        return Ok((0, 0, 0));
    }
    let is_run = |scenario: &&Scenario| options.soak || !scenario.is_left_to_soak(options.guests);
    let (chosen, left): (Vec<_>, Vec<_>) = chosen.into_iter().partition(is_run);
    let (mut passed, mut failed, skipped) = (0, 0, left.len());
    for scenario in left {
        println!("skipped {} (--soak)", scenario.name);
    }
    if chosen.is_empty() {
        return Ok((passed, failed, skipped));
    }
    let ground = Ground::of(options.guests)?;
    let balancers: Vec<String> =
        chosen.iter().flat_map(|scenario| scenario.shapes(&version, ground)).map(|shape| shape.balancer()).collect();

    let mut environment = Environment::start(options.environment(), ground, inputs, &balancers, progress).await?;
    for scenario in chosen {
        let started = Instant::now();
        let result = tokio::select! {
            result = scenario.run(&mut environment, &version, options, progress) => result,
            () = ::process::terminated() => {
                environment.stop().await;
                return Err(anyhow!("interrupted"));
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                println!("ok      {} ({seconds:.0} s)", scenario.name);
            }
            Err(error) => {
                failed += 1;
                println!("FAILED  {} ({seconds:.0} s): {error:#}", scenario.name);
                let shapes = scenario.shapes(&version, ground);
                steps::dump(&environment, scenario.name, &shapes).await;
                clear(&mut environment, &shapes, progress).await;
            }
        }
    }
    environment.stop().await;
    Ok((passed, failed, skipped))
}

impl Scenario {
    /// Groups take about as long as each other, whatever the machines are.
    fn group(&self, guests: Guests) -> Group {
        match self.run {
            Run::Whole | Run::LeftAlone => Group::Growth,
            Run::Scale if guests == Guests::Memory => Group::Growth,
            Run::Scale | Run::BadInput | Run::WrongVersion | Run::Crashes | Run::EachCrash => Group::Trouble,
        }
    }

    /// Whether CI's budget cannot hold it: on real guests not what a kernel has no part in either.
    fn is_left_to_soak(&self, guests: Guests) -> bool {
        let needs_no_kernel = matches!(self.run, Run::BadInput | Run::WrongVersion);
        self.soak || guests == Guests::Sandbox && needs_no_kernel
    }

    fn shapes(&self, version: &str, ground: Ground) -> Vec<Shape> {
        let shape = |(number, (index, control_plane, workers, boot)): (usize, &(u8, u32, u32, BootFormat))| Shape {
            name: format!("c{index}"),
            namespace: if number == 0 { NAMESPACE.to_owned() } else { format!("{NAMESPACE}-{number}") },
            index: u16::from(*index),
            control_plane: *control_plane,
            workers: *workers,
            version: version.to_owned(),
            boot: *boot,
            ground,
        };
        self.clusters.iter().enumerate().map(shape).collect()
    }

    async fn run(
        &self,
        environment: &mut Environment,
        version: &str,
        options: &Options,
        progress: &Progress,
    ) -> Result<()> {
        let purpose = Purpose::of(options.record);
        let shapes = self.shapes(version, environment.ground);
        let shapes = &shapes;
        match self.run {
            Run::Whole => {
                // The other cluster of three and two says the same, but for how its machines boot.
                let purpose = options.soak.then_some(Purpose::Compare);
                lifecycle::whole(environment, shapes, purpose, progress).await?;
            }
            Run::LeftAlone => lifecycle::left_alone(environment, shapes, purpose, progress).await?,
            Run::Scale => lifecycle::scale(environment, shapes, progress).await?,
            Run::BadInput => bad_input::is_named_and_recovered_from(environment, shapes, progress).await?,
            Run::WrongVersion => bad_input::wrong_version_is_recovered_from(environment, shapes, progress).await?,
            Run::Crashes => crashes::at_every_effect(environment, shapes, progress).await?,
            Run::EachCrash => crashes::one_by_one(environment, shapes, progress).await?,
        }
        environment.keep_up()
    }
}

/// Takes away what a failed scenario left, so that it does not slow down the next; how that goes is of no interest.
async fn clear(environment: &mut Environment, shapes: &[Shape], progress: &Progress) {
    // Whoever died at a crash point is needed, and nobody is to die any more.
    let _ = environment.disarm().await;
    for shape in shapes {
        if let Err(error) = steps::delete_within(environment, shape, CLEAR_LIMIT, progress).await {
            println!("        {} could not be taken away: {error:#}", shape.name);
        }
    }
}

/// Last lines of every log, for a report.
pub fn tails(environment: &Environment, lines: usize) -> String {
    let mut text = String::new();
    for name in ["core", "bootstrap-kubeadm", "controlplane-kubeadm", "dcs-controller", "dcs-adapter", "dcs-simulator"]
    {
        let tail = process::tail(&environment.logs().join(format!("{name}.log")), lines);
        text.push_str(&format!("--- {name}\n{tail}\n"));
    }
    text
}
