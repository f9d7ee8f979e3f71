#![doc = include_str!("../README.md")]

use remit_sdk::{Context, Fail, JsonSchema, Span, http, log, step};
use remit_sdk_kubernetes::{Cluster, Lines, Resource, find, send};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A job and the cluster that runs it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The API server's address.
    pub url: String,
    /// The namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The `spec` of a `Job` of batch/v1.
    pub spec: Map<String, Value>,
    /// Its name; left out: made of the run's idempotency key, so that a retry finds the job that it began.
    pub name: Option<String>,
    /// How often it is looked at.
    #[serde(default = "five_seconds")]
    pub every: Span,
    /// The longest wait.
    #[serde(default = "hour")]
    pub at_most: Span,
    /// Whether the job stays in the cluster when it has ended.
    #[serde(default)]
    pub keep: bool,
}

/// How it went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Pods that succeeded.
    pub succeeded: u64,
    /// Pods that failed and were tried again.
    pub failed: u64,
    /// The end of what its last pod wrote, 32 KiB.
    pub end: String,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    creation_timestamp: String,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: String,
}

const KEEP: usize = 32 << 10;
const TAIL: u32 = 10_000;

fn default_namespace() -> String {
    "default".to_owned()
}

fn five_seconds() -> Span {
    Span::seconds(5)
}

fn hour() -> Span {
    Span::seconds(3600)
}

/// A job that was begun.
struct Begun<'a> {
    cluster: &'a Cluster,
    jobs: Resource,
    namespace: &'a str,
    name: String,
}

/// How a job ended.
enum End {
    Complete,
    Failed(String),
}

/// Runs the job.
#[step]
pub fn kubernetes_job(input: Input, context: &Context) -> Result<Output, Fail> {
    let cluster = Cluster::new(&input.url)?;
    let name = input.name.clone().unwrap_or_else(|| own_name(context));
    let job = Begun {
        cluster: &cluster,
        jobs: Resource::known("batch/v1", "jobs", true),
        namespace: &input.namespace,
        name,
    };
    let ran = run(&job, &input, context).map_err(|fail| fail.while_doing(format_args!("job {}", job.name)));
    if !input.keep && !matches!(&ran, Err(fail) if fail.is_cancelled()) {
        job.remove();
    }
    ran
}

/// A name that is the same for each try: letters, digits and dashes, 63 at most.
fn own_name(context: &Context) -> String {
    let key = context.idempotency_key().to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = key.chars().map(plain).take(56).collect();
    format!("remit-{}", name.trim_matches('-'))
}

fn run(job: &Begun<'_>, input: &Input, context: &Context) -> Result<Output, Fail> {
    job.begin(input.spec.clone())?;
    let mut last = Value::Null;
    let end = context.poll(input.every, input.at_most, || {
        last = send(http::get(job.url()))?.json()?;
        Ok(ended(&last))
    })?;
    let text = job.logs();
    let count = |name: &str| last.pointer(&format!("/status/{name}")).and_then(Value::as_u64).unwrap_or(0);
    match end {
        Some(End::Complete) => Ok(Output {
            name: job.name.clone(),
            succeeded: count("succeeded"),
            failed: count("failed"),
            end: text,
        }),
        Some(End::Failed(why)) => {
            Err(Fail::new(format!("it failed: {why}")).with("failed_pods", count("failed")))
        }
        None => Err(Fail::new(format!("it has not ended within {}", input.at_most))
            .with("active_pods", count("active"))),
    }
}

fn ended(job: &Value) -> Option<End> {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array)?;
    let text = |condition: &Value, name: &str| {
        condition.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let holds = |condition: &&Value, kind: &str| {
        text(condition, "type") == kind && text(condition, "status") == "True"
    };
    if conditions.iter().any(|condition| holds(&condition, "Complete")) {
        return Some(End::Complete);
    }
    let failed = conditions.iter().find(|condition| holds(condition, "Failed"))?;
    Some(End::Failed(format!("{} ({})", text(failed, "message"), text(failed, "reason"))))
}

