#![doc = include_str!("../README.md")]

use std::{collections::BTreeMap, time::Duration};

use remit_sdk::{
    Context, Fail, JsonSchema, http, log,
    output::{Conclude, Exit, Lines, Summary},
    step,
};
use serde::Deserialize;

mod answer;
mod envelope;

use answer::Answer;
use envelope::Envelope;

/// A script and the machine that runs it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The PowerShell script, at most 30,000 characters. Values do not belong into it: hand them over in `env`.
    #[schemars(length(min = 1))]
    pub script: String,
    /// Environment variables: `$env:NAME` in the script.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The machine's name; left out: the node's `hostname`.
    pub host: Option<String>,
    /// The port of WinRM over HTTPS.
    #[serde(default = "usual_port")]
    pub port: u16,
    /// Where it begins; left out: the user's own folder.
    pub directory: Option<String>,
    /// Whether any other end than exit code 0 fails the step.
    #[serde(default = "remit_sdk::output::yes")]
    pub fail_on_exit: bool,
    /// Whether the end of its output, 32 KiB of each stream, is part of the step's output.
    #[serde(default = "remit_sdk::output::yes")]
    pub capture: bool,
}

fn usual_port() -> u16 {
    5986
}

/// Longest script: Windows holds 32,767 characters in an environment variable.
const MAX_SCRIPT: usize = 30_000;
/// The variable in which the script travels: a command line would hold a tenth of it.
const SCRIPT: &str = "REMIT_SCRIPT";
/// What runs it: its words and numbers come back as text, and what it throws is an end with code 1.
const RUNNER: &str = "$ProgressPreference='SilentlyContinue';$ErrorActionPreference='Stop';\
[Console]::OutputEncoding=New-Object Text.UTF8Encoding $false;$remit=$env:REMIT_SCRIPT;Remove-Item Env:REMIT_SCRIPT;\
try{& ([ScriptBlock]::Create($remit)) | Out-String -Stream -Width 4096;if($null -ne $LASTEXITCODE){exit $LASTEXITCODE}}\
catch{[Console]::Error.WriteLine(($_|Out-String).Trim());exit 1}";
/// How long the machine holds a question for output before it answers that there is none yet.
const HOLD: Duration = Duration::from_secs(20);

/// Runs the script.
#[step]
pub fn winrm_command(input: Input, context: &Context) -> Result<Summary, Fail> {
    if input.script.trim().is_empty() {
        return Err(Fail::new("`script` is empty"));
    }
    let length = input.script.encode_utf16().count();
    if length > MAX_SCRIPT {
        return Err(Fail::new(format!(
            "the script has {length} characters, at most {MAX_SCRIPT} can be handed over"
        )));
    }
    if let Some(name) = input.env.keys().find(|name| !is_name(name)) {
        return Err(Fail::new(format!("{name:?} in `env` is no name of a variable")));
    }
    let host = match &input.host {
        Some(host) => host.clone(),
        None => context
            .target()?
            .get("hostname")
            .map(str::to_owned)
            .ok_or_else(|| Fail::new("the node has no attribute `hostname`: write `host`"))?,
    };
    // The port of an SSH server, which a node's `hostname` may carry, is none of WinRM's.
    let host = host.split_once(':').map_or(host.as_str(), |(name, _)| name).to_owned();
    if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) {
        return Err(Fail::new(format!("{host:?} is no host name")));
    }
    let url = http::url(format!("https://{host}:{}/wsman", input.port))?;
    let mut machine = Machine { url: url.to_string(), envelope: Envelope::new(&url.to_string(), context) };
    let conclude = Conclude { fail_on_exit: input.fail_on_exit, capture: input.capture };
    let inside = |fail: Fail| fail.while_doing(&host);
    let shell = machine.open(&input).map_err(inside)?;
    let ended = machine.run(&shell, conclude, context);
    if !matches!(&ended, Err(fail) if fail.is_cancelled()) {
        machine.close(&shell);
    }
    conclude.judge(ended.map_err(inside)?, host)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != SCRIPT
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

struct Machine {
    url: String,
    envelope: Envelope,
}

impl Machine {
    fn ask(&self, body: String) -> Result<Answer, Fail> {
        let answer = http::post(&self.url)
            .header("content-type", "application/soap+xml;charset=UTF-8")
            .body(body)
            .timeout(HOLD * 2)
            .max_body(2 << 20)
            .send()?;
        let status = answer.status();
        if status == 401 {
            return Err(Fail::new(
                "the machine refuses the login: is Basic authentication allowed there, over HTTPS, for this local user?",
            ));
        }
        let text = answer.text()?;
        let read = Answer::read(&text).map_err(|why| {
            Fail::new(format!("the machine does not answer as WinRM does: {why}")).with("status", status)
        })?;
        if status >= 400 && read.fault.is_none() {
            return Err(Fail::new(format!("the machine answers with status {status}")));
        }
        Ok(read)
    }

    fn checked(&self, body: String) -> Result<Answer, Fail> {
        let answer = self.ask(body)?;
        match answer.fault {
            Some(fault) => {
                Err(Fail::new(format!("the machine refuses: {}", fault.message)).with("code", fault.code))
            }
            None => Ok(answer),
        }
    }

    fn open(&mut self, input: &Input) -> Result<String, Fail> {
        let mut variables = input.env.clone();
        variables.insert(SCRIPT.to_owned(), input.script.clone());
        let answer = self.checked(self.envelope.create(&variables, input.directory.as_deref()))?;
        answer.shell.ok_or_else(|| Fail::new("the machine opened no shell"))
    }

    fn run(
        &mut self,
        shell: &str,
        conclude: Conclude,
        context: &Context,
    ) -> Result<remit_sdk::output::Output, Fail> {
        let answer = self.checked(self.envelope.command(shell, &encoded(RUNNER)))?;
        let command = answer.command.ok_or_else(|| Fail::new("the machine started no command"))?;
        let mut lines = Lines::new(conclude.keep());
        loop {
            let answer = self.ask(self.envelope.receive(shell, &command, HOLD))?;
            if let Some(fault) = &answer.fault {
                // Nothing was written while the machine held the question.
                if fault.is_timeout() {
                    context.check_cancelled()?;
                    continue;
                }
                return Err(
                    Fail::new(format!("the machine refuses: {}", fault.message)).with("code", &fault.code)
                );
            }
            for (error, bytes) in &answer.output {
                if *error { lines.stderr(bytes) } else { lines.stdout(bytes) }
            }
            if answer.done {
                return Ok(lines.finish(Exit::Code(answer.exit_code.unwrap_or(0))));
            }
        }
    }

    fn close(&mut self, shell: &str) {
        if let Err(fail) = self.checked(self.envelope.delete(shell)) {
            log::warn!("the shell could not be closed; the machine ends it by itself: {fail}");
        }
    }
}

/// A script as `-EncodedCommand` wants it: base64 of UTF-16.
fn encoded(script: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = script.encode_utf16().flat_map(u16::to_le_bytes).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests;
