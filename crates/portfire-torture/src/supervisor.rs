//! Starts the processes, kills some, waits for the end, and has the traces checked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portfire::{Counts, Storage};

use crate::{AnyError, Plan, checker, effects};

/// Between two looks at the processes and the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Longest wait for the servers to end when they are asked to.
const END_MAX: Duration = Duration::from_secs(30);

pub(crate) async fn run(plan: &Plan) -> Result<(), AnyError> {
    let directory = Directory::new(plan.dir.as_deref())?;
    let mut field = Field::start(plan, &directory.path).await?;
    let begin = Instant::now();
    let outcome = field.watch(begin).await;
    let time = begin.elapsed();
    // The processes end with their supervisor's pipes, also when the watch failed.
    let (counts, kills) = outcome?;
    let mut faults = field.end()?;
    drop(field);
    let effects = effects::read(&directory.path)?;
    faults.extend(checker::check(plan.jobs, kills, &effects, &counts));
    faults.extend(warnings(&directory.path, kills)?);
    let Plan { jobs, clients, servers, .. } = plan;
    println!(
        "torture processes: {jobs} jobs, {clients} clients, {servers} servers, {kills} kills, \
         {} effects, {} recovered, {:.1} s",
        effects.len(),
        counts.recovered_total,
        time.as_secs_f64(),
    );
    if faults.is_empty() {
        println!("torture processes: passed");
        return directory.remove();
    }
    let list: Vec<String> = faults.iter().map(|fault| format!("\n- {fault}")).collect();
    let place = directory.path.display();
    Err(format!("FAILED, traces are kept in {place}{}", list.concat()).into())
}

/// Where the database, the effect logs and the logs are.
struct Directory {
    path: PathBuf,
    kept: bool,
}

impl Directory {
    fn new(wanted: Option<&Path>) -> Result<Directory, AnyError> {
        let own = || std::env::temp_dir().join(format!("portfire-torture-{}", std::process::id()));
        let path = wanted.map_or_else(own, Path::to_owned);
        std::fs::create_dir_all(&path)?;
        if std::fs::read_dir(&path)?.next().is_some() {
            return Err(format!("{} is not empty", path.display()).into());
        }
        Ok(Directory { path, kept: wanted.is_some() })
    }

    fn remove(self) -> Result<(), AnyError> {
        if !self.kept {
            std::fs::remove_dir_all(&self.path)?;
        }
        Ok(())
    }
}

/// Starts processes.
struct Launch<'a> {
    plan: &'a Plan,
    directory: &'a Path,
    url: String,
    servers_started: u64,
}

impl Launch<'_> {
    fn server(&mut self, place: u64) -> Result<Child, AnyError> {
        let number = self.servers_started;
        self.servers_started += 1;
        let effects = self.directory.join(format!("server-{number}.effects"));
        let mut command = self.process(&format!("server-{number}"), "server")?;
        command.args(["--name", &format!("torture-{place}"), "--effects"]).arg(effects);
        Ok(command.stdin(Stdio::piped()).spawn()?)
    }

    fn client(&self, client: u64) -> Result<Child, AnyError> {
        let Plan { jobs, clients, .. } = self.plan;
        let (from, to) = (jobs * client / clients, jobs * (client + 1) / clients);
        let mut command = self.process(&format!("client-{client}"), "client")?;
        command.args(["--from", &from.to_string(), "--to", &to.to_string()]);
        Ok(command.stdin(Stdio::null()).spawn()?)
    }

    fn process(&self, name: &str, word: &str) -> Result<Command, AnyError> {
        let mut command = Command::new(std::env::current_exe()?);
        let log = File::create(self.directory.join(format!("{name}.log")))?;
        command.args([word, "--storage", &self.url]).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }
}

/// The running processes, and a look at what they do.
struct Field<'a> {
    launch: Launch<'a>,
    storage: Arc<dyn Storage>,
    clients: Vec<Child>,
    servers: Vec<Child>,
}

