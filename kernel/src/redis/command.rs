//! What is said to Redis and what it says, as plain data, so that callers do not depend on a driver.

use std::sync::OnceLock;

use aws_lc_rs::digest;

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(pub(super) Vec<Vec<u8>>);

impl Command {
    pub(super) fn new(verb: &'static str) -> Self {
        Self(vec![verb.as_bytes().to_vec()])
    }

    /// The same with one more argument.
    pub fn arg(mut self, value: impl AsRef<[u8]>) -> Self {
        self.0.push(value.as_ref().to_vec());
        self
    }

    /// The same with a number as one more argument.
    pub fn number(self, value: i64) -> Self {
        self.arg(value.to_string())
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// There is nothing, or nothing more to say than that it was done.
    Nothing,
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several replies.
    List(Vec<Reply>),
    /// The command was not carried out; the error's code comes first.
    Refused(String),
}

impl Reply {
    /// The numbers of a list; what is no number counts as zero.
    pub fn numbers(&self) -> Vec<i64> {
        let number = |reply: &Self| if let Self::Number(n) = reply { *n } else { 0 };
        match self {
            Self::List(all) => all.iter().map(number).collect(),
            one => vec![number(one)],
        }
    }

    /// The texts of a list.
    pub fn texts(self) -> Vec<String> {
        let text = |reply| match reply {
            Self::Bytes(bytes) => String::from_utf8(bytes).ok(),
            Self::Number(n) => Some(n.to_string()),
            _ => None,
        };
        match self {
            Self::List(all) => all.into_iter().filter_map(text).collect(),
            one => text(one).into_iter().collect(),
        }
    }
}

/// A script that Redis runs as one step. Declare it as a constant's `static`, so that its digest is made once.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    /// A script with this text.
    pub const fn new(text: &'static str) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// What Redis calls it.
    pub(super) fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            // Redis names scripts by SHA-1; nothing here relies on it being hard to collide.
            let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes());
            hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
        })
    }
}