impl Begun<'_> {
    fn url(&self) -> http::Url {
        self.cluster.address(&self.jobs, Some(self.namespace), &[&self.name])
    }

    /// Makes the job, unless an earlier try of this run has made it.
    fn begin(&self, spec: Map<String, Value>) -> Result<(), Fail> {
        if find(http::get(self.url()))?.is_some() {
            log::info!("the job is there already; it is waited for", job = self.name);
            return Ok(());
        }
        let object = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": self.name, "labels": {"app.kubernetes.io/managed-by": "remit"}},
            "spec": spec,
        });
        let url = self.cluster.address(&self.jobs, Some(self.namespace), &[]);
        send(http::post(url.query("fieldValidation", "Strict")).json(&object))?;
        log::info!("the job was begun", job = self.name);
        Ok(())
    }

    /// Logs what its newest pod wrote; what cannot be read is no reason to fail.
    fn logs(&self) -> String {
        let pods = Resource::known("v1", "pods", true);
        let selector = format!("job-name={}", self.name);
        let mut newest: Option<Pod> = None;
        let listed = self.cluster.list(
            &pods,
            Some(self.namespace),
            &[("labelSelector", Some(&selector))],
            |pod: Pod| {
                let later = newest
                    .as_ref()
                    .is_none_or(|other| other.metadata.creation_timestamp <= pod.metadata.creation_timestamp);
                if later && pod.status.phase != "Pending" {
                    newest = Some(pod);
                }
                Ok(())
            },
        );
        let read = listed.and_then(|()| match &newest {
            Some(pod) => {
                let lines = Lines { tail: TAIL, ..Lines::default() };
                self.cluster.logs(self.namespace, &pod.metadata.name, &lines, KEEP)
            }
            None => Ok(String::new()),
        });
        read.unwrap_or_else(|fail| {
            log::warn!("what the job wrote cannot be read: {fail}");
            String::new()
        })
    }

    fn remove(&self) {
        let url = self.url().query("propagationPolicy", "Background");
        if let Err(fail) = find(http::delete(url)) {
            log::warn!("the job could not be removed: {fail}", job = self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use remit_sdk::fake::{Answer, Fake};

    use super::*;

    const JOBS: &str = "https://k8s.example/apis/batch/v1/namespaces/shop/jobs";
    const PODS: &str = "https://k8s.example/api/v1/namespaces/shop/pods";
    const NAME: &str = "remit-01jd0000000000000000000000-step";

    fn status(status: Value) -> Answer {
        Answer::json(&json!({"kind": "Job", "status": status}))
    }

    fn finished(fake: Fake) -> Fake {
        let pods = json!({"items": [
            {"metadata": {"name": "p-2", "creationTimestamp": "2026-11-21T08:00:02Z"}, "status": {"phase": "Succeeded"}},
            {"metadata": {"name": "p-1", "creationTimestamp": "2026-11-21T08:00:01Z"}, "status": {"phase": "Failed"}},
        ]});
        fake.http("GET", &format!("{PODS}?limit=250&labelSelector=job-name%3D{NAME}"), Answer::json(&pods))
            .http("GET", &format!("{PODS}/p-2/log?tailLines=10000"), Answer::status(200).body("migrated\n"))
    }

    fn input() -> Value {
        json!({"url": "https://k8s.example", "namespace": "shop", "spec": {"template": {"spec": {}}}, "at_most": "10s"})
    }

    #[test]
    fn a_job_is_begun_waited_for_and_taken_away() {
        let own = format!("{JOBS}/{NAME}");
        let fake = Fake::new()
            .http("GET", &own, Answer::status(404))
            .http("POST", &format!("{JOBS}?fieldValidation=Strict"), Answer::status(201).body("{}"))
            .http("GET", &own, status(json!({"active": 1})))
            .http("GET", &own, status(json!({"succeeded": 1, "failed": 1, "conditions": [{"type": "Complete", "status": "True"}]})))
            .http("DELETE", &format!("{own}?propagationPolicy=Background"), Answer::status(200).body("{}"));
        let run = finished(fake).call(kubernetes_job, &input());
        assert_eq!(run.messages(), ["the job was begun", "migrated"]);
        assert_eq!(
            run.result.unwrap(),
            json!({"name": NAME, "succeeded": 1, "failed": 1, "end": "migrated\n"})
        );
        assert_eq!(run.requests[1].json()["metadata"]["name"], NAME);
        assert_eq!(run.slept.as_secs(), 5);
    }

    #[test]
    fn a_retry_finds_the_job_and_a_failure_is_said() {
        let own = format!("{JOBS}/{NAME}");
        let failed = json!({"failed": 3, "conditions": [
            {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}]});
        let fake = Fake::new()
            .http("GET", &own, status(json!({"active": 1})))
            .http("GET", &own, status(failed))
            .http("DELETE", &format!("{own}?propagationPolicy=Background"), Answer::status(403).body("{}"));
        let run = finished(fake).call(kubernetes_job, &input());
        assert_eq!(run.messages()[0], "the job is there already; it is waited for");
        assert!(run.messages()[2].starts_with("the job could not be removed: the cluster refuses"));
        assert_eq!(
            run.result.unwrap_err().to_string(),
            format!(
                "job {NAME}: it failed: Job has reached the specified backoff limit (BackoffLimitExceeded) (failed_pods = 3)"
            )
        );
    }

    #[test]
    fn a_job_that_does_not_end_is_said() {
        let own = format!("{JOBS}/named");
        let fake = (0..4).fold(Fake::new(), |fake, _| fake.http("GET", &own, status(json!({"active": 1}))));
        let selector = format!("{PODS}?limit=250&labelSelector=job-name%3Dnamed");
        let fake = fake.http("GET", &selector, Answer::status(403).body("{}"));
        let mut input = input();
        input
            .as_object_mut()
            .unwrap()
            .extend(json!({"name": "named", "keep": true}).as_object().unwrap().clone());
        let run = fake.call(kubernetes_job, &input);
        assert_eq!(
            run.result.unwrap_err().to_string(),
            "job named: it has not ended within 10s (active_pods = 1)"
        );
    }
}
