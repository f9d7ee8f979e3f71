#![doc = include_str!("../README.md")]

use std::{collections::BTreeMap, time::Duration};

use remit_sdk::{
    Context, Fail, JsonSchema, Refusal, http, log,
    output::{Conclude, Exit, Lines, Output, Summary},
    step,
};
use remit_sdk_docker::{Asked, Demux, Engine, Source, ask, patiently, send, time};
use serde::Deserialize;
use serde_json::{Value, json};

mod options;

/// An image and what its container gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The image, best by digest.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The command and its arguments; left out: the image's own.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Options as `docker run` has them, each in one piece, such as `--network=none`: those of the README.
    #[serde(default)]
    pub options: Vec<String>,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

/// How long the daemon may keep a request waiting before is looked whether the run was cancelled.
const PAUSE: Duration = Duration::from_secs(3);
/// How long it may take between two words about an image that it fetches.
const FETCHING: Duration = Duration::from_secs(600);
/// Seconds that a container has to end by itself when the run was cancelled.
const GRACE: u32 = 2;

/// Runs the container.
#[step]
pub fn docker_run(input: Input, context: &Context) -> Result<Summary, Fail> {
    if input.image.is_empty() || input.image.starts_with('-') {
        return Err(Fail::new(format!("`image` is {:?}, which names no image", input.image)));
    }
    let wanted = wanted(&input)?;
    let engine = Engine::agree()?;
    let container = Container { engine: &engine, name: name(context), context };
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    container.make(&input.image, &wanted)?;
    let ran = container.run(conclude.keep());
    container.remove(&ran);
    ran.and_then(|ended| conclude.judge(ended, &input.image)).map_err(|fail| {
        if fail.message().starts_with(&input.image) { fail } else { fail.while_doing(&input.image) }
    })
}

/// What the daemon is asked to make.
fn wanted(input: &Input) -> Result<Value, Fail> {
    let mut env = Vec::with_capacity(input.env.len());
    for (variable, value) in &input.env {
        if variable.is_empty() || variable.contains('=') {
            return Err(Fail::new(format!("{variable:?} in `env` is no name of a variable")));
        }
        env.push(format!("{variable}={value}"));
    }
    // `Init` hands signals on, so that a container ends when it is told to.
    let mut wanted = json!({"Image": input.image, "Env": env, "Tty": false, "OpenStdin": false, "HostConfig": {"Init": true}});
    if !input.command.is_empty() {
        wanted["Cmd"] = input.command.clone().into();
    }
    options::apply(&input.options, &mut wanted)?;
    Ok(wanted)
}

/// The container's name: the same for each try, so that two never run beside one another.
fn name(context: &Context) -> String {
    let key = context.idempotency_key();
    let letters = key.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-');
    format!("remit-{}", letters.take(64).collect::<String>().to_ascii_lowercase())
}

/// An image by its name, and its tag or digest; without one, what the client takes.
fn tagged(image: &str) -> (&str, &str) {
    let last = image.rfind('/').map_or(0, |at| at + 1);
    match image.get(last..).and_then(|rest| rest.find(['@', ':'])) {
        Some(at) => image.split_at(last + at),
        None => (image, ":latest"),
    }
}

/// What has been read of a container's log.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Read {
    output: Last,
    error: Last,
    /// The time of the last piece, whichever its stream.
    latest: String,
}

/// Of one stream the time of the last piece, and how many pieces came with that time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Last {
    time: String,
    same: usize,
}

impl Read {
    fn of(&mut self, source: Source) -> &mut Last {
        match source {
            Source::Output => &mut self.output,
            Source::Error => &mut self.error,
        }
    }
}

/// Which part of a log is asked for.
#[derive(Clone, Copy)]
enum Part {
    /// All, as it is written, to the container's end.
    Followed,
    /// What is left of one stream after that end.
    Rest(Source),
}

struct Container<'a> {
    engine: &'a Engine,
    name: String,
    context: &'a Context,
}

