//! The buckets and their objects, in memory or in a directory.
//!
//! In the directory each object is two files: its bytes under a name that is used once, and a description that names them. The description
//! is replaced by a rename, so an object is the one before or the new one whenever the process dies.
//!
//! **Invariant:** the served objects are those that the directory describes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What is known of an object beside its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) key: String,
    pub(super) etag: String,
    pub(super) length: usize,
    pub(super) modified_ms: u64,
    pub(super) headers: Vec<(String, String)>,
    pub(super) checksums: Vec<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Object {
    pub(super) about: About,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Here(Bytes),
    File(PathBuf),
}

impl Object {
    pub(super) fn bytes(&self) -> io::Result<Bytes> {
        match &self.content {
            Content::Here(bytes) => Ok(bytes.clone()),
            Content::File(path) => std::fs::read(path).map(Bytes::from),
        }
    }
}

/// An object's description in the directory.
#[derive(Debug, Serialize, Deserialize)]
struct Described {
    about: About,
    file: String,
}

/// A part of a listing.
#[derive(Debug, Default)]
pub(super) struct Listed<'a> {
    pub(super) objects: Vec<&'a About>,
    pub(super) prefixes: Vec<String>,
    /// After which the next part begins, where there is more.
    pub(super) next: Option<String>,
}

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Store {
    directory: Option<PathBuf>,
    buckets: BTreeMap<String, BTreeMap<String, Object>>,
}

impl Store {
    pub(super) fn open(directory: Option<PathBuf>) -> io::Result<Self> {
        let mut store = Self { directory, buckets: BTreeMap::new() };
        let Some(directory) = store.directory.clone() else {
            return Ok(store);
        };
        std::fs::create_dir_all(&directory)?;
        for bucket in std::fs::read_dir(&directory)? {
            let bucket = bucket?;
            let name = bucket.file_name().to_string_lossy().into_owned();
            store.buckets.insert(name, read_bucket(&bucket.path())?);
        }
        Ok(store)
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = &String> {
        self.buckets.keys()
    }

    pub(super) fn has_bucket(&self, name: &str) -> bool {
        self.buckets.contains_key(name)
    }

    pub(super) fn create_bucket(&mut self, name: &str) -> io::Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !name.chars().all(plain) || name.starts_with('.') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of the bucket is not valid"));
        }
        if let Some(directory) = &self.directory {
            std::fs::create_dir_all(directory.join(name))?;
        }
        self.buckets.entry(name.to_owned()).or_default();
        Ok(())
    }

    /// False where it is not empty.
    pub(super) fn delete_bucket(&mut self, name: &str) -> io::Result<bool> {
        if self.buckets.get(name).is_some_and(|objects| !objects.is_empty()) {
            return Ok(false);
        }
        if let Some(directory) = &self.directory {
            std::fs::remove_dir_all(directory.join(name))?;
        }
        self.buckets.remove(name);
        Ok(true)
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Option<&Object> {
        self.buckets.get(bucket)?.get(key)
    }

    pub(super) fn put(&mut self, bucket: &str, about: About, bytes: Bytes) -> io::Result<()> {
        let content = match &self.directory {
            None => Content::Here(bytes),
            Some(directory) => Content::File(write(&directory.join(bucket), &about, &bytes)?),
        };
        let objects = self.buckets.entry(bucket.to_owned()).or_default();
        if let Some(Object { content: Content::File(before), .. }) =
            objects.insert(about.key.clone(), Object { about, content })
        {
            // Nothing refers to it any more.
            let _left = std::fs::remove_file(before);
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, bucket: &str, key: &str) -> io::Result<()> {
        let Some(object) = self.buckets.get_mut(bucket).and_then(|objects| objects.remove(key)) else {
            return Ok(());
        };
        if let (Some(directory), Content::File(file)) = (&self.directory, object.content) {
            std::fs::remove_file(directory.join(bucket).join(description(key)))?;
            std::fs::remove_file(file)?;
        }
        Ok(())
    }

    pub(super) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: &str,
        after: &str,
        most: usize,
    ) -> Listed<'_> {
        let mut listed = Listed::default();
        let mut last = String::new();
        let objects = self.buckets.get(bucket).into_iter().flatten();
        for (key, object) in objects.filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after) {
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let end = (!delimiter.is_empty()).then(|| rest.find(delimiter)).flatten();
            let common = end.and_then(|end| key.get(..prefix.len() + end + delimiter.len()));
            // A common prefix is listed once, and skipped if the previous page listed it.
            if common.is_some_and(|common| {
                after.starts_with(common) || listed.prefixes.iter().any(|prefix| prefix == common)
            }) {
                last.clone_from(key);
                continue;
            }
            if listed.objects.len() + listed.prefixes.len() >= most {
                listed.next = Some(last);
                return listed;
            }
            match common {
                Some(common) => listed.prefixes.push(common.to_owned()),
                None => listed.objects.push(&object.about),
            }
            last.clone_from(key);
        }
        listed
    }
}

fn description(key: &str) -> String {
    format!("{}.json", hex::encode(Sha256::digest(key.as_bytes())))
}

fn write(directory: &Path, about: &About, bytes: &Bytes) -> io::Result<PathBuf> {
    let name = format!("{}.body", uuid::Uuid::new_v4().simple());
    let file = directory.join(&name);
    private(&file, bytes)?;
    let described = serde_json::to_vec(&Described { about: about.clone(), file: name })?;
    let (fresh, path) = (file.with_extension("new"), directory.join(description(&about.key)));
    private(&fresh, &described)?;
    std::fs::rename(&fresh, &path)?;
    Ok(file)
}

/// A new file that only its owner can read: it holds results and arguments of calls.
fn private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, bytes)
}

fn read_bucket(directory: &Path) -> io::Result<BTreeMap<String, Object>> {
    let mut objects = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let Described { about, file } = serde_json::from_slice(&std::fs::read(&path)?)?;
        let content = Content::File(directory.join(file));
        objects.insert(about.key.clone(), Object { about, content });
    }
    Ok(objects)
}
