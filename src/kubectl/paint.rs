//! Colours, on a terminal only.

use std::io::{IsTerminal, stdout};

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// A terminal that wants them.
    Colour,
    /// Anything else.
    Plain,
}

impl Paint {
    /// What standard output takes (NO_COLOR is heeded).
    pub fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if stdout().is_terminal() && wanted { Self::Colour } else { Self::Plain }
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Something is wrong.
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// Of less weight.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self {
            Self::Colour if !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Colour | Self::Plain => text.to_owned(),
        }
    }
}
