//! The programs that people may sign in with, and where each may be sent back to.

use crate::settings::Settings;

/// A registered program. All are public: a program in a person's hands keeps no secret, PKCE stands in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// Its id.
    pub(crate) id: &'static str,
    /// What the sign-in page calls it.
    pub(crate) name: &'static str,
    redirects: Vec<Redirect>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Redirect {
    /// This very text.
    Exact(String),
    /// `start`, then any port or none, then `path` (RFC 8252 section 7.3): the program listens where there is room.
    Loopback { start: &'static str, path: &'static str },
}

/// All registered programs.
#[derive(Clone, Debug)]
pub(crate) struct Clients(Vec<Client>);

impl Clients {
    /// The two programs of the product. They are few and known, so a list says it and no table does.
    pub(crate) fn of(settings: &Settings) -> Self {
        let loopback = |start| Redirect::Loopback { start, path: "/callback" };
        let absolute = |text: &String| match text.starts_with('/') {
            true => Redirect::Exact(format!("{}{text}", settings.issuer)),
            false => Redirect::Exact(text.clone()),
        };
        Self(vec![
            Client {
                id: "foodexpress-cli",
                name: "FoodExpress on the command line",
                redirects: vec![loopback("http://127.0.0.1"), loopback("http://[::1]")],
            },
            Client {
                id: "foodexpress-web",
                name: "FoodExpress",
                redirects: settings.web_redirects.iter().map(absolute).collect(),
            },
        ])
    }

    /// The program with this id.
    pub(crate) fn find(&self, id: &str) -> Option<&Client> {
        self.0.iter().find(|client| client.id == id)
    }
}

impl Client {
    /// Whether codes may be sent there. Compared as text, so that no two parsers can read one address differently.
    pub(crate) fn may_return_to(&self, uri: &str) -> bool {
        self.redirects.iter().any(|redirect| redirect.allows(uri))
    }
}

impl Redirect {
    fn allows(&self, uri: &str) -> bool {
        match self {
            Self::Exact(text) => text == uri,
            Self::Loopback { start, path } => uri
                .strip_prefix(start)
                .and_then(|rest| rest.strip_suffix(path))
                .is_some_and(|port| port.is_empty() || port.strip_prefix(':').is_some_and(is_port)),
        }
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_match_exactly_but_for_the_port_of_a_loopback() {
        let settings = Settings {
            issuer: "https://food.example".to_owned(),
            web_redirects: vec!["/callback".to_owned(), "https://shop.example/in".to_owned()],
            ..Settings::default()
        };
        let clients = Clients::of(&settings);
        let cases = [
            ("foodexpress-cli", "http://127.0.0.1/callback", true),
            ("foodexpress-cli", "http://127.0.0.1:49152/callback", true),
            ("foodexpress-cli", "http://[::1]:8/callback", true),
            ("foodexpress-cli", "http://127.0.0.1:0/callback", false),
            ("foodexpress-cli", "http://127.0.0.1:65536/callback", false),
            ("foodexpress-cli", "http://127.0.0.1:/callback", false),
            ("foodexpress-cli", "http://127.0.0.1:+80/callback", false),
            ("foodexpress-cli", "http://127.0.0.1@evil.example/callback", false),
            ("foodexpress-cli", "http://127.0.0.1.evil.example/callback", false),
            ("foodexpress-cli", "http://127.0.0.1:80\\@evil.example/callback", false),
            ("foodexpress-cli", "http://127.0.0.1:80/callback?x=1", false),
            ("foodexpress-cli", "http://127.0.0.1:80/x/callback", false),
            ("foodexpress-cli", "http://localhost/callback", false),
            ("foodexpress-cli", "https://127.0.0.1/callback", false),
            ("foodexpress-web", "https://food.example/callback", true),
            ("foodexpress-web", "https://shop.example/in", true),
            ("foodexpress-web", "https://shop.example/in/", false),
            ("foodexpress-web", "https://shop.example:443/in", false),
            ("foodexpress-web", "http://127.0.0.1/callback", false),
        ];
        for (client, uri, allowed) in cases {
            assert_eq!(clients.find(client).unwrap().may_return_to(uri), allowed, "{client} {uri}");
        }
        assert_eq!(clients.find("stranger"), None);
    }
}
