//! What components are called: name and version, one release pinned by its bytes, and what a job writes after `uses`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidId, is_label};

/// What a component is called: `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentName {
    text: String,
    slash: usize,
}

impl ComponentName {
    /// Parses `namespace/name`, both labels of lower-case letters, digits and inner hyphens.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        match text.split_once('/') {
            Some((namespace, name)) if is_label(namespace) && is_label(name) => {
                Ok(Self { slash: namespace.len(), text })
            }
            _ => Err(InvalidId::new(
                "component name",
                "namespace/name in lower-case letters, digits and inner '-'",
                &text,
            )),
        }
    }

    /// The text, `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the slash.
    pub fn namespace(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        &self.text[self.slash + 1..]
    }
}

impl fmt::Display for ComponentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ComponentName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl TryFrom<String> for ComponentName {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl From<ComponentName> for String {
    fn from(name: ComponentName) -> Self {
        name.text
    }
}

/// A component's version: SemVer without build metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
pub struct ComponentVersion(semver::Version);

impl ComponentVersion {
    /// Parses SemVer; build metadata (`+…`) is refused, because two versions that differ only there would be equal in rank.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        match semver::Version::parse(text) {
            Ok(version) if version.build.is_empty() && text.len() <= 64 => Ok(Self(version)),
            _ => {
                Err(InvalidId::new("component version", "SemVer such as 1.4.2, without build metadata", text))
            }
        }
    }

    /// True for `1.0.0-rc.1` and the like, which a moving reference never selects.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }

    /// Major, minor and patch number.
    pub fn numbers(&self) -> (u64, u64, u64) {
        (self.0.major, self.0.minor, self.0.patch)
    }
}

impl fmt::Display for ComponentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ComponentVersion {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl TryFrom<String> for ComponentVersion {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(&text)
    }
}

impl From<ComponentVersion> for String {
    fn from(version: ComponentVersion) -> Self {
        version.0.to_string()
    }
}

/// One release of a component, pinned: the same bytes may be published under two names, and are then two releases.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ComponentPin {
    /// The name.
    pub name: ComponentName,
    /// The version.
    pub version: ComponentVersion,
    /// The bytes.
    pub digest: crate::Digest,
}

impl fmt::Display for ComponentPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {}", self.name, self.version, self.digest)
    }
}

/// What a job writes after `uses`: `namespace/name@1`, `@1.4` or `@1.4.2`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComponentSelector {
    name: ComponentName,
    version: VersionSelector,
}

/// The version part of a [`ComponentSelector`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VersionSelector {
    /// `@1`: the newest release with this major number.
    Major(u64),
    /// `@1.4`: the newest release with these two numbers.
    Minor(u64, u64),
    /// `@1.4.2` or `@1.4.2-rc.1`: exactly this one.
    Exact(ComponentVersion),
}

impl ComponentSelector {
    const RULE: &str = "namespace/name@version, where version is 1, 1.4 or 1.4.2";

    /// Parses `namespace/name@version`.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new("component reference", Self::RULE, text);
        let number = |digits: &str| -> Result<u64, InvalidId> {
            let canonical = !digits.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit())
                && (digits == "0" || !digits.starts_with('0'));
            if canonical { digits.parse().map_err(|_| invalid()) } else { Err(invalid()) }
        };
        let (name, version) = text.split_once('@').ok_or_else(invalid)?;
        let name = ComponentName::new(name).map_err(|_| invalid())?;
        let version = match version.split('.').collect::<Vec<_>>()[..] {
            [major] => VersionSelector::Major(number(major)?),
            [major, minor] => VersionSelector::Minor(number(major)?, number(minor)?),
            _ => VersionSelector::Exact(ComponentVersion::new(version).map_err(|_| invalid())?),
        };
        Ok(Self { name, version })
    }

    /// The component's name.
    pub fn name(&self) -> &ComponentName {
        &self.name
    }

    /// The version part.
    pub fn version(&self) -> &VersionSelector {
        &self.version
    }

    /// True if this selects `version`. A pre-release is selected only when it is named exactly.
    pub fn selects(&self, version: &ComponentVersion) -> bool {
        let (major, minor, _) = version.numbers();
        match &self.version {
            VersionSelector::Major(wanted) => major == *wanted && !version.is_prerelease(),
            VersionSelector::Minor(a, b) => (major, minor) == (*a, *b) && !version.is_prerelease(),
            VersionSelector::Exact(wanted) => version == wanted,
        }
    }
}

impl fmt::Display for ComponentSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            VersionSelector::Major(major) => write!(f, "{}@{major}", self.name),
            VersionSelector::Minor(major, minor) => write!(f, "{}@{major}.{minor}", self.name),
            VersionSelector::Exact(version) => write!(f, "{}@{version}", self.name),
        }
    }
}

impl FromStr for ComponentSelector {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl TryFrom<String> for ComponentSelector {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(&text)
    }
}

impl From<ComponentSelector> for String {
    fn from(selector: ComponentSelector) -> Self {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_choose_releases_only() {
        fn check(selector: &str, version: &str, expect: bool) {
            let selector = ComponentSelector::new(selector).unwrap();
            assert_eq!(
                selector.selects(&ComponentVersion::new(version).unwrap()),
                expect,
                "{selector} {version}"
            );
        }
        check("a/b@1", "1.9.0", true);
        check("a/b@1", "2.0.0", false);
        check("a/b@1", "1.9.0-rc.1", false);
        check("a/b@1.9.0-rc.1", "1.9.0-rc.1", true);
        check("a/b@1.4", "1.4.9", true);
        check("a/b@1.4", "1.40.0", false);
        assert!(ComponentSelector::new("a/b@01").is_err());
        assert!(ComponentSelector::new("a/b").is_err());
        assert!(ComponentSelector::new("a/b@latest").is_err());
    }
}