impl Container<'_> {
    fn at(&self, rest: &[&str]) -> http::Url {
        self.engine.at(&[&["containers", self.name.as_str()], rest].concat())
    }

    /// Makes it. One of an earlier try is taken away, and an image that is not there is fetched.
    fn make(&self, image: &str, wanted: &Value) -> Result<(), Fail> {
        let (mut fetched, mut cleared) = (false, false);
        loop {
            let url = self.engine.at(&["containers", "create"]).query("name", &self.name);
            match ask(http::post(url).json(wanted))? {
                Asked::Answered(_) => return Ok(()),
                Asked::Refused(404, _) if !fetched => {
                    self.fetch(image).map_err(|fail| fail.while_doing(image))?;
                    fetched = true;
                }
                Asked::Refused(409, _) if !cleared => {
                    log::warn!("the container of an earlier try is taken away", container = self.name);
                    send(http::delete(self.at(&[]).query("force", true).query("v", true)))?;
                    cleared = true;
                }
                Asked::Refused(status, fail) => return Err(fail.while_doing(image).with("status", status)),
            }
        }
    }

    /// Has the daemon fetch an image; what it says meanwhile is read for the one word that counts.
    fn fetch(&self, image: &str) -> Result<(), Fail> {
        #[derive(Deserialize)]
        struct Word {
            error: Option<String>,
        }
        log::info!("the image is fetched", image = image);
        let (name, tag) = tagged(image);
        let tag = tag.trim_start_matches([':', '@']);
        let url = self.engine.at(&["images", "create"]).query("fromImage", name).query("tag", tag);
        let said = send(http::post(url).timeout(FETCHING))?.text()?;
        let words = said.lines().filter_map(|line| serde_json::from_str::<Word>(line).ok());
        match words.filter_map(|word| word.error).next_back() {
            Some(error) => Err(Fail::new(format!("the daemon refuses: {error}"))),
            None => Ok(()),
        }
    }

    /// From its start to its end.
    fn run(&self, keep: usize) -> Result<Output, Fail> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Ended {
            status_code: i32,
        }
        send(http::post(self.at(&["start"])))?;
        let (mut read, mut lines) = (Read::default(), Lines::new(keep));
        while !self.log(Part::Followed, &mut read, &mut lines)? {}
        let Ended { status_code } = loop {
            if let Some(answer) = patiently(self.context, http::post(self.at(&["wait"])), PAUSE)? {
                break answer.json()?;
            }
        };
        // Daemons have ended a log that is followed without what was written last. And they order what is written by
        // its stream only, so each is read on from where it was left.
        for source in [Source::Output, Source::Error] {
            while !self.log(Part::Rest(source), &mut read, &mut lines)? {}
        }
        Ok(lines.finish(Exit::Code(status_code)))
    }

    /// Reads its log from where it was left; true when it has ended, false when nothing came for a while.
    fn log(&self, part: Part, read: &mut Read, lines: &mut Lines) -> Result<bool, Fail> {
        let url = self.at(&["logs"]);
        let (url, since) = match part {
            Part::Followed => {
                (url.query("follow", true).query("stdout", true).query("stderr", true), &read.latest)
            }
            Part::Rest(Source::Output) => (url.query("stdout", true), &read.output.time),
            Part::Rest(Source::Error) => (url.query("stderr", true), &read.error.time),
        };
        let mut url = url.query("timestamps", true);
        if let Some(since) = time::since(since) {
            url = url.query("since", since);
        }
        let Some(mut answer) = patiently(self.context, http::get(url), PAUSE)? else { return Ok(false) };
        let mut demux = Demux::with_times();
        // Pieces of the time that is asked for come again.
        let mut before = read.clone();
        loop {
            let bytes = match answer.chunk() {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(true),
                Err(http::Error::Refused { refusal: Refusal::Failed(_), .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let time = |source: Source, time: &str| {
                let again = before.of(source);
                if time == again.time && again.same > 0 {
                    again.same -= 1;
                    return false;
                }
                time.clone_into(&mut read.latest);
                let last = read.of(source);
                if time == last.time {
                    last.same += 1;
                } else {
                    *last = Last { time: time.to_owned(), same: 1 };
                }
                true
            };
            demux.push(&bytes, time, |source, piece| match source {
                Source::Output => lines.stdout(piece),
                Source::Error => lines.stderr(piece),
            })?;
        }
    }

    /// Takes it away; where the run was cancelled it may end by itself first.
    fn remove<T>(&self, ran: &Result<T, Fail>) {
        if matches!(ran, Err(fail) if fail.is_cancelled()) {
            let _ = ask(http::post(self.at(&["stop"]).query("t", GRACE)));
        }
        if let Err(fail) = send(http::delete(self.at(&[]).query("force", true).query("v", true))) {
            log::warn!("the container could not be taken away: {fail}", container = self.name);
        }
    }
}

#[cfg(test)]
mod tests;
