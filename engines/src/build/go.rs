//! A program built from a Go module that cannot be installed by name, because it replaces modules of others.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tokio::process::Command;

use crate::cache::{Cache, Found, Say};
use crate::program::Need;

/// A program of a Go module.
pub(crate) struct GoProgram {
    pub(crate) name: &'static str,
    pub(crate) module: &'static str,
    pub(crate) version: &'static str,
    pub(crate) package: &'static str,
}

impl GoProgram {
    fn kept_as(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }

    /// Where it is once it is built.
    pub(crate) fn program(&self, cache: &Path) -> PathBuf {
        cache.join(self.kept_as()).join(self.name)
    }

    pub(crate) fn is_built(&self, cache: &Path) -> bool {
        self.program(cache).exists()
    }

    /// Builds it unless the cache has it: eight minutes of processor time or more.
    pub(crate) async fn build(&self, cache: &Cache, say: &Say) -> Result<()> {
        let Found::ToBuild(draft) = cache.find(&self.kept_as()).await? else { return Ok(()) };
        must_be_new_enough().await?;
        say(&format!("building {} {} from source, once: some ten minutes", self.name, self.version));
        let work = draft.folder.join("module");
        std::fs::create_dir(&work)?;
        self.write_module(&work).await?;
        let mut build = go()?;
        build.args(["build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(work.join(self.name));
        build.arg(self.package).env("CGO_ENABLED", "0");
        super::run(build, &work).await.with_context(|| format!("cannot build {}", self.name))?;
        std::fs::rename(work.join(self.name), draft.folder.join(self.name))?;
        std::fs::remove_dir_all(&work)?;
        draft.finish()
    }

    /// A module of our own that requires it, with the sums and the exceptions of the module that has it.
    async fn write_module(&self, work: &Path) -> Result<()> {
        let mut download = go()?;
        download.args(["mod", "download", "-json", &format!("{}@v{}", self.module, self.version)]);
        let found: Downloaded = serde_json::from_str(&super::run(download, work).await?)?;
        let mut read = go()?;
        read.args(["mod", "edit", "-json"]).arg(found.dir.join("go.mod"));
        let upstream: Module = serde_json::from_str(&super::run(read, work).await?)?;
        std::fs::copy(found.dir.join("go.sum"), work.join("go.sum"))?;
        let writable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(work.join("go.sum"), writable)?;
        std::fs::write(work.join("go.mod"), upstream.as_requirement_of(self))?;
        Ok(())
    }
}

fn program() -> Result<PathBuf> {
    Need::of("go", "golang-go").find().context("there is no go")
}

/// From 1.21 on Go fetches the newer Go that a module asks for.
async fn must_be_new_enough() -> Result<()> {
    let version = crate::program::version(&program()?, "version").await?;
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < 21) {
        bail!("Go {version} is too old to build this; 1.21 or newer is at https://go.dev/dl");
    }
    Ok(())
}

fn go() -> Result<Command> {
    let mut go = Command::new(program()?);
    // Whatever the user builds with elsewhere.
    go.env("GOFLAGS", "").env("GOWORK", "off");
    Ok(go)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
}

/// What `go mod edit -json` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    go: String,
    #[serde(default)]
    exclude: Option<Vec<Version>>,
    #[serde(default)]
    replace: Option<Vec<Replace>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    path: String,
    #[serde(default)]
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replace {
    old: Version,
    new: Version,
}

impl Module {
    /// Exclusions and replacements hold only in the module that is built, so ours repeats them; those that lead to
    /// folders beside the upstream module are its own affair, what it publishes is meant to do without.
    fn as_requirement_of(&self, program: &GoProgram) -> String {
        let mut text = format!(
            "module foodexpress.invalid/{}\n\ngo {}\n\nrequire {} v{}\n",
            program.name, self.go, program.module, program.version
        );
        for excluded in self.exclude.iter().flatten() {
            writeln!(text, "exclude {} {}", excluded.path, excluded.version).expect("a string takes everything");
        }
        for replace in self.replace.iter().flatten().filter(|r| !r.new.version.is_empty()) {
            let old = format!("{} {}", replace.old.path, replace.old.version);
            writeln!(text, "replace {} => {} {}", old.trim_end(), replace.new.path, replace.new.version)
                .expect("a string takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_module_repeats_what_upstream_excludes_and_replaces_but_not_its_own_folders() {
        let upstream: Module = serde_json::from_str(
            r#"{"Module":{"Path":"a"},"Go":"1.23.8","Require":[],
                "Exclude":[{"Path":"example.org/bad","Version":"v1.1.5"}],
                "Replace":[{"Old":{"Path":"example.org/api"},"New":{"Path":"./api"}},
                           {"Old":{"Path":"example.org/old"},"New":{"Path":"example.org/old","Version":"v1.33.0"}}]}"#,
        )
        .unwrap();
        let program =
            GoProgram { name: "thing", module: "example.org/thing", version: "1.2.3", package: "example.org/thing" };
        assert_eq!(
            upstream.as_requirement_of(&program),
            "module foodexpress.invalid/thing\n\ngo 1.23.8\n\nrequire example.org/thing v1.2.3\n\
             exclude example.org/bad v1.1.5\nreplace example.org/old => example.org/old v1.33.0\n"
        );
    }
}