impl<'a> Field<'a> {
    async fn start(plan: &'a Plan, directory: &'a Path) -> Result<Field<'a>, AnyError> {
        let url = format!("sqlite://{}", directory.join("torture.db").display());
        let mut launch = Launch { plan, directory, url, servers_started: 0 };
        // All of them find no file and make it at the same time, and this process, too.
        let servers =
            (0..plan.servers).map(|place| launch.server(place)).collect::<Result<_, _>>()?;
        let clients =
            (0..plan.clients).map(|client| launch.client(client)).collect::<Result<_, _>>()?;
        let storage = portfire::open(&launch.url).await?;
        Ok(Field { launch, storage, clients, servers })
    }

    /// Waits until all jobs have succeeded, killing as planned: after equal shares of the jobs, so
    /// that a fast machine sees as many kills as a slow one. Answers the counters and the kills.
    async fn watch(&mut self, begin: Instant) -> Result<(Counts, u64), AnyError> {
        let Plan { jobs, servers, kills: planned, limit, .. } = *self.launch.plan;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut kills = 0;
        loop {
            look.tick().await;
            self.fail_if_one_died()?;
            let counts = self.storage.counts().await?;
            let done = counts.succeeded_total;
            if done >= jobs {
                return match kills < planned {
                    true => Err(format!("all was done after {kills} kills: enqueue more").into()),
                    false => Ok((counts, kills)),
                };
            }
            if begin.elapsed() > Duration::from_secs(limit) {
                return Err(format!("not done after {limit} s: {counts:?}").into());
            }
            if kills < planned && done >= jobs * (kills + 1) / (planned + 1) {
                self.replace_server(kills % servers)?;
                kills += 1;
            }
        }
    }

    fn replace_server(&mut self, place: u64) -> Result<(), AnyError> {
        let next = self.launch.server(place)?;
        let server = &mut self.servers[place as usize];
        server.kill()?;
        server.wait()?;
        *server = next;
        Ok(())
    }

    fn fail_if_one_died(&mut self) -> Result<(), AnyError> {
        for client in &mut self.clients {
            if let Some(status) = client.try_wait()?.filter(|status| !status.success()) {
                return Err(self.death("client", status));
            }
        }
        for server in &mut self.servers {
            if let Some(status) = server.try_wait()? {
                return Err(self.death("server", status));
            }
        }
        Ok(())
    }

    fn death(&self, what: &str, status: std::process::ExitStatus) -> AnyError {
        format!("a {what} ended with {status}: see the logs in {}", self.launch.directory.display())
            .into()
    }

    /// Asks the servers to end, and waits. A server that ends badly or not at all is a fault.
    fn end(&mut self) -> Result<Vec<String>, AnyError> {
        let mut faults = Vec::new();
        for server in &mut self.servers {
            drop(server.stdin.take());
        }
        for client in &mut self.clients {
            client.wait()?;
        }
        let begin = Instant::now();
        for server in &mut self.servers {
            let status = loop {
                match server.try_wait()? {
                    Some(status) => break Some(status),
                    None if begin.elapsed() > END_MAX => break None,
                    None => std::thread::sleep(LOOK_INTERVAL),
                }
            };
            match status {
                Some(status) if status.success() => {}
                Some(status) => faults.push(format!("a server ended with {status}")),
                None => faults.push(format!("a server did not end within {END_MAX:?}")),
            }
        }
        Ok(faults)
    }
}

impl Drop for Field<'_> {
    /// Leaves no process behind.
    fn drop(&mut self) {
        for child in self.clients.iter_mut().chain(&mut self.servers) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the processes warned of. Where servers are killed their death may be spoken of; a busy
/// database never is.
fn warnings(directory: &Path, kills: u64) -> Result<Vec<String>, AnyError> {
    let mut faults = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let log = std::fs::read_to_string(&path)?;
        let is_fault = |line: &&str| {
            let lower = line.to_lowercase();
            kills == 0 || lower.contains("busy") || lower.contains("database is locked")
        };
        let mut lines = log.lines().filter(is_fault);
        if let Some(line) = lines.next() {
            let more = lines.count();
            faults.push(format!("{}: {line} (and {more} more)", path.display()));
        }
    }
    Ok(faults)
}
