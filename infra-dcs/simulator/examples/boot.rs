//! Boots sandbox guests by hand, for work on the launcher and the guest image. Run it in a network namespace of its own:
//!
//! ```text
//! ip netns add basalt-boot
//! ip netns exec basalt-boot sh -c 'ip link set lo up; ip link add br0 type bridge; ip address add 10.77.0.1/16 dev br0; ip link set br0 up'
//! nsenter --net=/run/netns/basalt-boot boot --simulator target/debug/basalt-dcs-simulator --image-dir target/basalt/images --data-dir /var/tmp/boot
//! ```
//! Each line of standard input is a command: `on SPEC.json`, `off ID`, `cut ID`, `destroy ID`, `console ID`.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use clap::Parser;
use dcs_simulator::{
    fabric::{self, FabricConfig, load_balancer::LoadBalancerSpec},
    guest::{
        GuestEvent, GuestPlatform, GuestSpec, PowerOff,
        image::ImageDir,
        sandbox::{SandboxConfig, SandboxGuests},
    },
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

#[derive(Parser)]
struct Args {
    #[arg(long)]
    simulator: PathBuf,
    #[arg(long)]
    image_dir: PathBuf,
    #[arg(long)]
    data_dir: PathBuf,
    #[arg(long, default_value = "br0")]
    bridge: String,
    #[arg(long)]
    load_balancer: Vec<LoadBalancerSpec>,
    /// Show consoles as they are written.
    #[arg(long)]
    verbose: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let image = ImageDir::open(&args.image_dir)?;
    let _fabric = fabric::start(FabricConfig {
        bridge: Some(args.bridge.clone()),
        registry: Some(("10.77.0.1:5000".parse()?, image.registry())),
        load_balancers: args.load_balancer,
        signals: None,
    })
    .await?;
    let (sender, mut events) = mpsc::channel(1024);
    let config = SandboxConfig { data_dir: args.data_dir, image, bridge: args.bridge, launcher: args.simulator };
    let guests = SandboxGuests::start(config, sender).await?;
    let started = Instant::now();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            Some(event) = events.recv() => match event {
                GuestEvent::Console { id, line } if args.verbose => println!("{:7.2} {id} | {line}", started.elapsed().as_secs_f32()),
                GuestEvent::Console { .. } => {}
                other => println!("{:7.2} {other:?}", started.elapsed().as_secs_f32()),
            },
            line = lines.next_line() => {
                let Some(line) = line? else { break };
                println!("{:7.2} > {line}", started.elapsed().as_secs_f32());
                match obey(&guests, &line).await {
                    Ok(()) => println!("{:7.2} done", started.elapsed().as_secs_f32()),
                    Err(error) => println!("{:7.2} refused: {error:#}", started.elapsed().as_secs_f32()),
                }
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    guests.shutdown().await;
    Ok(())
}

async fn obey(guests: &SandboxGuests, line: &str) -> Result<()> {
    let (verb, what) = line.trim().split_once(' ').context("a command is a verb and an argument")?;
    match verb {
        "on" => {
            let spec: GuestSpec = serde_json::from_slice(&std::fs::read(what)?)?;
            guests.power_on(spec).await?;
        }
        "off" => guests.power_off(what, PowerOff::Safe).await?,
        "cut" => guests.power_off(what, PowerOff::Force).await?,
        "destroy" => guests.destroy(what).await?,
        "console" => guests.console(what, 40).iter().for_each(|line| println!("{line}")),
        other => anyhow::bail!("no command `{other}`"),
    }
    Ok(())
}
