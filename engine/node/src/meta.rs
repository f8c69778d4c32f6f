//! The file that says whose a data directory is.
//!
//! One frame of kind `Meta`, holding a [`Meta`]: which member of which cluster, the number of the directory, what the
//! cluster began with, and how often the member has started. It is replaced whole, by writing a temporary file and
//! renaming it, and it is written before anything that depends on it: a boot number is durable before it is
//! used, so no two lives of a member ever give out the same request id.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::env::{Disk, File};
use crate::error::Error;
use crate::establish::Identity;

/// A cluster. Members of different clusters never talk to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Whose a data directory is, and how often its member has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The member. What the command line says by a later start does not change it.
    pub identity: Identity,
    /// How many times the member has started.
    pub boot: u64,
    /// Whether it was removed from the cluster: then it never starts again.
    pub removed: bool,
}

/// The file's name.
pub const META_FILE: &str = "meta";
const TEMPORARY: &str = "meta.tmp";

/// Reads the file, if there is one.
pub(crate) async fn read<D: Disk>(disk: &D) -> Result<Option<Meta>, Error> {
    let names = disk.list().await.map_err(Error::io("list", "the data directory"))?;
    if !names.iter().any(|name| name == META_FILE) {
        return Ok(None);
    }
    let bytes = read_file(disk, META_FILE).await?;
    let meta = codec::decode_whole(Kind::Meta, &bytes).map_err(|error| Error::decode(META_FILE, 0, error))?;
    Ok(Some(meta))
}

/// Replaces the file, durably.
pub(crate) async fn write<D: Disk>(disk: &D, meta: &Meta) -> Result<(), Error> {
    let mut bytes = Vec::new();
    codec::encode_frame(Kind::Meta, meta, &mut bytes)
        .map_err(|source| Error::Encode { file: META_FILE.into(), source })?;
    install_file(disk, TEMPORARY, META_FILE, &bytes).await
}

/// Notes that the member of this directory has been removed from its cluster, so that it never starts again.
pub async fn retire<D: Disk>(disk: &D) -> Result<(), Error> {
    match read(disk).await? {
        Some(meta) => write(disk, &Meta { removed: true, ..meta }).await,
        None => Ok(()),
    }
}

/// Makes a file appear under its name with all of its bytes, or not at all.
pub(crate) async fn install_file<D: Disk>(
    disk: &D,
    temporary: &str,
    name: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let mut file = create_afresh(disk, temporary).await?;
    file.append(bytes).await.map_err(Error::io("write", temporary))?;
    file.sync().await.map_err(Error::io("sync", temporary))?;
    drop(file);
    disk.rename(temporary, name).await.map_err(Error::io("rename to", name))?;
    disk.sync_dir().await.map_err(Error::io("sync", "the data directory"))
}

/// Creates a temporary file; one of this name that an interrupted attempt left behind is removed.
pub(crate) async fn create_afresh<D: Disk>(disk: &D, temporary: &str) -> Result<D::File, Error> {
    let names = disk.list().await.map_err(Error::io("list", "the data directory"))?;
    if names.iter().any(|name| name == temporary) {
        disk.remove(temporary).await.map_err(Error::io("remove", temporary))?;
    }
    disk.create(temporary).await.map_err(Error::io("create", temporary))
}

/// Reads a whole file.
pub(crate) async fn read_file<D: Disk>(disk: &D, name: &str) -> Result<Vec<u8>, Error> {
    let file = disk.open(name).await.map_err(Error::io("open", name))?;
    let len = file.len().await.map_err(Error::io("measure", name))?;
    let mut bytes = vec![0; usize::try_from(len).expect("a file that fits memory")];
    let read = read_full(&file, name, 0, &mut bytes).await?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills the buffer from a file; fewer bytes are read only at the file's end.
pub(crate) async fn read_full<F: File>(
    file: &F,
    name: &str,
    offset: u64,
    buffer: &mut [u8],
) -> Result<usize, Error> {
    let mut read = 0;
    while read < buffer.len() {
        let more =
            file.read_at(offset + read as u64, &mut buffer[read..]).await.map_err(Error::io("read", name))?;
        if more == 0 {
            break;
        }
        read += more;
    }
    Ok(read)
}
