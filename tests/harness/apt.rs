//! The real apt-get and dpkg, with private directories and a scratch root.

use std::{
    fs::{self, File},
    io::{Read, Seek},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{archive::Package, daemon::bare, deb::hex, eventually, have};

/// How long a run of apt may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// How apt comes to its files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the mirror, past the daemon.
    Direct,
    /// `Acquire::http::Proxy`
    Proxy(SocketAddr),
    /// A source whose host is the daemon.
    Rewritten(SocketAddr),
}

/// Whether this machine has apt and dpkg.
pub fn have_apt() -> bool {
    have("apt-get") && have("dpkg")
}

/// One host's apt.
pub struct Apt {
    root: PathBuf,
    way: Way,
}

/// How a run of apt ended.
#[derive(Debug)]
pub struct Run {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote.
    pub text: String,
}

impl Run {
    /// Fails with what apt said unless it went well and without a warning.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        let complaint = self.text.lines().any(|line| line.starts_with("W:") || line.starts_with("E:"));
        assert!(self.status.success() && !complaint, "{}\n{}", self.status, self.text);
        self
    }

    /// Fails unless apt failed or warned.
    #[track_caller]
    pub fn expect_complaint(self) -> Self {
        let complaint = self.text.lines().any(|line| line.starts_with("W:") || line.starts_with("E:"));
        assert!(complaint, "{}\n{}", self.status, self.text);
        self
    }
}

impl Apt {
    /// An apt whose `etc/apt` is below `root`; everything else that it needs is made.
    pub fn new(root: &Path, way: Way) -> Self {
        for folder in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt"] {
            fs::create_dir_all(root.join(folder)).expect("the scratch directory is ours");
        }
        for folder in ["info", "updates", "triggers", "alternatives"] {
            fs::create_dir_all(root.join("root/var/lib/dpkg").join(folder)).expect("the scratch directory is ours");
        }
        let status = root.join("root/var/lib/dpkg/status");
        if !status.exists() {
            fs::write(status, "").expect("the scratch directory is ours");
        }
        Self { root: root.to_owned(), way }
    }

    /// `apt-get update`
    pub fn update(&self) -> Run {
        run(self.get(&["update"]))
    }

    /// `apt-get install`, with dpkg into the scratch root.
    pub fn install(&self, packages: &[&str]) -> Run {
        run(self.get(&[&["install", "-y"], packages].concat()))
    }

    /// `apt-get install --download-only`
    pub fn download(&self, packages: &[&str]) -> Run {
        run(self.get(&[&["install", "-y", "--download-only"], packages].concat()))
    }

    /// The same, in the background.
    pub fn download_in_background(&self, packages: &[&str]) -> Background {
        Background::start(self.get(&[&["install", "-y", "--download-only"], packages].concat()))
    }

    /// The same, with further options (`Name=value`).
    pub fn download_with(&self, options: &[&str], packages: &[&str]) -> Background {
        let mut command = self.get(&[&["install", "-y", "--download-only"], packages].concat());
        options.iter().for_each(|option| {
            command.args(["-o", option]);
        });
        Background::start(command)
    }

    /// Fails unless the package is installed as dpkg sees it and the file that it brought has the right bytes.
    #[track_caller]
    pub fn assert_installed(&self, package: &Package) {
        let mut query = bare(Command::new("dpkg-query"));
        query.arg(format!("--admindir={}", self.root.join("root/var/lib/dpkg").display()));
        let run = run_to_end(query.args(["-W", "-f", "${Status} ${Version}", &package.name]));
        assert_eq!(run.text, format!("install ok installed {}", package.version));
        let file = self.root.join(format!("root/usr/share/{}/data", package.name));
        let bytes = fs::read(&file).expect("the package brings this file");
        assert_eq!(hex(&Sha256::digest(&bytes)), package.content_sha256, "{}", file.display());
    }

    /// Fails unless apt's cache has the package's file, byte for byte.
    #[track_caller]
    pub fn assert_downloaded(&self, package: &Package) {
        let file = self.cache().join(format!("{}_{}_all.deb", package.name, package.version));
        let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert_eq!(hex(&Sha256::digest(&bytes)), package.sha256, "{}", file.display());
    }

    /// The bytes of a package's file that apt has so far, when it has not all.
    pub fn partial(&self, package: &Package) -> Option<Vec<u8>> {
        fs::read(self.cache().join(format!("partial/{}_{}_all.deb", package.name, package.version))).ok()
    }

    /// Forgets every downloaded file.
    pub fn clean(&self) {
        run(self.get(&["clean"])).expect_success();
    }

    fn cache(&self) -> PathBuf {
        self.root.join("var/cache/apt/archives")
    }

    /// Any command that runs apt, as if this were the machine's own.
    pub fn command(&self, program: &str) -> Command {
        let conf = self.root.join("apt.conf");
        fs::write(&conf, self.conf()).expect("the scratch directory is ours");
        let mut command = bare(Command::new(program));
        command.env("APT_CONFIG", conf).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn get(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("apt-get");
        command.args(["-q", "-o", "Acquire::Retries=3"]).args(arguments);
        command
    }

    fn conf(&self) -> String {
        let proxy = match self.way {
            Way::Proxy(addr) => format!("Acquire::http::Proxy \"http://{addr}\";\n"),
            Way::Direct | Way::Rewritten(_) => String::new(),
        };
        let root = self.root.display();
        format!(
            "Dir::Etc \"{root}/etc/apt\";\nDir::Etc::parts \"/dev/null\";\nDir::Etc::main \"/dev/null\";\n\
             Dir::State \"{root}/var/lib/apt\";\nDir::State::status \"{root}/root/var/lib/dpkg/status\";\n\
             Dir::Cache \"{root}/var/cache/apt\";\nDir::Log \"{root}/var/log/apt\";\n\
             Dir::Etc::trusted \"/dev/null\";\nDir::Etc::trustedparts \"{root}/etc/apt/trusted.gpg.d\";\n\
             APT::Architecture \"amd64\";\nAPT::Architectures {{ \"amd64\"; }};\nAPT::Sandbox::User \"\";\n\
             APT::Get::Assume-Yes \"true\";\nAcquire::Languages {{ \"none\"; }};\n\
             Dpkg::Options {{ \"--root={root}/root\"; \"--force-not-root\"; \"--force-unsafe-io\"; \"--force-bad-path\"; \
             \"--log={root}/dpkg.log\"; }};\nDpkg::Use-Pty \"false\";\n{proxy}"
        )
    }
}

/// A run of apt that goes on beside the test. It is killed when it is dropped.
pub struct Background {
    child: Child,
    output: File,
}

impl Background {
    fn start(mut command: Command) -> Self {
        let output = tempfile::tempfile().expect("a temporary file");
        let descriptor = || output.try_clone().expect("a descriptor");
        let child = command.stdout(descriptor()).stderr(descriptor()).spawn().expect("apt is here");
        Self { child, output }
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Run {
        let status = eventually("apt ends", PATIENCE, || self.child.try_wait().expect("our child"));
        let mut text = Vec::new();
        self.output.rewind().and_then(|()| self.output.read_to_end(&mut text)).expect("a temporary file");
        Run { status, text: String::from_utf8_lossy(&text).into_owned() }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn run(command: Command) -> Run {
    Background::start(command).finish()
}

fn run_to_end(command: &mut Command) -> Run {
    let output = command.stderr(Stdio::inherit()).output().expect("dpkg is here");
    Run { status: output.status, text: String::from_utf8_lossy(&output.stdout).into_owned() }
}
