//! Where lines end up. A log that cannot be written loses its line, never its process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Output;

pub(super) enum Sink {
    Stderr,
    Folder { folder: PathBuf, open: Mutex<HashMap<String, File>> },
    Writer(Arc<Mutex<dyn Write + Send>>),
}

impl Sink {
    pub(super) fn new(output: Output) -> Self {
        match output {
            Output::Stderr => Self::Stderr,
            Output::Folder(folder) => Self::Folder { folder, open: Mutex::default() },
            Output::Writer(writer) => Self::Writer(writer),
        }
    }

    /// Writes a line in one call, so that lines of several threads and processes do not mix.
    pub(super) fn write(&self, service: &str, line: &str) {
        let written = match self {
            Self::Stderr => io::stderr().lock().write_all(line.as_bytes()),
            Self::Writer(writer) => writer.lock().write_all(line.as_bytes()),
            Self::Folder { folder, open } => append(folder, &mut open.lock(), service, line),
        };
        // A closed pipe or a full disk: there is nowhere left to say so.
        drop(written);
    }
}

fn append(folder: &Path, open: &mut HashMap<String, File>, service: &str, line: &str) -> io::Result<()> {
    if !open.contains_key(service) {
        let name: String = service.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let file = OpenOptions::new().create(true).append(true).open(folder.join(format!("{name}.log")))?;
        open.insert(service.to_owned(), file);
    }
    open.get_mut(service).map_or(Ok(()), |file| file.write_all(line.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("orders.log")).unwrap();
        let sink = Sink::new(Output::Folder(folder.path().to_owned()));
        sink.write("orders", "lost\n");
        sink.write("payments", "kept\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("payments.log")).unwrap(), "kept\n");
    }
}
