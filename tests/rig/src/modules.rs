//! Which files a kernel module needs, in the order of loading: from `modules.dep`, as depmod writes
//! it. Called by `setup`. Reads names and paths, never a module.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::RigError;

/// A kernel's modules.
#[derive(Debug)]
pub struct Modules {
    dir: PathBuf,
    /// By name: the file, and the files it needs.
    files: HashMap<String, (String, Vec<String>)>,
    built_in: HashSet<String>,
}

impl Modules {
    /// Read a kernel's lists.
    ///
    /// # Errors
    /// [`RigError::NoModulesDep`].
    pub fn read(dir: &Path) -> Result<Self, RigError> {
        let dependencies =
            fs::read_to_string(dir.join("modules.dep")).map_err(|_| RigError::NoModulesDep {
                dir: dir.to_owned(),
            })?;
        let built_in = fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
        Ok(Self::parse(dir, &dependencies, &built_in))
    }

    /// From the text of `modules.dep` and `modules.builtin`.
    pub fn parse(dir: &Path, dependencies: &str, built_in: &str) -> Self {
        let files = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(file, needs)| {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                (name_of(file), (file.to_owned(), needs))
            })
            .collect();
        Self {
            dir: dir.to_owned(),
            files,
            built_in: built_in.lines().map(name_of).collect(),
        }
    }

    /// The files of modules and of all they need, each once, behind what it needs. What is built into
    /// the kernel needs no file.
    ///
    /// # Errors
    /// [`RigError::NoModule`].
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<PathBuf>, RigError> {
        let mut order = Vec::new();
        let mut visited = HashSet::new();
        for name in names {
            self.visit(&name_of(name), &mut visited, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        visited: &mut HashSet<String>,
        order: &mut Vec<PathBuf>,
    ) -> Result<(), RigError> {
        if self.built_in.contains(name) || !visited.insert(name.to_owned()) {
            return Ok(());
        }
        let (file, needs) = self.files.get(name).ok_or_else(|| RigError::NoModule {
            name: name.to_owned(),
            dir: self.dir.clone(),
        })?;
        for need in needs {
            self.visit(&name_of(need), visited, order)?;
        }
        order.push(self.dir.join(file));
        Ok(())
    }
}

/// A module's name from its file's: the kernel takes `-` for `_`.
fn name_of(file: &str) -> String {
    let file = file.trim().rsplit('/').next().unwrap_or_default();
    let name = file.split_once(".ko").map_or(file, |(name, _)| name);
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/arch/x86/kvm/kvm-amd.ko: kernel/arch/x86/kvm/kvm.ko kernel/virt/lib/irqbypass.ko
kernel/arch/x86/kvm/kvm.ko: kernel/virt/lib/irqbypass.ko
kernel/virt/lib/irqbypass.ko:
kernel/drivers/net/tun.ko.xz:
kernel/a.ko: kernel/b.ko
kernel/b.ko: kernel/a.ko
";

    fn resolve(names: &[&str]) -> Result<Vec<String>, RigError> {
        let modules = Modules::parse(Path::new("/m"), DEPENDENCIES, "kernel/fs/ext4/ext4.ko\n");
        let files = modules.resolve(names)?;
        Ok(files.iter().map(|f| f.display().to_string()).collect())
    }

    #[test]
    fn a_module_comes_behind_what_it_needs_and_once() {
        let files = resolve(&["kvm_amd", "kvm"]).unwrap();
        assert_eq!(
            files,
            [
                "/m/kernel/virt/lib/irqbypass.ko",
                "/m/kernel/arch/x86/kvm/kvm.ko",
                "/m/kernel/arch/x86/kvm/kvm-amd.ko"
            ]
        );
    }

    #[test]
    fn names_may_have_either_dash_and_files_may_be_compressed() {
        assert_eq!(
            resolve(&["kvm-amd"]).unwrap(),
            resolve(&["kvm_amd"]).unwrap()
        );
        assert_eq!(
            resolve(&["tun"]).unwrap(),
            ["/m/kernel/drivers/net/tun.ko.xz"]
        );
    }

    #[test]
    fn what_is_built_in_needs_no_file() {
        assert!(resolve(&["ext4"]).unwrap().is_empty());
    }

    #[test]
    fn a_circle_of_modules_ends() {
        assert_eq!(
            resolve(&["a"]).unwrap(),
            ["/m/kernel/b.ko", "/m/kernel/a.ko"]
        );
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = resolve(&["nosuch"]).unwrap_err().to_string();
        assert!(
            error.contains("no module nosuch") && error.contains("/m"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_without_lists_is_named_with_the_mend() {
        let error = Modules::read(Path::new("/nowhere"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/nowhere") && error.contains("depmod"),
            "{error}"
        );
    }
}
