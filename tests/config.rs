//! Configuration: what is accepted, what is refused and in which words.

mod environment;
mod example;
mod file;
mod property;
mod route;
mod secret;
mod server;
mod shape;
mod value;

use std::fs;
use std::path::{Path, PathBuf};

use outbox_relay::config::Config;
use tempfile::TempDir;

/// The least that is accepted; tests add to it or break it.
const DATABASE: &str = "[database]\nurl = \"postgres://relay@db/app\"\n";
const AMQP: &str = "[target.orders]\nkind = \"amqp\"\nurl = \"amqp://relay@mq\"\n\
                    route = [{ topic = \"*\", exchange = \"orders\" }]\n";
const KAFKA: &str = "[target.lake]\nkind = \"kafka\"\nbrokers = \"kafka:9092\"\n\
                     route = [{ topic = \"*\", kafka_topic = \"orders\" }]\n";

/// A folder with a configuration in it.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn new(toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("relay.toml"), toml).expect("a file");
        Self { folder }
    }

    fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.folder.path().join(name), content).expect("a file");
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    /// Loads it; a refusal is the message as a person sees it, without the folder's random name.
    fn load(&self, environment: &[(&str, &str)]) -> Result<Config, String> {
        Config::load_with(&self.path(), environment.iter().copied()).map_err(|error| {
            let folder = format!("{}/", self.folder.path().display());
            error.to_string().replace(&folder, "")
        })
    }

    fn accepted(&self, environment: &[(&str, &str)]) -> Config {
        self.load(environment).unwrap_or_else(|refusal| panic!("refused: {refusal}"))
    }

    fn refused(&self, environment: &[(&str, &str)]) -> String {
        match self.load(environment) {
            Ok(_) => panic!("accepted: {:?}", fs::read_to_string(self.path())),
            Err(refusal) => refusal,
        }
    }
}

/// The message about a file that is refused.
fn refused(toml: &str) -> String {
    Folder::new(toml).refused(&[])
}

fn accepted(toml: &str) -> Config {
    Folder::new(toml).accepted(&[])
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a workspace")
}
