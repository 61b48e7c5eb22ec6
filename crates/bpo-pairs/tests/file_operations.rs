//! Writing, removing and reading files.

use std::fs;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use bpo_pairs::files::{
    AppendLog, FileError, StagedDir, copy_files, open_input, read_bytes, read_text, remove_owned_dir,
    write_atomic, write_bytes,
};

/// Returns the names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_not_ours(result: Result<(), FileError>) -> bool {
    matches!(result, Err(FileError::NotOurs { .. }))
}

#[test]
fn failed_write_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    write_bytes(&path, b"old").unwrap();
    let failed: Result<(), FileError> = write_atomic(&path, |writer| {
        writer.write_all(b"half of the new").map_err(FileError::io("write", &path))?;
        Err(FileError::Locked { path: path.clone() })
    });
    assert!(matches!(failed, Err(FileError::Locked { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    write_bytes(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["a.txt"]);
    let error = write_bytes(&dir.path().join("no/a.txt"), b"").unwrap_err();
    assert!(error.is_not_found() && error.to_string().ends_with("no/a.txt"), "{error}");
    assert!(matches!(write_bytes(dir.path(), b""), Err(FileError::NotAFile { found: "a directory", .. })));
}

#[test]
fn files_with_the_longest_names_can_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let name = "n".repeat(255);
    write_bytes(&dir.path().join(&name), b"x").unwrap();
    assert_eq!(names(dir.path()), [name]);
}

/// Each writer writes different bytes, so a mix of two writers would be detected.
#[test]
fn concurrent_writers_of_one_file_do_not_mix() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..50 {
                    write_bytes(path, &[writer; 10_000]).unwrap();
                    let found = fs::read(path).unwrap();
                    assert!(found.len() == 10_000 && found.iter().all(|byte| *byte == found[0]));
                }
            });
        }
    });
    assert_eq!(names(dir.path()), ["a.txt"]);
}

/// Creates files with names that other programs give to temporary files.
#[test]
fn files_of_the_user_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["a.txt.part", "a.txt.partial", "a.txt.tmp", ".a.txt.tmp", ".bpo-a.tmp", "out.part"] {
        fs::write(at(name), "mine").unwrap();
    }
    fs::create_dir(at("out.partial")).unwrap();
    fs::write(at("out.partial/thesis"), "mine").unwrap();
    let before = names(dir.path());
    write_bytes(&at("a.txt"), b"x").unwrap();
    let out = StagedDir::new(&at("out")).unwrap();
    fs::write(out.path().join("b.txt"), "x").unwrap();
    out.commit().unwrap();
    let after = names(dir.path());
    assert!(before.iter().all(|name| after.contains(name)) && after.len() == before.len() + 2, "{after:?}");
    assert_eq!(fs::read(at("out.partial/thesis")).unwrap(), b"mine");
}

#[test]
fn staged_directory_is_complete_or_missing() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("new/out");
    let dir = StagedDir::new(&out).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/a.txt"), "a").unwrap();
    drop(dir);
    assert!(names(out.parent().unwrap()).is_empty());

    // with a trailing slash, as shell completion adds
    let mut slashed = out.clone().into_os_string();
    slashed.push("/");
    let dir = StagedDir::new(Path::new(&slashed)).unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/a.txt"), "a").unwrap();
    assert!(!out.exists());
    dir.commit().unwrap();
    assert_eq!(fs::read(out.join("sub/a.txt")).unwrap(), b"a");
    assert_eq!(names(out.parent().unwrap()), ["out"]);

    assert!(matches!(StagedDir::new(&out), Err(FileError::Occupied { path }) if path == out));
    let file = parent.path().join("file");
    fs::write(&file, "mine").unwrap();
    assert!(matches!(StagedDir::new(&file), Err(FileError::Occupied { .. })));
    let empty = parent.path().join("empty");
    fs::create_dir(&empty).unwrap();
    StagedDir::new(&empty).unwrap().commit().unwrap();
}

