//! Reads ISO 9660 images: what a guest's kernel would do with the medium in the CD-ROM drive, for kernels that have no
//! such file system. Names come from Joliet where it is there, else from Rock Ridge, else from the plain records.
//!
//! Field offsets are those of ECMA-119; the system use entries those of SUSP and RRIP.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const SECTOR: u64 = 2048;
/// Boot media are small; a larger directory tree or file is a damaged image.
const LIMIT: u64 = 128 << 20;
const MAX_DEPTH: usize = 16;

/// Content of a medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Medium {
    /// Volume label, for example `ignition` or `config-2`.
    pub label: String,
    /// Files by their path, without a leading slash.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// The file cannot be read.
    #[error("cannot read the image: {0}")]
    Io(#[from] std::io::Error),
    /// It is not an ISO 9660 image, or a damaged one.
    #[error("not an ISO 9660 image: {0}")]
    Malformed(&'static str),
}

/// Reads a whole image.
pub fn read(path: &Path) -> Result<Medium, IsoError> {
    let image = Image { file: File::open(path)? };
    let volumes = image.volumes()?;
    let primary = volumes.primary.ok_or(IsoError::Malformed("no primary volume descriptor"))?;
    let mut medium = Medium { label: primary.label, ..Medium::default() };
    let mut walk = Walk { image: &image, names: Names::Plain, left: LIMIT, files: &mut medium.files };
    if let Some(joliet) = volumes.joliet {
        walk.names = Names::Joliet;
        walk.directory(joliet.root, Path::new(""), 0)?;
    } else {
        walk.directory(primary.root, Path::new(""), 0)?;
    }
    Ok(medium)
}

#[derive(Clone, Copy)]
struct Extent {
    sector: u32,
    length: u32,
}

struct Volume {
    label: String,
    root: Extent,
}

#[derive(Default)]
struct Volumes {
    primary: Option<Volume>,
    joliet: Option<Volume>,
}

#[derive(Clone, Copy, PartialEq)]
enum Names {
    Plain,
    Joliet,
}

struct Image {
    file: File,
}

impl Image {
    fn read(&self, extent: Extent) -> Result<Vec<u8>, IsoError> {
        if u64::from(extent.length) > LIMIT {
            return Err(IsoError::Malformed("an extent is larger than any boot medium"));
        }
        let mut bytes = vec![0; extent.length as usize];
        self.file.read_exact_at(&mut bytes, u64::from(extent.sector) * SECTOR).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => IsoError::Malformed("it ends before its content does"),
            _ => IsoError::Io(error),
        })?;
        Ok(bytes)
    }

    fn volumes(&self) -> Result<Volumes, IsoError> {
        let mut volumes = Volumes::default();
        for sector in 16..64 {
            let descriptor = self.read(Extent { sector, length: 2048 })?;
            if &descriptor[1..6] != b"CD001" {
                return Err(IsoError::Malformed("no volume descriptor"));
            }
            match descriptor[0] {
                1 if volumes.primary.is_none() => {
                    let label = String::from_utf8_lossy(&descriptor[40..72]).trim_end_matches([' ', '\0']).to_owned();
                    volumes.primary = Some(Volume { label, root: record_extent(&descriptor[156..190])? });
                }
                // The escape sequences of the three levels of UCS-2.
                2 if matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E") => {
                    volumes.joliet = Some(Volume { label: String::new(), root: record_extent(&descriptor[156..190])? });
                }
                255 => break,
                _ => {}
            }
        }
        Ok(volumes)
    }
}

struct Walk<'a> {
    image: &'a Image,
    names: Names,
    /// Bytes that may still be read: a damaged image must not fill the memory.
    left: u64,
    files: &'a mut BTreeMap<PathBuf, Vec<u8>>,
}

impl Walk<'_> {
    fn directory(&mut self, extent: Extent, path: &Path, depth: usize) -> Result<(), IsoError> {
        if depth > MAX_DEPTH {
            return Err(IsoError::Malformed("directories are nested too deep"));
        }
        let bytes = self.take(extent)?;
        let mut at = 0;
        while at < bytes.len() {
            let length = usize::from(bytes[at]);
            if length == 0 {
                // Records do not cross sectors; the rest of this one is padding.
                at = (at / 2048 + 1) * 2048;
                continue;
            }
            let record = bytes.get(at..at + length).ok_or(IsoError::Malformed("a directory record is cut off"))?;
            at += length;
            self.record(record, path, depth)?;
        }
        Ok(())
    }

    fn record(&mut self, record: &[u8], path: &Path, depth: usize) -> Result<(), IsoError> {
        let extent = record_extent(record)?;
        let name_length = usize::from(record[32]);
        let name = record.get(33..33 + name_length).ok_or(IsoError::Malformed("a file name is cut off"))?;
        // The directory itself and its parent.
        if matches!(name, [0 | 1]) {
            return Ok(());
        }
        let name = match self.names {
            Names::Joliet => joliet_name(name),
            // The system use area starts on an even offset.
            Names::Plain => record
                .get(33 + name_length + usize::from(name_length.is_multiple_of(2))..)
                .and_then(rock_ridge_name)
                .unwrap_or_else(|| plain_name(name)),
        };
        if name.is_empty() || name == ".." || name == "." || name.contains(['/', '\0']) {
            return Err(IsoError::Malformed("a file name that is no name"));
        }
        let path = path.join(name);
        if record[25] & 2 != 0 {
            return self.directory(extent, &path, depth + 1);
        }
        let content = self.take(extent)?;
        self.files.insert(path, content);
        Ok(())
    }

    fn take(&mut self, extent: Extent) -> Result<Vec<u8>, IsoError> {
        self.left = self
            .left
            .checked_sub(u64::from(extent.length))
            .ok_or(IsoError::Malformed("its files are larger than any boot medium"))?;
        self.image.read(extent)
    }
}

fn record_extent(record: &[u8]) -> Result<Extent, IsoError> {
    let number = |at: usize| record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (number(2), number(10), record.len()) {
        (Some(sector), Some(length), 34..) => Ok(Extent { sector, length }),
        _ => Err(IsoError::Malformed("a directory record is cut off")),
    }
}

fn joliet_name(name: &[u8]) -> String {
    let units = name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let name: String = char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    without_version(&name).to_owned()
}

/// Plain names are upper case by rule; what they were before is lower case by custom.
fn plain_name(name: &[u8]) -> String {
    without_version(&String::from_utf8_lossy(name)).trim_end_matches('.').to_lowercase()
}

fn without_version(name: &str) -> &str {
    name.rsplit_once(';')
        .filter(|(_, version)| version.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(name, |(name, _)| name)
}

/// The name that Rock Ridge's NM entries give, if there are any.
fn rock_ridge_name(mut area: &[u8]) -> Option<String> {
    let mut name = None::<Vec<u8>>;
    while let [first, second, length, ..] = *area {
        let length = usize::from(length);
        let entry = area.get(..length).filter(|entry| entry.len() >= 4)?;
        if (first, second) == (b'N', b'M') {
            name.get_or_insert_default().extend_from_slice(entry.get(5..)?);
        }
        area = &area[length..];
    }
    name.map(|name| String::from_utf8_lossy(&name).into_owned())
}
