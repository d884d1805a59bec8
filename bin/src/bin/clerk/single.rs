//! `put`, `append`, `get`, `delete`: one operation, any bytes.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use bytes::Bytes;
use clerk::Consistency;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, major, minor};

use raft_kv::output;

use crate::{arguments::Target, failure::Failure};

/// The longest value taken from standard input, in bytes: what one request may carry. A longer one is a usage error.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// The numbers of `/dev/null`, the same on every Linux.
const NULL_DEVICE: (u32, u32) = (1, 3);

/// How much of a key a message shows, in bytes.
const KEY_SHOWN_BYTES_MAX: usize = 60;

pub(crate) fn put(target: &Target, key: &OsStr, value: &OsStr) -> Result<(), Failure> {
    let value = read_value(value)?;
    target.clerk()?.put(bytes_of(key), value)?;
    Ok(())
}

pub(crate) fn append(target: &Target, key: &OsStr, value: &OsStr) -> Result<(), Failure> {
    let value = read_value(value)?;
    target.clerk()?.append(bytes_of(key), value)?;
    Ok(())
}

pub(crate) fn get(target: &Target, key: &OsStr, raw: bool, consistency: Consistency) -> Result<(), Failure> {
    let value = target.clerk()?.get_with(bytes_of(key), consistency)?.ok_or_else(|| not_found(key))?;
    output::write(&value)?;
    if !raw {
        output::write(b"\n")?;
    }
    Ok(())
}

pub(crate) fn delete(target: &Target, key: &OsStr) -> Result<(), Failure> {
    if target.clerk()?.delete(bytes_of(key))? { Ok(()) } else { Err(not_found(key)) }
}

fn not_found(key: &OsStr) -> Failure {
    Failure::NotFound(format!("there is no key {}", shown(key)))
}

/// The key as a message shows it, in quotes and no longer than a line takes.
fn shown(key: &OsStr) -> String {
    let key = key.to_string_lossy();
    match key.len() > KEY_SHOWN_BYTES_MAX {
        true => format!("{:?}…", &key[..key.floor_char_boundary(KEY_SHOWN_BYTES_MAX)]),
        false => format!("{key:?}"),
    }
}

fn bytes_of(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The value itself, or all of standard input for `-`.
fn read_value(value: &OsStr) -> Result<Bytes, Failure> {
    if value != "-" {
        return Ok(bytes_of(value));
    }
    let failed = |error| Failure::Usage(format!("standard input cannot be read: {error}"));
    if is_in_place_of_closed(io::stdin()).map_err(failed)? {
        return Err(Failure::Usage(
            "standard input is closed, so there is no value; write '' for an empty one".to_owned(),
        ));
    }
    let mut input = Vec::new();
    io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut input).map_err(failed)?;
    if input.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "the value on standard input is longer than {INPUT_BYTES_MAX} bytes"
        )));
    }
    Ok(Bytes::from(input))
}

/// Whether this is what the start of a program puts in the place of a standard input that its caller had closed: the null
/// device, open for reading *and writing*. A shell's `< /dev/null` is open for reading only, and an empty value.
fn is_in_place_of_closed(input: impl AsFd) -> io::Result<bool> {
    let access = fcntl_getfl(&input)? & OFlags::RWMODE;
    let file = fstat(&input)?;
    let is_null = FileType::from_raw_mode(file.st_mode) == FileType::CharacterDevice
        && (major(file.st_rdev), minor(file.st_rdev)) == NULL_DEVICE;
    Ok(is_null && access == OFlags::RDWR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_shown_in_part_and_never_cut_inside_a_letter() {
        assert_eq!(shown(OsStr::new("colour")), "\"colour\"");
        assert_eq!(shown(OsStr::new(&"é".repeat(31))), format!("\"{}\"…", "é".repeat(30)));
        assert_eq!(shown(OsStr::new(&format!("x{}", "é".repeat(31)))), format!("\"x{}\"…", "é".repeat(29)));
    }
}
