//! What `cargo xtask bench fleet` can vary: parsed here, and handed on as it is to the end-to-end program, which does it.

use clap::{Args, ValueEnum};

/// A fleet, and what is done with it.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Number of clusters
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub clusters: u16,
    /// Control plane machines and workers of each
    #[arg(long, value_enum, default_value = "1+1")]
    pub shape: Shape,
    /// Whose kubeadm providers run; core is upstream's and infrastructure is ours in both cases
    #[arg(long, value_enum, default_value = "basalt")]
    pub managers: Managers,
    /// Run a second time with upstream's kubeadm providers and set both runs side by side
    #[arg(long, conflicts_with = "managers")]
    pub beside_upstream: bool,
    /// How long the finished fleet is left alone
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub idle: u32,
    /// End after that: nothing is scaled, upgraded, mended or deleted
    #[arg(long)]
    pub short: bool,
    /// Secrets of others that are put into the management cluster beforehand: they must not change a provider's memory
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub foreign_secrets: u32,
}

/// How many machines each cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One control plane machine and one worker
    #[value(name = "1+1")]
    OneAndOne,
    /// Three control plane machines and two workers
    #[value(name = "3+2")]
    ThreeAndTwo,
}

/// Whose kubeadm providers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Managers {
    /// This project's
    #[default]
    Basalt,
    /// Cluster API's own
    Upstream,
}

impl Shape {
    /// Control plane machines.
    pub fn control_plane(self) -> u32 {
        match self {
            Self::OneAndOne => 1,
            Self::ThreeAndTwo => 3,
        }
    }

    /// Workers.
    pub fn workers(self) -> u32 {
        match self {
            Self::OneAndOne => 1,
            Self::ThreeAndTwo => 2,
        }
    }
}

impl Options {
    /// Whose providers run, one run after another.
    pub fn runs(&self) -> Vec<Managers> {
        if self.beside_upstream { vec![Managers::Basalt, Managers::Upstream] } else { vec![self.managers] }
    }

    /// These options as a command line.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--clusters={}", self.clusters),
            format!("--shape={}", name(self.shape)),
            format!("--idle={}", self.idle),
            format!("--foreign-secrets={}", self.foreign_secrets),
        ];
        arguments.push(if self.beside_upstream {
            "--beside-upstream".to_owned()
        } else {
            format!("--managers={}", name(self.managers))
        });
        if self.short {
            arguments.push("--short".to_owned());
        }
        arguments
    }
}

/// How a value is written on a command line.
pub fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(arguments: &[String]) -> Options {
        Line::try_parse_from(std::iter::once("fleet".to_owned()).chain(arguments.iter().cloned())).unwrap().options
    }

    #[test]
    fn options_are_handed_on_whole() {
        for line in [
            vec![],
            vec!["--clusters=100", "--shape=3+2", "--managers=upstream", "--idle=20", "--foreign-secrets=5000"],
            vec!["--beside-upstream", "--short"],
        ] {
            let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
            let options = parse(&line);
            assert_eq!(parse(&options.arguments()), options);
        }
    }

    #[test]
    fn beside_upstream_runs_ours_first() {
        assert_eq!(parse(&["--beside-upstream".to_owned()]).runs(), [Managers::Basalt, Managers::Upstream]);
    }
}
