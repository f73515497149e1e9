//! Protocol versions and the two revisions of the protocol that they belong to.

use std::fmt;

/// A published version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// 2024-11-05: the first one.
    V2024_11_05,
    /// 2025-03-26: streamable HTTP.
    V2025_03_26,
    /// 2025-06-18: the header `MCP-Protocol-Version`.
    V2025_06_18,
    /// 2025-11-25: the last one with sessions.
    V2025_11_25,
    /// 2026-07-28: stateless.
    V2026_07_28,
}

/// How client and server establish a common version: the protocol changed once in an incompatible way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolRevision {
    /// Stateless: every request carries its version and capabilities (2026-07-28).
    Modern,
    /// `initialize` opens a session, which later requests name (2025-11-25 and before).
    Legacy,
}

impl ProtocolVersion {
    /// The newest stateless version.
    pub const MODERN: Self = Self::V2026_07_28;
    /// The newest version with sessions.
    pub const LATEST_LEGACY: Self = Self::V2025_11_25;
    /// The versions with sessions, newest first.
    pub const LEGACY: [Self; 4] =
        [Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];

    /// The version as it is written in messages and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The version that is written so; `None` if there is none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::LEGACY.into_iter().chain([Self::MODERN]).find(|version| version.as_str() == text)
    }

    /// The revision that the version belongs to.
    pub const fn revision(self) -> ProtocolRevision {
        match self {
            Self::V2026_07_28 => ProtocolRevision::Modern,
            Self::V2025_11_25 | Self::V2025_06_18 | Self::V2025_03_26 | Self::V2024_11_05 => {
                ProtocolRevision::Legacy
            }
        }
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_parsed_from_its_text() {
        let texts = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
        assert_eq!(ProtocolVersion::LEGACY.map(ProtocolVersion::as_str), texts);
        for (version, text) in ProtocolVersion::LEGACY.into_iter().zip(texts) {
            assert_eq!(ProtocolVersion::parse(text), Some(version));
            assert_eq!(version.revision(), ProtocolRevision::Legacy);
        }
        assert_eq!(ProtocolVersion::parse("2026-07-28"), Some(ProtocolVersion::MODERN));
        assert_eq!(ProtocolVersion::MODERN.revision(), ProtocolRevision::Modern);
        assert_eq!(ProtocolVersion::parse("2026-07-29"), None);
    }
}
