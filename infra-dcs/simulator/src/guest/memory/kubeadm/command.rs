//! The command line: `kubeadm init`, `join`, `version`, `config images list`.

use super::{config::Defaults, files::Files, host::Host, images, init, join};

const TOKEN_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--config`
    pub config: Option<String>,
    /// `--ignore-preflight-errors`
    pub ignored: Vec<String>,
    /// `--skip-phases`
    pub skipped: Vec<String>,
    /// `--node-name`
    pub node_name: Option<String>,
}

/// Runs a command; `arguments` without the program's name. The number is the exit status.
pub async fn run(
    arguments: &[String],
    host: &dyn Host,
    files: &mut dyn Files,
    print: &mut (dyn FnMut(String) + Send),
) -> u8 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["version", rest @ ..] => {
            let version = &host.facts().version;
            print(match rest {
                ["-o" | "--output", "short"] | ["-o=short" | "--output=short"] => format!("v{version}"),
                _ => format!(
                    "kubeadm version: &version.Info{{Major:\"{}\", Minor:\"{}\", GitVersion:\"v{version}\"}}",
                    version.major, version.minor
                ),
            });
            return 0;
        }
        ["init", rest @ ..] => match options(rest) {
            Ok(options) => init::run(&options, host, files, print).await,
            Err(why) => Err(why),
        },
        ["join", rest @ ..] => match options(rest) {
            Ok(options) => join::run(&options, host, files, print).await,
            Err(why) => Err(why),
        },
        ["config", "images", verb @ ("list" | "pull"), rest @ ..] => config_images(verb, rest, host, files, print),
        other => Err(format!("`kubeadm {}` is not played by memory guests", other.first().unwrap_or(&""))),
    };
    match outcome {
        Ok(()) => 0,
        Err(why) => {
            print(format!("error: {why}"));
            print("To see the stack trace of this error execute with --v=5 or higher".to_owned());
            1
        }
    }
}

fn config_images(
    verb: &str,
    rest: &[&str],
    host: &dyn Host,
    files: &dyn Files,
    print: &mut (dyn FnMut(String) + Send),
) -> Result<(), String> {
    let options = options(rest)?;
    let facts = host.facts();
    let text = options.config.as_deref().map(|path| config_file(files, path)).transpose()?;
    let text = text.unwrap_or_else(|| {
        let version = if facts.version.minor >= 31 { "v1beta4" } else { "v1beta3" };
        format!("apiVersion: kubeadm.k8s.io/{version}\nkind: ClusterConfiguration\n")
    });
    let token = fresh_token();
    let given = super::config::read_init(&text, &defaults(host, &token)).map_err(|error| error.to_string())?;
    for image in images::control_plane(&given.cluster, &facts.version) {
        if verb == "pull" {
            facts.registries.pull(&image).map_err(|why| format!("failed to pull image {image:?}: {why}"))?;
            print(format!("[config/images] Pulled {image}"));
        } else {
            print(image);
        }
    }
    Ok(())
}

/// Reads flags; all take a value but `--dry-run` and `--upload-certs`, which are not played.
fn options(words: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.iter().copied();
    let list = |text: &str| text.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            return Err(format!("unknown command {word:?} for \"kubeadm\""));
        }
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let mut value = || value.or_else(|| words.next()).ok_or_else(|| format!("flag needs an argument: {name}"));
        match name {
            "--config" => options.config = Some(value()?.to_owned()),
            "--ignore-preflight-errors" => options.ignored.extend(list(value()?)),
            "--skip-phases" => options.skipped.extend(list(value()?)),
            "--node-name" => options.node_name = Some(value()?.to_owned()),
            "--skip-token-print" | "--skip-certificate-key-print" => {}
            // How much is said changes nothing here.
            "-v" | "--v" => drop(value()?),
            "--dry-run" | "--upload-certs" => return Err(format!("{name} is not played by memory guests")),
            other => return Err(format!("unknown flag: {other}")),
        }
    }
    Ok(options)
}

/// Reads the file of `--config`.
pub fn config_file(files: &dyn Files, path: &str) -> Result<String, String> {
    files
        .text(path)
        .ok_or_else(|| format!("unable to read config from {path:?} : open {path}: no such file or directory"))
}

/// What the machine fills in.
pub fn defaults<'a>(host: &'a dyn Host, token: &'a str) -> Defaults<'a> {
    let facts = host.facts();
    Defaults {
        version: &facts.version,
        hostname: &facts.hostname,
        address: facts.address,
        fresh_token: token,
        is_strict: facts.is_strict,
    }
}

/// A token that nobody knows.
pub fn fresh_token() -> String {
    let random: [u8; 22] = rand::random();
    let letter = |byte: &u8| char::from(TOKEN_ALPHABET[usize::from(*byte) % TOKEN_ALPHABET.len()]);
    let text: String = random.iter().map(letter).collect();
    format!("{}.{}", &text[..6], &text[6..])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn flags_are_read_and_unknown_ones_refused() {
        let read = options(&["--config", "/run/k.yaml", "--ignore-preflight-errors=A, B", "--v", "5"]).unwrap();
        assert_eq!(read.config.as_deref(), Some("/run/k.yaml"));
        assert_eq!(read.ignored, ["A", "B"]);
        assert_eq!(options(&["--what"]).unwrap_err(), "unknown flag: --what");
        assert_eq!(options(&["--config"]).unwrap_err(), "flag needs an argument: --config");
    }

    #[test]
    fn fresh_tokens_are_tokens() {
        assert!(crate::guest::memory::kubeadm::config::is_token(&fresh_token()));
    }
}
