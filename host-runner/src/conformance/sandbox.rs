//! What a guest has within its sandbox ends where it should: time and memory, floods of everything that it may say, files,
//! words, and the programs that it may start.

use std::collections::BTreeMap;

use anyhow::Result;
use remit_protocol::{
    Size, Span,
    capability::{Ceiling, exec::ExecCeiling},
    limits::{Fuel, LimitsPart},
};

use super::{
    bench::Setup,
    table::{Table, Try},
};

fn pure(limits: LimitsPart) -> Setup {
    Setup { limits, ..Setup::default() }
}

impl Table<'_> {
    /// Time and memory end.
    pub(super) fn computing(&mut self) {
        let short = LimitsPart { cpu: Some(Span::from_millis(100)), ..LimitsPart::default() };
        let brief = LimitsPart { wall: Some(Span::from_millis(500)), ..LimitsPart::default() };
        let small = LimitsPart { memory: Some(Size::from_mib(16)), ..LimitsPart::default() };
        let fine = |limits| Try::new(pure(limits), "nothing", "succeeded", "");
        let tried = |limits, act: &str, outcome| Try::new(pure(limits), act, outcome, "");
        self.add(15, "computes without end", tried(short, "loop", "over-limit(cpu)"), fine(short));
        let fuel = LimitsPart { fuel: Some(Fuel::new(10_000_000)), ..LimitsPart::default() };
        self.add(15, "computes beyond its fuel", tried(fuel, "loop", "over-limit(fuel)"), fine(fuel));
        self.add(15, "sleeps for an hour", tried(brief, "sleep 3600000", "timed-out"), fine(brief));
        self.add(
            15,
            "sleeps for an hour and hears nothing",
            tried(brief, "sleep-deaf 3600000", "timed-out"),
            fine(brief),
        );
        let twin = tried(small, "memory 8", "succeeded");
        self.add(16, "takes memory without end", tried(small, "memory 64", "over-limit(memory)"), twin);
        self.add(
            16,
            "calls itself without end",
            tried(LimitsPart::default(), "recurse", "trapped"),
            fine(small),
        );
        let left = Try::new(pure(LimitsPart::default()), "leftovers", "succeeded", "0").times(5);
        self.add(19, "looks for what the run before left in memory", left, fine(LimitsPart::default()));
        let cancelled = |act| tried(LimitsPart::default(), act, "cancelled").cancelled();
        self.add(29, "is cancelled while it computes", cancelled("loop"), fine(LimitsPart::default()));
        self.add(
            29,
            "is cancelled while it sleeps",
            cancelled("sleep-deaf 3600000"),
            fine(LimitsPart::default()),
        );
    }

    /// Much of everything.
    pub(super) fn floods(&mut self) -> Result<()> {
        let log = LimitsPart { log: Some(Size::from_bytes(10_000)), ..LimitsPart::default() };
        let output = LimitsPart { output: Some(Size::from_bytes(1000)), ..LimitsPart::default() };
        let handles = LimitsPart { handles: Some(100), ..LimitsPart::default() };
        let wide = LimitsPart { log: Some(Size::from_mib(1000)), ..LimitsPart::default() };
        let tried = |limits, act: &str, outcome| Try::new(pure(limits), act, outcome, "");
        let mut flood = |name: &str, limits, act: &str, outcome, twin: &str| {
            self.add(17, name, tried(limits, act, outcome), tried(limits, twin, "succeeded"));
        };
        flood("logs a million lines", log, "log 1000000", "over-limit(log)", "log 100");
        flood("logs one line of 20 kB", log, "log-bytes 20000", "over-limit(log)", "log-bytes 100");
        let lines = LimitsPart { lines: Some(100), ..LimitsPart::default() };
        flood("logs more lines than it may", lines, "log 101", "over-limit(lines)", "log 100");
        flood("prints empty lines without end", log, "print-flood ", "over-limit(log)", "print x");
        flood("returns 9 MB", output, "output 9000000", "over-limit(output)", "output 100");
        flood(
            "holds a million pollables",
            handles,
            "pollables 1000000",
            "over-limit(handles)",
            "pollables 50",
        );
        flood("hands over a text of 30 MB", wide, "huge-text 30000000", "over-limit(call)", "huge-text 1000");
        let plain = LimitsPart::default();
        flood("asks for 64 MiB of randomness", plain, "random 67108864", "trapped", "random 65536");
        flood("writes nothing, often", plain, "print-nothing 100000", "succeeded", "nothing");
        let many =
            Try::new(self.open()?, &self.get("/v1 many:33000"), "trapped", "total size of fields").on(0);
        let twin = Try::new(self.open()?, &self.get("/v1 many:33"), "succeeded", "200").on(1);
        self.add(17, "sets 33,000 header fields", many, twin);
        // No time at all is no wish, and the longest is cut.
        let none = Try::new(self.open()?, &self.get("/v1 patience:0"), "succeeded", "200").on(1);
        let twin = self.works()?;
        self.add(17, "gives a request no time at all", none, twin);
        let ages = self.get(&format!("/v1 patience:{}", u64::MAX));
        let ages = Try::new(self.open()?, &ages, "succeeded", "200").on(1);
        let twin = self.works()?;
        self.add(17, "gives a request six hundred years", ages, twin);
        let fields = Try::new(self.open()?, &self.get("/fields"), "failed", "HttpResponseHeaderSectionSize");
        let twin = self.works()?;
        self.add(17, "is answered with 33,000 header fields", fields, twin);
        let limits = LimitsPart { ingress: Some(Size::from_mib(1)), ..LimitsPart::default() };
        let flooded =
            Try::new(Setup { limits, ..self.open()? }, &self.get("/flood"), "over-limit(ingress)", "");
        let twin = self.works()?;
        self.add(17, "is answered with more than it may receive", flooded, twin);
        Ok(())
    }

    /// Files of its own, and no others.
    pub(super) fn files(&mut self) {
        let scratch = r#"{"files":[{"scratch":true}]}"#;
        let limits = LimitsPart { scratch: Some(Size::from_mib(1)), ..LimitsPart::default() };
        let setup = Setup {
            guest: "scratch".to_owned(),
            requests: scratch.to_owned(),
            grant: scratch.to_owned(),
            limits,
            ..Setup::default()
        };
        let twin = Try::new(setup.clone(), "write-read hello", "succeeded", "hello");
        for act in [
            "read /etc/hostname",
            "read /scratch/../../outside.txt",
            "read ../outside.txt",
            "read /proc/self/environ",
            "list /etc",
            "hard-link",
            "symlink /etc/hostname",
            "symlink ../../outside.txt",
            "rename-out /outside",
            "rename-out /scratch/../../moved",
        ] {
            let refused = Try::new(setup.clone(), act, "failed", "");
            self.add(18, &format!("leaves its directory ({act})"), refused, twin.clone());
        }
        for act in ["fill 20", "fill-removed 20", "set-length 1000000000000", "many-files 5000"] {
            let over = Try::new(setup.clone(), act, "over-limit(scratch)", "");
            self.add(18, &format!("writes more than its quota ({act})"), over, twin.clone());
        }
        self.artifacts();
        let none = Setup { grant: "{}".to_owned(), ..setup };
        let refused = Try::new(none, "write-read hello", "refused(E_GRANT)", "scratch: true");
        self.add(18, "uses a directory that it was not given", refused, twin);
    }

    /// What stays with the execution is bounded, and holds no secret.
    fn artifacts(&mut self) {
        let both = r#"{"files":[{"artifacts":true}],"reveal":[{"name":"token"}]}"#;
        let rule = r#"{"path":"keys/test/token","use":"reveal","components":["test/artifacts"]}"#;
        let limits = LimitsPart { artifacts: Some(Size::from_mib(1)), ..LimitsPart::default() };
        let setup = Setup {
            guest: "artifacts".to_owned(),
            requests: both.to_owned(),
            grant: both.to_owned(),
            ceiling: Ceiling {
                secrets: serde_json::from_str(rule).into_iter().collect(),
                ..Ceiling::default()
            },
            limits,
            ..Setup::default()
        };
        let twin = Try::new(setup.clone(), "keep a x", "succeeded", "");
        let binary = Try::new(setup.clone(), "secret-binary", "failed", "holds the value of a secret");
        self.add(18, "keeps a secret where nothing can be replaced", binary, twin.clone());
        let over = Try::new(setup.clone(), "fill 2", "over-limit(artifacts)", "");
        self.add(18, "keeps more than it may", over, twin.clone());
        let out = Try::new(setup.clone(), "keep ../a x", "failed", "is not a name of an artifact");
        self.add(18, "keeps something under a path", out, twin.clone());
        let none = Setup { grant: r#"{"reveal":[{"name":"token"}]}"#.to_owned(), ..setup };
        let refused = Try::new(none, "keep a x", "refused(E_GRANT)", "artifacts: true");
        self.add(18, "keeps something that it was not given", refused, twin);
    }

    /// What leaves is text.
    pub(super) fn words(&mut self) {
        let says = |act: &str, says: &str| Try::new(Setup::default(), act, "succeeded", says);
        let twin = says("say plain text", "plain text");
        self.add(
            25,
            "clears the screen and sets the clipboard",
            says("say ESC[2Jcleared ESC]52;c;eA==BELend", "cleared end"),
            twin.clone(),
        );
        let over = says("say failedRETsucceeded", "failed\nsucceeded");
        self.add(25, "writes over what it has written", over, twin.clone());
        let bytes = says("print-bytes", "no \u{fffd} text \u{fffd} at \u{fffd} all");
        self.add(25, "prints bytes that are no text", bytes, twin.clone());
        let failed = Try::new(Setup::default(), "fail ESC[31mred\u{202e}", "failed", "red");
        self.add(25, "turns its message around", failed, twin);
    }

    /// Programs as they were named, and no shell.
    pub(super) fn programs(&mut self) {
        let program = |name: &str, path: &str| ExecCeiling {
            program: name.to_owned(),
            path: path.into(),
            args: "{enum a b}".parse().into_iter().collect(),
            cwd: None,
            env: BTreeMap::new(),
            variables: vec![],
        };
        let setup = Setup {
            guest: "exec".to_owned(),
            requests: r#"{"exec":[{"program":"granted"}]}"#.to_owned(),
            grant: r#"{"exec":[{"program":"echo","args":["{enum a b}"]}]}"#.to_owned(),
            ceiling: Ceiling {
                exec: vec![program("echo", "/bin/echo"), program("cat", "/bin/cat")],
                ..Ceiling::default()
            },
            ..Setup::default()
        };
        let twin = Try::new(setup.clone(), "run echo a", "succeeded", "code 0");
        for (name, act) in [
            ("starts a program that the job did not give", "run cat a"),
            ("starts a program that nobody named", "run sh a"),
            ("starts a program by its path", "run /bin/echo a"),
            ("passes an argument that no pattern has", "run echo c"),
            ("passes an option", "run echo -n"),
            ("passes one argument more", "run echo a b"),
            ("passes a shell's words", "run echo a;id"),
        ] {
            self.add(31, name, Try::new(setup.clone(), act, "failed", "denied"), twin.clone());
        }
    }
}
