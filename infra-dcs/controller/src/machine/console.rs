//! What a guest's console tells of a boot that went wrong. Pure.

/// Lines shown of a console.
const LINES: usize = 12;
/// Longest line shown, in characters.
const WIDTH: usize = 200;
/// Runs of letters and digits from this length on are taken for secrets: keys, certificates, hashes.
const SECRET_RUN: usize = 32;

/// Stands for what is not shown.
const HIDDEN: &str = "(hidden)";

/// What guests write when a boot has failed for good, in lower case.
const FAILURES: &[&str] = &[
    "emergency mode",
    "kernel panic",
    "ignition failed",
    "ignition: failed",
    "failed to start kubeadm",
    "kubeadm.service: failed",
    "error execution phase",
    "failed to run module scripts",
    "failed running /var/lib/cloud",
    "boot failed:",
];

/// Lines that are asked for: more than are shown, as the one that tells may not be among the last.
pub const ASKED: u32 = 60;

/// Whether the boot has failed for good.
pub fn shows_failure(text: &str) -> bool {
    let text = text.to_lowercase();
    FAILURES.iter().any(|failure| text.contains(failure))
}

/// The last lines, without what could be a secret or moves a terminal's cursor.
pub fn end(text: &str) -> String {
    let mut lines = Vec::new();
    let mut in_pem = false;
    for line in text.lines().map(plain).filter(|line| !line.trim().is_empty()) {
        in_pem |= line.contains("-----BEGIN ");
        lines.push(if in_pem { HIDDEN.to_owned() } else { without_secrets(&line) });
        in_pem &= !line.contains("-----END ");
    }
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A line without control sequences, not too long.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // CSI sequences end in a letter; others are two characters.
            if characters.next_if_eq(&'[').is_some() {
                while characters.next().is_some_and(|character| !character.is_ascii_alphabetic()) {}
            } else {
                characters.next();
            }
        } else if !character.is_control() || character == '\t' {
            plain.push(character);
        }
    }
    plain.chars().take(WIDTH).collect()
}

fn without_secrets(line: &str) -> String {
    line.split_inclusive(char::is_whitespace)
        .map(|word| {
            let bare = word.trim_end();
            let space = &word[bare.len()..];
            if may_be_secret(bare) { format!("{HIDDEN}{space}") } else { word.to_owned() }
        })
        .collect()
}

/// Bootstrap tokens, keys, certificates, and everything that looks alike.
fn may_be_secret(word: &str) -> bool {
    let is_path = word.trim_start_matches(['"', '\'', '(', '[']).starts_with('/');
    let encoded = |character: char| {
        character.is_ascii_alphanumeric() || "+=_-".contains(character) || (character == '/' && !is_path)
    };
    let runs = word.split(|character| !encoded(character));
    let mut long = runs.filter(|run| run.len() >= SECRET_RUN);
    long.any(|run| run.chars().any(|character| character.is_ascii_digit()))
        || word.split(['=', ':', '"', '\'']).any(is_token)
}

/// `abcdef.0123456789abcdef`
fn is_token(word: &str) -> bool {
    let plain = |text: &str| text.chars().all(|character| character.is_ascii_lowercase() || character.is_ascii_digit());
    word.split_once('.').is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_shown_without_colours() {
        let text: String = (0..40).map(|number| format!("\u{1b}[0;32mline {number}\u{1b}[0m\r\n\n")).collect();
        let end = end(&text);
        assert_eq!(end.lines().count(), LINES);
        assert!(end.starts_with("line 28") && end.ends_with("line 39"), "{end}");
    }

    #[test]
    fn secrets_are_hidden() {
        let key = "ab12".repeat(16);
        let text = format!(
            "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:{key}\n\
             --certificate-key={key}\n-----BEGIN KEY-----\nMIIEvQ/short\n-----END KEY-----\nafter\n"
        );
        let end = end(&text);
        for secret in ["abcdef.0123456789abcdef", key.as_str(), "MIIEvQ"] {
            assert!(!end.contains(secret), "{end}");
        }
        assert!(end.contains("kubeadm join 10.0.0.1:6443") && end.ends_with("after"), "{end}");
    }

    #[test]
    fn paths_and_names_stay() {
        let line = "disk-setup: disk 3 of 100 GiB did not appear in 120 s; there are: /dev/vda /dev/vdb";
        assert_eq!(end(line), line);
        let line = "cannot open /etc/NetworkManager/system-connections/eth0.nmconnection";
        assert_eq!(end(line), line);
    }

    #[test]
    fn failures_are_told_from_noise() {
        assert!(shows_failure("You are in Emergency Mode. After logging in"));
        assert!(shows_failure("error execution phase preflight: [preflight] Some fatal errors occurred"));
        assert!(!shows_failure("[  OK  ] Started kubelet\nFailed to start a unit that nobody needs"));
    }
}
