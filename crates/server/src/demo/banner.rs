//! What a demo tells the person who started it. Pure.

use std::{fmt::Write, net::SocketAddr, path::Path};

use super::seeding::{ANTHROPIC_MODEL, OPENAI_MODEL, Seeded};

/// Where everything is.
pub struct Place<'a> {
    /// The customers' listener.
    pub relay: SocketAddr,
    /// The operators' listener.
    pub admin: SocketAddr,
    /// The simulated provider.
    pub simulator: &'a str,
    /// The data folder.
    pub folder: &'a Path,
    /// Where the first line keeps the answer's headers for the second.
    pub headers_file: &'a Path,
}

/// The whole text.
pub fn text(place: &Place<'_>, seeded: &Seeded) -> String {
    let mut text = String::new();
    // writing to a string cannot fail
    write_text(&mut text, place, seeded).map_or_else(|_| String::new(), |()| text)
}

fn write_text(text: &mut String, place: &Place<'_>, seeded: &Seeded) -> std::fmt::Result {
    let Place {
        relay,
        admin,
        simulator,
        folder,
        headers_file,
    } = place;
    let (key, headers) = (seeded.key.expose(), shell_quoted(&headers_file.display().to_string()));
    writeln!(
        text,
        "\nTruerelay demo. Everything is real but the provider, which invents its answers.\n"
    )?;
    writeln!(
        text,
        "  relay         http://{relay}/v1    (OpenAI: base URL with /v1; Anthropic: without)"
    )?;
    writeln!(text, "  admin API     http://{admin}/admin/v1    (metrics at /metrics)")?;
    writeln!(text, "  provider      {simulator}    (simulated)")?;
    writeln!(text, "  data folder   {}", folder.display())?;
    writeln!(
        text,
        "  models        {OPENAI_MODEL}, {ANTHROPIC_MODEL}, and more at /v1/models"
    )?;
    writeln!(text, "\n  virtual key       {key}")?;
    writeln!(text, "  operator token    {}", seeded.operator.expose())?;
    writeln!(text, "  balance           {} USD", seeded.balance)?;
    if seeded.is_first {
        writeln!(text, "\nKey and token are shown this once.")?;
    } else {
        writeln!(
            text,
            "\nThe folder had a demo before: key and token are new, earlier ones stay valid."
        )?;
    }
    let authorization = format!("-H 'Authorization: Bearer {key}'");
    writeln!(text, "\n1. Stream an answer:\n")?;
    writeln!(
        text,
        "curl -sN -D {headers} http://{relay}/v1/chat/completions {authorization} \
         -H 'Content-Type: application/json' -d '{{\"model\":\"{OPENAI_MODEL}\",\"stream\":true,\
         \"messages\":[{{\"role\":\"user\",\"content\":\"Tell me about rivers.\"}}]}}'"
    )?;
    writeln!(text, "\n2. See what it cost, and the new balance:\n")?;
    writeln!(
        text,
        "curl -s http://{relay}/v1/requests/$(sed -n 's/^x-request-id: *//p' {headers} | tr -d '\\r') \
         {authorization}; echo; curl -s http://{relay}/v1/key {authorization}; echo"
    )?;
    write!(text, "\nCtrl-C stops it.")
}

/// The text as one word of a POSIX shell.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use accounts::{PlainKey, PlainToken};
    use domain::Amount;

    use super::*;

    #[test]
    fn a_shell_reads_the_quoted_text_back() {
        for text in ["plain", "with space", "it's", "$(x) `y` \"z\" \\"] {
            let script = format!("printf %s {}", shell_quoted(text));
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[test]
    fn it_shows_everything_that_one_needs() {
        let seeded = Seeded {
            key: PlainKey::generate(),
            operator: PlainToken::generate(),
            balance: Amount::from_usd(5),
            is_first: true,
        };
        let place = Place {
            relay: ([127, 0, 0, 1], 1).into(),
            admin: ([127, 0, 0, 1], 2).into(),
            simulator: "http://127.0.0.1:3",
            folder: Path::new("/d"),
            headers_file: Path::new("/d/h"),
        };
        let text = text(&place, &seeded);
        for part in [
            seeded.key.expose(),
            seeded.operator.expose(),
            "127.0.0.1:1/v1",
            "127.0.0.1:2/admin",
            ":3",
            "5",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(
            text.lines()
                .any(|line| line.starts_with("curl -sN") && line.contains("\"stream\":true"))
        );
    }
}
