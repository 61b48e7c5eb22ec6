//! Names of models on a hub.

use std::fmt;
use std::path::Path;

/// The revision of a name without one.
const DEFAULT_REVISION: &str = "main";
/// Maximum length of an organization, a name or a revision, as on the hub.
const LONGEST: usize = 96;

/// The name of a model on the Hugging Face Hub: `org/name` or `org/name@revision`. The revision is a
/// branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    org: String,
    name: String,
    revision: String,
}

impl HubModel {
    /// Parses a name. Returns `None` for text that has another form, such as an absolute path.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let (org, name) = id.split_once('/')?;
        let is_revision = revision.len() <= LONGEST && revision.split('/').all(is_word);
        let is_name = is_word(org) && is_word(name) && is_revision;
        is_name.then(|| Self { org: org.to_owned(), name: name.to_owned(), revision: revision.to_owned() })
    }

    /// Returns the name that a path may stand for. Returns `None` if something exists at the path,
    /// or if the path has not the form of a name.
    pub fn of_path(path: &Path) -> Option<Self> {
        // a dangling link is a path too
        if path.symlink_metadata().is_ok() { None } else { Self::parse(path.to_str()?) }
    }

    /// Returns the model and the commit of a directory in a Hugging Face cache,
    /// `models--ORG--NAME/snapshots/COMMIT`.
    pub fn of_snapshot(dir: &Path) -> Option<Self> {
        let snapshots = dir.parent().filter(|parent| parent.ends_with("snapshots"))?;
        let (org, name) =
            snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
        Self::parse(&format!("{org}/{name}@{}", dir.file_name()?.to_str()?))
    }

    /// Returns `org/name`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.org, self.name)
    }

    /// Returns the branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns the directory of the model in a Hugging Face cache.
    #[cfg(feature = "hub")]
    pub(super) fn folder(&self) -> String {
        format!("models--{}--{}", self.org, self.name)
    }
}

impl fmt::Display for HubModel {
    /// Writes `org/name`, with the revision if it is not `main`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.name)?;
        if self.revision == DEFAULT_REVISION { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// Returns whether the text is one component of a name: safe in a path and in a URL.
fn is_word(text: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: char| matches!(c, '-' | '.');
    (1..=LONGEST).contains(&text.len())
        && text.chars().all(is_safe)
        && !text.starts_with(ends)
        && !text.ends_with(ends)
        && !text.contains("..")
        && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_organization_and_may_have_a_revision() {
        let parts = |text: &str| HubModel::parse(text).map(|model| (model.id(), model.revision));
        let expected = |id: &str, revision: &str| Some((id.to_owned(), revision.to_owned()));
        assert_eq!(parts("llava-hf/llava-1.5-7b-hf"), expected("llava-hf/llava-1.5-7b-hf", "main"));
        assert_eq!(parts("a/b@refs/pr/1"), expected("a/b", "refs/pr/1"));
        assert_eq!(HubModel::parse("a/b@v1").unwrap().to_string(), "a/b@v1");
        for path in [
            "llava",
            "/a/b",
            "./a",
            "../a",
            "a/..",
            "a/b/c",
            "a/b/",
            "a//b",
            "~/a",
            "a\\b",
            "C:/a",
            "a/b@",
            "a/b@../../x",
            "a/b@/x",
            "a/b@x//y",
            "a/b@x@y",
            "a/b?x=1",
            "a/b%2f",
            "a b/c",
            "a/b\n",
            "a/b--c",
            "",
            "a/-b",
        ] {
            assert_eq!(HubModel::parse(path), None, "{path}");
        }
    }

    #[test]
    fn an_existing_path_is_no_name() {
        assert_eq!(HubModel::of_path(Path::new("src/hub")), None);
        assert!(HubModel::of_path(Path::new("src/no-such-directory")).is_some());
    }

    #[test]
    fn snapshots_of_a_cache_have_a_name() {
        let commit = "0a1b".repeat(10);
        let dir = format!("/cache/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/{commit}");
        let model = HubModel::of_snapshot(Path::new(&dir)).unwrap();
        assert_eq!((model.id().as_str(), model.revision()), ("llava-hf/llava-1.5-7b-hf", &*commit));
        assert_eq!(HubModel::of_snapshot(Path::new("/models/llava/snapshots/1")), None);
    }
}
