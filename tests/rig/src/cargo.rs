//! Has cargo build the test binaries, in the way that `cargo test --workspace` does, so that nothing
//! is built twice, and lists them with their tests. Called by `suite`.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::RigError;
use crate::libtest;
use crate::tools;

/// A workspace: where it is, where cargo builds, and its packages.
#[derive(Debug)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
    /// Names of packages, by cargo's identifiers.
    names: HashMap<String, String>,
    /// Where to build instead of where cargo would.
    instead: Option<PathBuf>,
}

/// What cargo has built.
#[derive(Debug, Default)]
pub struct Built {
    /// The test binaries.
    pub tests: Vec<Binary>,
    /// The programs, which tests may start, each with its package.
    pub programs: Vec<(String, PathBuf)>,
    /// Files that build scripts name to the code, which may open them at run time: guest images.
    pub files: Vec<PathBuf>,
}

/// A test binary.
#[derive(Clone, Debug, Default)]
pub struct Binary {
    /// Its package.
    pub package: String,
    /// The name of its target.
    pub name: String,
    /// Whether it has a package's tests of its own code, rather than of a file in `tests/`.
    pub is_unit: bool,
    /// The file.
    pub path: PathBuf,
    /// The folder it runs in: the package's.
    pub dir: PathBuf,
}

impl Binary {
    /// Package and target, as in `tests::storm`.
    pub fn title(&self) -> String {
        if self.is_unit && self.package == self.name {
            return self.package.clone();
        }
        format!("{}::{}", self.package, self.name)
    }
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct BuildScript {
    package_id: String,
    env: Vec<(String, PathBuf)>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Workspace {
    /// The workspace that a folder is in. With `instead`, it is built there.
    ///
    /// # Errors
    /// Cargo's.
    pub fn of(folder: &Path, instead: Option<&Path>) -> Result<Self, RigError> {
        let text = tools::plain_output(cargo(folder, instead).args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
        ]))?;
        let metadata: Metadata =
            serde_json::from_str(&text).map_err(|error| RigError::Program {
                program: "cargo metadata".to_owned(),
                how: format!("said what cannot be read: {error}"),
                tail: String::new(),
            })?;
        let names = metadata.packages.into_iter();
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            names: names.map(|package| (package.id, package.name)).collect(),
            instead: instead.map(Path::to_owned),
        })
    }

    /// Build the test binaries of one package or of all, with cargo's own progress and errors on
    /// stderr. A package alone may be built with other features than as one of all.
    ///
    /// # Errors
    /// [`RigError::Build`], or cargo cannot be run.
    pub fn build(&self, package: Option<&str>) -> Result<Built, RigError> {
        let mut command = cargo(&self.root, self.instead.as_deref());
        command.arg("test");
        match package {
            Some(package) => command.args(["-p", package]),
            None => command.arg("--workspace"),
        };
        command.args(["--no-run", "--message-format=json-render-diagnostics"]);
        let ran = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(RigError::file("run cargo in", &self.root))?;
        if !ran.status.success() {
            return Err(RigError::Build);
        }
        Ok(self.built(&String::from_utf8_lossy(&ran.stdout)))
    }

    /// Read cargo's messages.
    fn built(&self, messages: &str) -> Built {
        let mut built = Built::default();
        for line in messages.lines() {
            // Other messages have other fields.
            if let Ok(script) = serde_json::from_str::<BuildScript>(line)
                && self.names.contains_key(&script.package_id)
            {
                let values = script.env.into_iter().map(|(_, value)| value);
                built
                    .files
                    .extend(values.filter(|file| file.is_absolute() && file.is_file()));
            }
            let Ok(artifact) = serde_json::from_str::<Artifact>(line) else {
                continue;
            };
            let Some(path) = artifact.executable else {
                continue;
            };
            let package = self.names.get(&artifact.package_id);
            let package = package.map_or(artifact.package_id.as_str(), String::as_str);
            let is = |kind: &str| artifact.target.kind.iter().any(|word| word == kind);
            if artifact.profile.test {
                let dir = artifact.manifest_path.parent().map(Path::to_owned);
                built.tests.push(Binary {
                    package: package.to_owned(),
                    name: artifact.target.name.clone(),
                    is_unit: !is("test"),
                    path,
                    dir: dir.unwrap_or_else(|| self.root.clone()),
                });
            } else if is("bin") {
                built.programs.push((package.to_owned(), path));
            }
        }
        built.tests.sort_by_key(Binary::title);
        built
    }
}

/// The names of a binary's tests that a filter leaves; it is asked on this machine.
///
/// # Errors
/// The binary does not list them.
pub fn tests_of(binary: &Binary, filter: &[String]) -> Result<Vec<String>, RigError> {
    let text = tools::plain_output(
        Command::new(&binary.path)
            .args(["--list", "--format", "terse"])
            .args(filter)
            .current_dir(&binary.dir),
    )?;
    Ok(libtest::list(&text))
}

fn cargo(folder: &Path, instead: Option<&Path>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    if let Some(target) = instead {
        command.env("CARGO_TARGET_DIR", target);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_programs_and_files_are_told_apart() {
        let artifact = |kind: &str, name: &str, test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///w/t#tests@0.1.0","manifest_path":"/w/t/Cargo.toml","target":{{"kind":["{kind}"],"name":"{name}","src_path":"x"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let own = std::env::current_exe().unwrap();
        let script = |package: &str| {
            serde_json::json!({"reason": "build-script-executed", "package_id": package,
                "env": [["IMAGE", own], ["WORD", "word"], ["GONE", "/no/such/image"]]})
            .to_string()
        };
        let messages = [
            script("path+file:///w/t#tests@0.1.0"),
            script("registry+https://x#other@1.0.0"),
            artifact("lib", "tests", true, "\"/w/target/tests-1\""),
            artifact("lib", "tests", false, "null"),
            artifact("test", "storm", true, "\"/w/target/storm-1\""),
            artifact("bin", "tool", false, "\"/w/target/tool\""),
            artifact("example", "show", false, "\"/w/target/show\""),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let names = [("path+file:///w/t#tests@0.1.0", "tests")];
        let workspace = Workspace {
            root: "/w".into(),
            target: "/w/target".into(),
            names: names
                .map(|(id, name)| (id.to_owned(), name.to_owned()))
                .into(),
            instead: None,
        };
        let built = workspace.built(&messages);
        let titles: Vec<_> = built.tests.iter().map(Binary::title).collect();
        assert_eq!(titles, ["tests", "tests::storm"]);
        assert_eq!(built.tests[1].dir, Path::new("/w/t"));
        assert!(built.tests[0].is_unit && !built.tests[1].is_unit);
        assert_eq!(
            built.programs,
            [("tests".to_owned(), "/w/target/tool".into())]
        );
        assert_eq!(built.files, [own]);
    }
}
