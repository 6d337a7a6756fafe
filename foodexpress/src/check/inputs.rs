//! What the rules look at: the files of the tree, the manifests of the services, the crates and their dependencies.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail};
use kernel::manifest::{Manifest, Permission};
use serde::Deserialize;

use super::Place;
use super::exceptions::{self, Exception};
use super::source::{Source, test_files};

/// Files beyond this are not read as text.
const LARGEST_TEXT: u64 = 2 << 20;

/// Everything that rules may look at.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(super) files: Vec<File>,
    pub(super) manifests: Vec<Manifest>,
    pub(super) packages: Vec<Package>,
    pub(super) permissions: Vec<Permission>,
    pub(super) roles: Vec<&'static str>,
    pub(super) exceptions: Vec<Exception>,
    /// Files that are compiled for tests only.
    tests: BTreeSet<String>,
}

/// A file of the tree; its text is empty if it is none.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) text: String,
    source: OnceLock<Source>,
}

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub(super) struct Package {
    pub(super) name: String,
    /// Its folder below the root.
    pub(super) folder: String,
    pub(super) dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `dev`, `build`, or nothing.
    pub(super) kind: Option<String>,
}

impl Package {
    /// The service it is, if it is one.
    pub(super) fn is_service(&self) -> bool {
        self.folder.starts_with("services/")
    }
}

impl Dependency {
    pub(super) fn only_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

impl File {
    pub(super) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == "rs")
    }

    /// The file as Rust.
    pub(super) fn source(&self) -> &Source {
        self.source.get_or_init(|| Source::read(&self.text))
    }

    /// The service whose folder it lies in.
    pub(super) fn service(&self) -> Option<&str> {
        self.path.strip_prefix("services/")?.split('/').next()
    }

    pub(super) fn is_migration(&self) -> bool {
        self.path.contains("/migrations/") && Path::new(&self.path).extension().is_some_and(|e| e == "sql")
    }
}

impl Inputs {
    /// Reads the tree below `root`.
    ///
    /// # Errors
    /// No tree, no cargo, or a list of exceptions that does not read.
    pub(crate) fn read(root: &Path, manifests: Vec<Manifest>) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths(root)? {
            let on_disk = root.join(&path);
            let Ok(about) = std::fs::metadata(&on_disk) else { continue };
            let text = if about.len() <= LARGEST_TEXT { std::fs::read_to_string(&on_disk).ok() } else { None };
            files.push(File { path, bytes: about.len(), text: text.unwrap_or_default(), source: OnceLock::new() });
        }
        let mut inputs = Self {
            files,
            manifests,
            packages: packages(root)?,
            permissions: contracts::permissions::ALL.to_vec(),
            roles: contracts::permissions::ROLES.to_vec(),
            exceptions: Vec::new(),
            tests: BTreeSet::new(),
        };
        let list = inputs.text(exceptions::LIST).unwrap_or_default();
        inputs.exceptions = exceptions::read(list).with_context(|| exceptions::LIST.to_owned())?;
        inputs.tests = test_files(inputs.files.iter().filter(|f| f.is_rust()).map(|f| (f.path.as_str(), f.source())));
        Ok(inputs)
    }

    /// The file at a path.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    /// The text of the file at a path.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.file(path).map(|f| f.text.as_str())
    }

    /// Every Rust file, with whether it is compiled for tests only.
    pub(super) fn rust(&self) -> impl Iterator<Item = (&File, bool)> {
        self.files.iter().filter(|f| f.is_rust()).map(|f| (f, self.is_test(f)))
    }

    /// Every Rust file of a service's own code, tests aside.
    pub(super) fn service_code(&self) -> impl Iterator<Item = (&str, &File)> {
        self.rust().filter(|(_, test)| !test).filter_map(|(f, _)| Some((f.service()?, f)))
    }

    fn is_test(&self, file: &File) -> bool {
        file.path.split('/').any(|part| part == "tests" || part == "benches") || self.tests.contains(&file.path)
    }

    /// Where a text stands in the files whose path starts so; the first line of the first of them if nowhere.
    pub(super) fn locate(&self, prefix: &str, text: &str) -> Place {
        let mut below = self.files.iter().filter(|f| f.path.starts_with(prefix)).peekable();
        let otherwise = below.peek().map_or_else(|| prefix.to_owned(), |f| f.path.clone());
        for file in below {
            if let Some(at) = file.text.lines().position(|line| line.contains(text)) {
                return Place { file: file.path.clone(), line: at + 1 };
            }
        }
        Place { file: otherwise, line: 1 }
    }

    /// Where a service's sources say this.
    pub(super) fn in_service(&self, service: &str, text: &str) -> Place {
        self.locate(&format!("services/{service}/src/"), text)
    }

    /// Adds a file in memory, or replaces it there.
    pub(super) fn put(&mut self, path: &str, text: &str) {
        self.files.retain(|f| f.path != path);
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.files.push(File { path: path.to_owned(), bytes, text: text.to_owned(), source: OnceLock::new() });
    }

    /// Adds a file in memory and says where in it the violation stands.
    pub(super) fn put_violation(&mut self, path: &str, text: &str, line: usize) -> Place {
        self.put(path, text);
        Place { file: path.to_owned(), line }
    }

    /// Adds a crate with these dependencies in memory, and says on which line of its manifest the last one stands.
    pub(super) fn put_package(&mut self, folder: &str, dependencies: &[&str]) -> Place {
        let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
        let lines: Vec<String> = dependencies.iter().map(|d| format!("{d}.workspace = true")).collect();
        let text = format!("[package]\nname = \"{name}\"\n[dependencies]\n{}\n", lines.join("\n"));
        let dependencies = dependencies.iter().map(|d| Dependency { name: (*d).to_owned(), kind: None }).collect();
        self.packages.push(Package { name, folder: folder.to_owned(), dependencies });
        self.put_violation(&format!("{folder}/Cargo.toml"), &text, 3 + lines.len())
    }
}

/// The files that belong to the tree: those that git would commit, or all but build output where there is no git.
fn paths(root: &Path) -> Result<Vec<String>> {
    let git = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output();
    let mut paths: Vec<String> = match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect()
        }
        _ => {
            let mut all = Vec::new();
            walk(root, "", &mut all)?;
            all
        }
    };
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn walk(root: &Path, below: &str, all: &mut Vec<String>) -> Result<()> {
    let folder = root.join(below);
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        match entry.file_type()? {
            kind if kind.is_dir() && !["target", "node_modules", ".git"].contains(&name.as_str()) => {
                walk(root, &path, all)?;
            }
            kind if kind.is_file() => all.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: String,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

/// The workspace's crates, as cargo sees them.
fn packages(root: &Path) -> Result<Vec<Package>> {
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new("cargo").args(arguments).current_dir(root).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let below =
        |path: &str| path.strip_prefix(&metadata.workspace_root).unwrap_or(path).trim_start_matches('/').to_owned();
    let package = |p: MetadataPackage| {
        let folder = below(p.manifest_path.trim_end_matches("/Cargo.toml"));
        Package { name: p.name, folder, dependencies: p.dependencies }
    };
    Ok(metadata.packages.into_iter().map(package).collect())
}