#[test]
fn only_marked_directories_are_replaced_or_removed() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let write = |text: &str| {
        let dir = StagedDir::replacing(&out)?;
        fs::write(dir.path().join(format!("{text}.txt")), text).unwrap();
        dir.commit()
    };
    write("first").unwrap();
    write("second").unwrap();
    let files = |dir: &Path| names(dir).into_iter().filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
    assert_eq!(files(&out), ["second.txt"]);
    assert_eq!(names(parent.path()), ["out"]);

    // a file that bpo did not write is found before staging and at commit
    let dir = StagedDir::replacing(&out).unwrap();
    fs::write(out.join("thesis"), "mine").unwrap();
    assert!(is_not_ours(dir.commit()));
    assert!(is_not_ours(write("third")));
    assert!(is_not_ours(remove_owned_dir(&out)));
    let error = remove_owned_dir(&out).unwrap_err().to_string();
    assert!(error.contains("did not write the file thesis in it"), "{error}");
    assert_eq!(fs::read(out.join("thesis")).unwrap(), b"mine");
    assert_eq!(names(parent.path()), ["out"]);

    let mine = parent.path().join("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("config.json"), "{}").unwrap();
    assert!(is_not_ours(remove_owned_dir(&mine)) && is_not_ours(StagedDir::replacing(&mine).map(drop)));
    assert!(is_not_ours(remove_owned_dir(&mine.join("config.json"))));
    fs::write(mine.join(".bpo-owned"), "mine").unwrap();
    assert!(is_not_ours(remove_owned_dir(&mine)));
    assert_eq!(names(&mine), [".bpo-owned", "config.json"]);

    let ours = parent.path().join("ours");
    StagedDir::new(&ours).unwrap().commit().unwrap();
    remove_owned_dir(&ours).unwrap();
    remove_owned_dir(&ours).unwrap();
    assert_eq!(names(parent.path()), ["mine", "out"]);
}

#[test]
fn log_is_appended_by_lines_and_can_be_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.jsonl");
    let mut log = AppendLog::open(&path).unwrap();
    assert!(log.is_empty());
    log.append(b"1\n").unwrap();
    log.append(b"2\n").unwrap();
    assert_eq!(log.reader().unwrap().lines().map(Result::unwrap).collect::<Vec<_>>(), ["1", "2"]);
    assert!(matches!(AppendLog::open(&path), Err(FileError::Locked { .. })));
    log.truncate(9).unwrap();
    log.truncate(3).unwrap();
    log.truncate(2).unwrap();
    log.append(b"3\n").unwrap();
    log.sync().unwrap();
    assert_eq!(log.len(), 4);
    drop(log);
    assert_eq!(fs::read(&path).unwrap(), b"1\n3\n");
    assert!(matches!(AppendLog::open(dir.path()), Err(FileError::NotAFile { .. })));
}

#[test]
fn reading_is_limited_and_errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.txt");
    fs::write(&path, "äö").unwrap();
    assert_eq!(read_text(&path, 4).unwrap(), "äö");
    assert!(matches!(read_bytes(&path, 3), Err(FileError::TooLarge { limit: 3, .. })));
    fs::write(&path, b"a\xff").unwrap();
    assert!(matches!(read_text(&path, 4), Err(FileError::NotText { at: 1, .. })));
    assert!(matches!(open_input(dir.path()), Err(FileError::NotAFile { found: "a directory", .. })));
    let error = read_text(&dir.path().join("none"), 4).unwrap_err();
    assert!(error.is_not_found() && error.to_string().starts_with("cannot open"), "{error}");
}

#[cfg(unix)]
mod unix {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn fifo(dir: &Path) -> PathBuf {
        let path = dir.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_are_default_or_those_of_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a.txt"), dir.path().join("b.txt"));
        fs::File::create(&other).unwrap();
        write_bytes(&path, b"").unwrap();
        assert_eq!(mode(&path), mode(&other));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_bytes(&path, b"x").unwrap();
        assert_eq!(mode(&path), 0o640);
        let (made, other) = (dir.path().join("made"), dir.path().join("other"));
        fs::create_dir(&other).unwrap();
        StagedDir::new(&made).unwrap().commit().unwrap();
        assert_eq!(mode(&made), mode(&other));
    }

