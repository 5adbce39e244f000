//! What is packed comes out of an archive again, in an order that the kernel can unpack.

use super::*;

/// Name, mode and content of each entry.
fn unpacked(archive: &Archive) -> Vec<(String, u32, Vec<u8>)> {
    let mut bytes = Vec::new();
    archive.write(&mut bytes).unwrap();
    let mut from = Cursor::new(bytes);
    let mut entries = Vec::new();
    loop {
        let mut reader = newc::Reader::new(from).unwrap();
        if reader.entry().is_trailer() {
            return entries;
        }
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        let entry = (
            reader.entry().name().to_owned(),
            reader.entry().mode(),
            content,
        );
        entries.push(entry);
        from = reader.finish().unwrap();
    }
}

#[test]
fn each_entry_comes_behind_its_folder() {
    let mut archive = Archive::default();
    archive.bytes(Path::new("/b/c/file"), b"text".to_vec(), 0o640);
    archive.folder(Path::new("/a"));
    let entries = unpacked(&archive);
    assert_eq!(
        entries,
        [
            ("a".to_owned(), 0o040_755, Vec::new()),
            ("b".to_owned(), 0o040_755, Vec::new()),
            ("b/c".to_owned(), 0o040_755, Vec::new()),
            ("b/c/file".to_owned(), 0o100_640, b"text".to_vec()),
        ]
    );
}

#[test]
fn a_folder_is_carried_with_its_files_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("deep")).unwrap();
    fs::write(root.join("deep/one"), "1").unwrap();
    std::os::unix::fs::symlink("deep/one", root.join("link")).unwrap();
    let mut archive = Archive::default();
    archive.carry(root).unwrap();
    let entries = unpacked(&archive);
    let of = |name: &str| {
        let whole = root.join(name).display().to_string();
        let found = entries
            .iter()
            .find(|entry| format!("/{}", entry.0) == whole);
        found.unwrap_or_else(|| panic!("no {name}")).clone()
    };
    assert_eq!(of("deep/one").2, b"1");
    assert_eq!(
        (of("link").1, of("link").2),
        (0o120_777, b"deep/one".to_vec())
    );
}

#[test]
fn sources_come_without_what_was_built() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["src", "target", ".git", ".ci"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), "").unwrap();
    }
    let mut archive = Archive::default();
    archive.sources(folder.path()).unwrap();
    let names: Vec<_> = unpacked(&archive)
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    for (name, is_there) in [
        ("src", true),
        (".ci", true),
        ("target", false),
        (".git", false),
    ] {
        let ending = format!("{name}/file");
        assert_eq!(
            names.iter().any(|n| n.ends_with(&ending)),
            is_there,
            "{name}"
        );
    }
}

#[test]
fn a_program_brings_its_libraries() {
    let mut archive = Archive::default();
    archive.carry(&std::env::current_exe().unwrap()).unwrap();
    assert!(
        archive
            .entries
            .keys()
            .any(|path| path.to_string_lossy().contains("libc.so")),
        "{:?}",
        archive.entries.keys()
    );
}

#[test]
fn what_is_missing_or_no_file_is_named() {
    let mut archive = Archive::default();
    let missing = archive
        .carry(Path::new("/no/such"))
        .unwrap_err()
        .to_string();
    assert!(missing.contains("/no/such"), "{missing}");
    let device = archive
        .carry(Path::new("/dev/null"))
        .unwrap_err()
        .to_string();
    assert!(device.contains("/dev/null"), "{device}");
}

#[test]
fn a_compressed_module_is_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("odd.ko"), "module").unwrap();
    let packed = Command::new("gzip")
        .arg(folder.path().join("odd.ko"))
        .status()
        .unwrap();
    assert!(packed.success());
    let mut archive = Archive::default();
    let inside = archive.module(&folder.path().join("odd.ko.gz")).unwrap();
    assert_eq!(inside, "/rig/modules/odd.ko");
    assert!(unpacked(&archive).iter().any(|entry| entry.2 == b"module"));
}