    #[test]
    fn devices_fifos_and_sockets_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = fifo(dir.path());
        let [link, socket] = ["link", "socket"].map(|name| dir.path().join(name));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        symlink("socket", &link).unwrap();
        let found = |result: Result<(), FileError>| match result.unwrap_err() {
            FileError::NotAFile { path: named, found } => (named, found),
            other => panic!("{other}"),
        };
        // devices are only read: a fault in writing could replace them
        let device = Path::new("/dev/zero");
        assert_eq!(found(open_input(device).map(drop)), (device.to_owned(), "a device"));
        assert_eq!(found(read_bytes(device, 9).map(drop)), (device.to_owned(), "a device"));
        for (path, expected) in [(&fifo, "a FIFO"), (&socket, "a socket"), (&link, "a socket")] {
            let expected = (path.to_owned(), expected);
            assert_eq!(found(write_bytes(path, b"x")), expected);
            assert_eq!(found(AppendLog::open(path).map(drop)), expected);
            assert_eq!(found(open_input(path).map(drop)), expected);
            assert_eq!(found(read_bytes(path, 9).map(drop)), expected);
            assert!(StagedDir::new(path).is_err());
            assert!(is_not_ours(remove_owned_dir(path)));
        }
        assert_eq!(names(dir.path()), ["fifo", "link", "socket"]);
    }

    #[test]
    fn links_are_followed_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("far")).unwrap();
        symlink("far/new", at("dangling")).unwrap();
        symlink("dangling", at("chain")).unwrap();
        write_bytes(&at("chain"), b"first").unwrap();
        assert_eq!(fs::read(at("far/new")).unwrap(), b"first");
        write_bytes(&at("dangling"), b"second").unwrap();
        assert_eq!(fs::read(at("far/new")).unwrap(), b"second");
        assert!(at("chain").is_symlink() && at("dangling").is_symlink());
        AppendLog::open(&at("chain")).unwrap().append(b"\n").unwrap();
        assert_eq!(fs::read(at("far/new")).unwrap(), b"second\n");

        symlink("loop", at("loop")).unwrap();
        assert!(matches!(write_bytes(&at("loop"), b""), Err(FileError::Io { .. })));

        fs::create_dir(at("far/dir")).unwrap();
        symlink("far/dir", at("dir")).unwrap();
        let staged = StagedDir::new(&at("dir")).unwrap();
        fs::write(staged.path().join("a.txt"), "a").unwrap();
        staged.commit().unwrap();
        assert!(at("dir").is_symlink() && at("far/dir/a.txt").exists());
        assert!(is_not_ours(remove_owned_dir(&at("dir"))));
        assert_eq!(names(&at("far")), ["dir", "new"]);
    }

    #[test]
    fn inherited_pipe_can_be_read() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"piped").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        assert_eq!(read_bytes(Path::new(&path), 9).unwrap(), b"piped");
    }

    #[test]
    fn only_links_inside_are_copied() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let target = |name: &str| {
            fs::create_dir(at(name)).unwrap();
            at(name)
        };
        fs::write(at("secret"), "secret").unwrap();
        fs::create_dir_all(at("model/sub")).unwrap();
        fs::write(at("model/config.json"), "{}").unwrap();
        fs::write(at("model/weights.bin"), "w").unwrap();
        symlink("config.json", at("model/inside.json")).unwrap();
        symlink("../secret", at("model/README.md")).unwrap();
        symlink(at("secret"), at("model/LICENSE")).unwrap();
        symlink("nowhere", at("model/dangling")).unwrap();
        fifo(&at("model"));
        let to = target("out");
        let wanted = |name: &Path| name.extension().is_none_or(|end| end != "bin");
        let left = copy_files(&at("model"), &to, wanted, |_| false);
        assert_eq!(left.unwrap(), [at("model/LICENSE"), at("model/README.md")]);
        assert_eq!(names(&to), ["config.json", "inside.json"]);
        // files that the caller reads are copied wherever they are
        let to = target("of-read");
        let left = copy_files(&at("model"), &to, wanted, |name| name == Path::new("LICENSE"));
        assert_eq!(left.unwrap(), [at("model/README.md")]);
        assert_eq!(names(&to), ["LICENSE", "config.json", "inside.json"]);
        assert_eq!(fs::read(to.join("LICENSE")).unwrap(), b"secret");

        // the layout of a Hugging Face cache
        let hub = at("hub/models--a--b");
        fs::create_dir_all(hub.join("snapshots/0a1b")).unwrap();
        fs::create_dir_all(hub.join("blobs")).unwrap();
        fs::write(hub.join("blobs/123"), "{}").unwrap();
        symlink("../../blobs/123", hub.join("snapshots/0a1b/config.json")).unwrap();
        symlink("../../../../secret", hub.join("snapshots/0a1b/README.md")).unwrap();
        let to = target("from-hub");
        let copied = |to: &Path| copy_files(&hub.join("snapshots/0a1b"), to, |_| true, |_| false).unwrap();
        assert_eq!(copied(&to), [hub.join("snapshots/0a1b/README.md")]);
        assert_eq!(names(&to), ["config.json"]);
        assert_eq!(fs::read(to.join("config.json")).unwrap(), b"{}");
        // with the blobs on another disk
        fs::rename(hub.join("blobs"), at("disk")).unwrap();
        symlink(at("disk"), hub.join("blobs")).unwrap();
        let to = target("from-disk");
        assert_eq!(copied(&to), [hub.join("snapshots/0a1b/README.md")]);
        assert_eq!(fs::read(to.join("config.json")).unwrap(), b"{}");
    }
}
